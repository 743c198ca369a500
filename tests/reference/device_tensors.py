"""Tensors of the simulated device: CPU tensors that say they are on it."""

from __future__ import annotations

from typing import Any

import torch

from tests.reference.device_operations import place
from tests.reference.device_streams import CUDA

active: list[Any] = []
"""The dispatch that is at work, see `device_dispatch.Dispatch`."""


class DeviceTensor(torch.Tensor):
    """A tensor that says it is on the device; `elem` has its values."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> DeviceTensor:
        """Wraps it."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=torch.device("cpu"),
        )
        made.elem = elem
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def get_device(self) -> int:
        """As of a real one."""
        return 0

    def is_pinned(self, *_: Any) -> bool:
        """Only host memory is."""
        return False

    def cpu(self, *_: Any, **__: Any) -> torch.Tensor:
        """Waits."""
        return self.to("cpu")

    def to(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        """The C++ side takes it for a CPU tensor: so what is asked for is worked out here."""
        device, dtype = keywords.pop("device", None), keywords.pop("dtype", None)
        blocking = not keywords.pop("non_blocking", False)
        for argument in arguments:
            if isinstance(argument, torch.dtype):
                dtype = argument
            elif isinstance(argument, torch.Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, (torch.device, str)):
                device = argument
        if device is not None and torch.device(device).type == "cpu":
            return active[-1].to_host(self.detach() if not self.requires_grad else self, dtype, blocking)
        memory_format, copies = keywords.pop("memory_format", None), keywords.pop("copy", False)
        if dtype in (None, self.dtype) and memory_format is None and not copies:
            return self
        more = {} if memory_format is None else {"memory_format": memory_format}
        return torch.Tensor.to(self, dtype or self.dtype, copy=copies, **more)

    def numpy(self, *_: Any, **__: Any) -> Any:
        """Refused, as of a real one."""
        raise TypeError("expected a tensor on the host, got one on cuda:0")

    def tolist(self) -> Any:
        """Waits."""
        active[-1].device.wait(place())
        return self.elem.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.elem!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copied = self.detach().clone()
        if getattr(self, "_is_param", False):
            copied._is_param = True
        memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return copied

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Only where the mode is off, as in the shape functions of torch."""
        return active[-1].run(func, args, kwargs or {})
