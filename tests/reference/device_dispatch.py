"""Operations on the simulated device: what each does besides its arithmetic.

It uses names of torch that are not public, so it belongs to the version under test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad
from torch.optim import optimizer
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

from tests.reference.device import Device, place
from tests.reference.device_operations import changed_arguments, is_composite, is_view, leaves, mapped
from tests.reference.device_tensors import DeviceTensor, active

_ASKED_OF_THE_DEVICE = {  # operations whose result the host needs at once
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "unique_dim",
    "repeat_interleave",
    "bincount",
}
_EMPTY = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"}
_COPIES = {"detach", "clone", "copy_", "_foreach_copy_"}
_INDEXING = {"index", "index_put_", "_index_put_impl_"}
_NUMPY = torch.Tensor.numpy


class Dispatch(TorchDispatchMode):
    """Sees every operation."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __enter__(self) -> Dispatch:
        active.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        active.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operation."""
        if is_composite(func):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        flat = list(leaves((*args, *kwargs.values())))
        ours = [x for x in flat if isinstance(x, DeviceTensor)]
        to_device = _is_device(kwargs.get("device"))
        if not ours and not to_device:
            return self._on_host(func, args, kwargs, flat)
        base = func.name().removeprefix("aten::").partition(".")[0]
        where = place()
        if base == "_to_copy":
            return self._copied(func, args, kwargs, where)
        if base == "copy_" and isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor):
            return self._copy_across(args[0], args[1], _argument(args, kwargs, 2, "non_blocking", False), where)
        self._check(base, args, flat, where)
        if base in _ASKED_OF_THE_DEVICE:
            return self._asked(func, base, args, kwargs, ours, where)
        return self._on_device(func, base, args, kwargs, ours, where)

    def to_host(self, tensor: torch.Tensor, dtype: torch.dtype | None, blocking: bool) -> torch.Tensor:
        """A copy on the host: into memory that is not pinned, so it waits whatever was asked."""
        assert isinstance(tensor, DeviceTensor)
        where, device = place(), self.device
        self._launch("to_host", where)
        device.touch(device.stream.actor, tensor.elem, write=False)
        device.wait(where)
        return tensor.elem.to(dtype or tensor.dtype, copy=True)

    def _check(self, base: str, args: tuple[Any, ...], flat: list[Any], where: str) -> None:
        """What a real device refuses, waits for, or is slow with."""
        for x in flat:
            if not isinstance(x, torch.Tensor):
                continue
            if not isinstance(x, DeviceTensor) and x.dim() > 0:
                if base not in _INDEXING:
                    self.device.faults[f"mixed devices in {base}", where] += 1
                    raise RuntimeError(f"expected all tensors on one device, got two in {base} at {where}")
                self.device.wait(where)
            if x.dtype == torch.float64 and isinstance(x, DeviceTensor) and base not in _COPIES:
                self.device.faults["float64", where] += 1
        if base in _INDEXING and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]):
            self.device.wait(where)  # it asks where the mask is true

    def _on_device(
        self, func: Any, base: str, args: Any, kwargs: dict[str, Any], ours: list[DeviceTensor], where: str
    ) -> Any:
        device = self.device
        plain = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        if "device" in kwargs:
            plain["device"] = torch.device("cpu")
        given, named = mapped(_elem, args), mapped(_elem, plain)
        out = func(*given, **named)
        if is_view(func):
            return mapped(lambda t: DeviceTensor(t) if isinstance(t, torch.Tensor) else t, out)
        if base in _EMPTY:
            device.clocks.follow(device.stream.actor, device.actor)
        else:
            self._launch(base, where)
        actor, written = device.stream.actor, _written(func, args, kwargs)
        reads, writes = _rows(base, args)
        changed = {id(tensor) for tensor in written}
        for tensor in ours:
            if id(tensor) not in changed:
                device.touch(actor, tensor.elem, write=False, rows=reads if tensor is args[0] else None)
        for tensor in written:
            device.touch(actor, tensor.elem, write=True, rows=writes if tensor is args[0] else None)
        if device.tape is not None and base not in _EMPTY:
            self._record(func, given, named, None if written else out, where)
        same = {id(tensor.elem): tensor for tensor in written}

        def wrapped(t: Any) -> Any:
            if not isinstance(t, torch.Tensor):
                return t
            return same[id(t)] if id(t) in same else self._new(t, where)

        return mapped(wrapped, out)

    def _record(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any, where: str) -> None:
        generator = kwargs.get("generator")
        if generator is not None and id(generator) not in self.device.generators:
            self.device.faults["a generator in a recording that does not know it", where] += 1
        assert self.device.tape is not None
        self.device.tape.append((func, args, kwargs, out))

    def _asked(
        self, func: Any, base: str, args: Any, kwargs: dict[str, Any], ours: list[DeviceTensor], where: str
    ) -> Any:
        self._launch(base, where)
        for tensor in ours:
            self.device.touch(self.device.stream.actor, tensor.elem, write=False)
        self.device.wait(where)
        plain = {key: value for key, value in kwargs.items() if key != "device"}
        out = func(*mapped(_elem, args), **mapped(_elem, plain))
        return mapped(lambda t: self._new(t, where) if isinstance(t, torch.Tensor) else t, out)

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any], where: str) -> Any:
        """Another dtype, another order in memory, or from the host to the device."""
        source, device = args[0], self.device
        plain = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory", "non_blocking")}
        out = func(_elem(source), **plain)
        if out.untyped_storage().data_ptr() == _elem(source).untyped_storage().data_ptr():
            out = out.clone()
        self._launch("_to_copy", where)
        if isinstance(source, DeviceTensor):
            device.touch(device.stream.actor, source.elem, write=False)
            if device.tape is not None:
                device.tape.append((func, (source.elem,), plain, out))
        else:
            self._upload(source, bool(kwargs.get("non_blocking")), where)
        return self._new(out, where)

    def _copy_across(self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool, where: str) -> torch.Tensor:
        """`copy_` between host and device."""
        device = self.device
        _elem(target).copy_(_elem(source))
        self._launch("copy_", where)
        actor = device.stream.actor
        if isinstance(target, DeviceTensor):
            self._upload(source, non_blocking, where)
            device.touch(actor, target.elem, write=True)
            return target
        device.touch(actor, _elem(source), write=False)
        if _is_pinned(device, target):
            device.touch(actor, target, write=True)
        if not (non_blocking and _is_pinned(device, target)):
            device.wait(where)
        return target

    def _upload(self, source: torch.Tensor, non_blocking: bool, where: str) -> None:
        """From pinned memory the device reads when it gets there; other memory is copied before the call returns."""
        if _is_pinned(self.device, source):
            self.device.touch(self.device.stream.actor, source, write=False)
        if not non_blocking:
            self.device.wait(where)

    def _on_host(self, func: Any, args: Any, kwargs: dict[str, Any], flat: list[Any]) -> Any:
        """An operation on host tensors: only pinned memory is watched."""
        device = self.device
        plain = {key: value for key, value in kwargs.items() if key != "pin_memory"}
        out = func(*args, **plain)
        if kwargs.get("pin_memory"):
            device.kept.append(out)
            device.allocate(out, place())
            device.pinned.add(out.untyped_storage().data_ptr())
            return out
        touched = [x for x in flat if isinstance(x, torch.Tensor) and _is_pinned(device, x)] if device.pinned else []
        if touched and not is_view(func):
            device.clocks.tick(device.actor, place())
            written = {id(tensor) for tensor in _written(func, args, kwargs, torch.Tensor)}
            for tensor in touched:
                device.touch(device.actor, tensor, write=id(tensor) in written)
        return out

    def _launch(self, base: str, where: str) -> None:
        """This host gives its stream something to do."""
        device = self.device
        device.clocks.follow(device.stream.actor, device.actor)
        device.clocks.tick(device.stream.actor, where)
        if device.tape is None:
            device.launches[device.phase] += 1
            device.operations[device.phase, base, where] += 1

    def _new(self, out: torch.Tensor, where: str) -> DeviceTensor:
        self.device.allocate(out, where)
        self.device.touch(self.device.stream.actor, out, write=True)
        return DeviceTensor(out)


def replace_torch(patch: pytest.MonkeyPatch, device: Device) -> None:
    """Replaces what of torch does not go through the dispatcher, or does not know wrapped tensors."""
    tensor, generator, wrapped = torch.tensor, torch.Generator, _foreach_utils._foreach_supported_types

    def made(data: Any, *, device: Any = None, **keywords: Any) -> torch.Tensor:
        on_host: torch.Tensor = tensor(data, **keywords)
        return on_host.to(device) if _is_device(device) else on_host

    def numpy(of: torch.Tensor, **keywords: Any) -> Any:
        if device.pinned and _is_pinned(device, of):
            device.clocks.tick(device.actor, place())
            device.touch(device.actor, of, write=False)
        return _NUMPY(of, **keywords)

    patch.setattr(torch, "tensor", made)
    patch.setattr(torch, "Generator", type("Generator", (generator,), {"__new__": lambda cls, *_: generator("cpu")}))
    patch.setattr(torch.Tensor, "numpy", numpy)
    patch.setattr(_foreach_utils, "_foreach_supported_types", [*wrapped, DeviceTensor])
    for module in (clip_grad, optimizer):  # by the device that the C++ side sees
        patch.setattr(module, "_group_tensors_by_device_and_dtype", _grouped(module._group_tensors_by_device_and_dtype))
    patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    assert torch.__future__.get_overwrite_module_params_on_conversion()


def _grouped(by_torch: Callable[..., Any]) -> Callable[..., Any]:
    def grouped(tensors: Any, *arguments: Any, **keywords: Any) -> dict[Any, Any]:
        groups = by_torch(tensors, *arguments, **keywords)
        return {(tensors[0][0].device, dtype): group for (_, dtype), group in groups.items()}

    return grouped


def _elem(x: Any) -> Any:
    return x.elem if isinstance(x, DeviceTensor) else x


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _is_pinned(device: Device, tensor: torch.Tensor) -> bool:
    return not isinstance(tensor, DeviceTensor) and tensor.untyped_storage().data_ptr() in device.pinned


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _written(func: Any, args: Any, kwargs: Mapping[str, Any], kind: type[torch.Tensor] = DeviceTensor) -> list[Any]:
    """The tensors that an operation changes in place."""
    given = changed_arguments(func, args, kwargs)
    return [x for x in leaves(given) if isinstance(x, kind)]


def _rows(base: str, args: Any) -> tuple[Any, Any]:
    """The rows of the first argument that are read, and those that are written, where not all are."""
    if base in ("index_select", "index_copy_") and args[1] == 0:
        rows = _elem(args[2]).reshape(-1).numpy()
        return (rows, None) if base == "index_select" else (None, rows)
    if base in _INDEXING and args[1][0] is not None and args[1][0].dtype == torch.int64:
        rows = _elem(args[1][0]).reshape(-1).numpy()
        return (rows, None) if base == "index" else (None, rows)
    return None, None
