"""Parameter server (Gorila, Nair et al. 2015, arXiv 1507.04296): gradients of many learners, applied as they come.

Parameters are split into as many shards as there are learners, and each learner keeps one (`Shard`). After each batch a
learner sends its gradient, with the least version of the parameters that it was computed from, and gets the newest
parameters back. The first shard decides whether a gradient is too old; a learner does not send one whose loss is far
above its usual losses, or that is not finite. So all shards apply the same gradients, each in its own order, and every
gradient is applied, too old, an outlier or lost.

An update is a gradient that the first shard has applied, of whichever learner: versions, target networks and
checkpoints count these.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.errors import PeerLostError
from seedbed.common.logs import name_thread
from seedbed.server.learning.exchange.link import Link, Mail
from seedbed.server.learning.exchange.loose import Loose
from seedbed.server.learning.exchange.shard import Answer, Kind, Losses, Shard, split

_ASK, _ANSWER = 2, 3
_HEAD = 4  # float32 numbers: a version of eight bytes, a kind or a verdict, a learning rate
_LEAVE_S = 60.0


@dataclass(slots=True)
class Sent:
    """What became of a learner's gradients, each in one of them."""

    applied: int = 0
    too_old: int = 0
    outliers: int = 0
    lost: int = 0

    @property
    def all(self) -> int:
        """Updates that this learner had a batch for."""
        return self.applied + self.too_old + self.outliers + self.lost


class ParameterServer(Loose):
    """Among `link.world` learners, each of which keeps a shard.

    Attributes:
        sent: the account of this learner's gradients.
    """

    serves = True

    def __init__(self, link: Link, *, max_age: int = 100, outliers: float | None = 4.0) -> None:
        """Begins; threads start with the first turn.

        Args:
            link: to the others.
            max_age: versions after which a gradient is too old.
            outliers: deviations above the mean loss beyond which a gradient is not sent; None: all are.
        """
        super().__init__(link)
        self.sent = Sent()
        self._max_age = max_age
        self._losses = Losses(outliers)
        self._parameters: list[nn.Parameter] = []
        self._version = self._least = 0
        self._squares: Tensor | None = None
        self._mail: Mail | None = None
        self._shard: Shard | None = None
        self._final: list[Answer] | None = None
        self._server = threading.Thread(target=self._serve, name="shard", daemon=True)

    def prepare(self, parameters: Sequence[nn.Parameter]) -> None:
        """Says what is served; on all learners alike, before the first turn."""
        self._parameters = list(parameters)
        self._mail = self._link.mail()

    def step(self, rate: float, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor] | None:
        """Sends the gradient that the parameters have, unless it is no use, and takes the newest parameters."""
        gradient = torch.cat([_gradient(x).reshape(-1) for x in self._parameters]).cpu()
        value = float(loss.detach())
        finite = bool(norm.isfinite()) and math.isfinite(value)
        outlier = finite and self._losses.add(value)
        kind = Kind.PUSH if finite and not outlier else Kind.PULL
        slices, age, applied = split(gradient, self.world), 0, False
        answers: list[Answer] = []
        for shard, part in enumerate(slices):
            answer = self._ask(shard, kind, part, rate)
            if shard == 0:
                applied = answer.applied
                age = answer.version - applied - self._least
                kind = Kind.PUSH if applied else Kind.PULL  # the first one decides for all
            answers.append(answer)
        self._take(answers)
        too_old = finite and not outlier and not applied
        self.sent.applied += applied
        self.sent.outliers += outlier
        self.sent.lost += not finite
        self.sent.too_old += too_old
        metrics = {
            "gradient_age": age,
            "gradient_age_max": age,
            "gradient_applied": applied,
            "gradient_too_old": too_old,
            "gradient_outlier": outlier,
        }
        return {name: torch.tensor(float(value)) for name, value in metrics.items()}

    def version_after(self, version: int) -> int:
        """Of the parameters that have just come."""
        return self._version

    def gather(self) -> int | None:
        """Brings the newest of all shards into the parameters, for a checkpoint; None: there is nothing newer."""
        if self._shard is None:
            return None
        answers = self._final
        if answers is None:
            try:
                answers = [self._ask(shard, Kind.GATHER) for shard in range(self.world)]
            except PeerLostError:
                return None  # what this learner had last is what is left
        self._take(answers)
        self._squares = torch.cat([answer.squares for answer in answers])[: self._numel]
        return self._version

    def get_state(self) -> dict[str, Any]:
        """Sums of squared gradients as of the last `gather`."""
        return {} if self._squares is None else {"squares": self._squares}

    def set_state(self, state: Mapping[str, Any], version: int) -> None:
        """The inverse, before the first turn."""
        self._squares = state.get("squares")
        self._version = self._least = version

    @property
    def _numel(self) -> int:
        return sum(parameter.numel() for parameter in self._parameters)

    def _begin(self) -> None:
        with torch.no_grad():
            flat = torch.cat([x.detach().reshape(-1) for x in self._parameters]).cpu()
        squares = torch.zeros_like(flat) if self._squares is None else self._squares.cpu()
        ours, sums = (split(whole, self.world)[self.rank] for whole in (flat, squares))
        self._shard = Shard(ours, sums, self._version, self._max_age if self.rank == 0 else None)
        if self.world > 1:
            self._server.start()

    def _leave(self) -> None:
        """Nobody sends a gradient any more; the first gathers all shards before they go."""
        self._link.wait_for_all()
        if self.rank == 0:
            self._final = [self._ask(shard, Kind.GATHER) for shard in range(self.world)]
        self._link.wait_for_all()
        for shard in range(self.world):
            if shard != self.rank:
                self._send(Kind.END, shard)
        if self.world > 1:
            self._server.join(_LEAVE_S)

    def _ask(self, shard: int, kind: Kind, body: Tensor | None = None, rate: float = 0.0) -> Answer:
        assert self._shard is not None
        if shard == self.rank:
            return _done(self._shard, kind, body, self._least, rate)
        self.check()
        self._send(kind, shard, body, rate)
        assert self._mail is not None
        size = self._size
        letter = torch.empty(_answer_size(kind, size))
        self._mail.receive(letter, shard, _ANSWER)
        version = int(letter[:2].view(torch.int64))
        return Answer(version, bool(letter[2]), letter[_HEAD : _HEAD + size], letter[_HEAD + size :])

    def _send(self, kind: Kind, shard: int, body: Tensor | None = None, rate: float = 0.0) -> None:
        assert self._mail is not None
        letter = torch.zeros(_HEAD + self._size)
        letter[:2].view(torch.int64).fill_(self._least)
        letter[2], letter[3] = float(kind), rate
        if body is not None:
            letter[_HEAD:] = body
        self._mail.send(letter, shard, _ASK)

    @property
    def _size(self) -> int:
        return -(-self._numel // self.world)

    @torch.no_grad()
    def _take(self, answers: Sequence[Answer]) -> None:
        """The newest parameters, and how old they are at least."""
        flat = torch.cat([answer.parameters for answer in answers])[: self._numel]
        parts = flat.split([parameter.numel() for parameter in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))
        self._version = answers[0].version
        self._least = min(answer.version for answer in answers)

    def _serve(self) -> None:
        """Answers the other learners until all of them have left."""
        name_thread("shard")
        assert self._mail is not None
        assert self._shard is not None
        here = self.world - 1
        try:
            while here:
                letter = torch.empty(_HEAD + self._size)
                sender = self._mail.receive_any(letter, _ASK)
                kind, least = Kind(int(letter[2])), int(letter[:2].view(torch.int64))
                if kind == Kind.END:
                    here -= 1
                    continue
                answer = _done(self._shard, kind, letter[_HEAD:], least, float(letter[3]))
                back = torch.zeros(_answer_size(kind, self._size))
                back[:2].view(torch.int64).fill_(answer.version)
                back[2] = float(answer.applied)
                back[_HEAD:] = torch.cat((answer.parameters, answer.squares))[: len(back) - _HEAD]
                self._mail.send(back, sender, _ANSWER)
        except PeerLostError as error:
            self._fail(error)


def _answer_size(kind: Kind, size: int) -> int:
    """Parameters, and for a checkpoint what AdaGrad has summed up."""
    return _HEAD + (2 * size if kind == Kind.GATHER else size)


def _done(shard: Shard, kind: Kind, body: Tensor | None, least: int, rate: float) -> Answer:
    if kind == Kind.PUSH:
        assert body is not None
        return shard.push(body, least, rate)
    return shard.pull()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
