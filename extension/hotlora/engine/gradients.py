"""The gradients of one optimizer step, over as many batches as memory asks for.

Owns how a step is divided among processes, accumulation, clipping, and what happens when memory runs out. Updates nothing.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .config import RunConfig
from .errors import UserError
from .interfaces import Batch, Draws, Trainee
from .memory import is_out_of_memory, release_cached_memory
from .processes import ALONE, Processes

Piece = tuple[Batch, int]  # and the place of its first example in the step


class Gradients:
    """Computes them into the optimizer's parameters.

    Args:
        warnings: where to say that batches were cut.
        processes: that each step is divided among.

    Attributes:
        lacked_memory: whether a batch did not fit.
        largest_batch: examples that are computed at once at most; None for no limit.
    """

    def __init__(
        self,
        trainee: Trainee,
        config: RunConfig,
        optimizer: torch.optim.Optimizer,
        scaler: Any,
        warnings: list[str],
        processes: Processes = ALONE,
    ):
        self._trainee, self._config, self._optimizer, self._scaler, self._warnings = trainee, config, optimizer, scaler, warnings
        self._processes = processes
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.largest_batch = trainee.largest_batch  # lowered by running out of memory
        self.lacked_memory = False

    def of_step(self, group: Sequence[Batch], step: int) -> tuple[float, float, float]:
        """Gradients of the group's mean loss; (that loss, the gradient's norm before clipping, the norm of the weights themselves).

        Out of memory, in whichever process: nothing was updated yet, so the same step is computed again in halves. Because random
        numbers go by the example's place in the step, that changes nothing but the speed.
        """
        while True:
            shares = self._share_out(group)
            total, lacks_memory = torch.zeros((), device=self._trainee.device), False
            try:
                weights_norm = norm_of(self._parameters)
                self._backward(shares[self._processes.place], step, sum(batch.count for batch in group), total)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                lacks_memory = True
            if not self._processes.any_lacks_memory(lacks_memory):
                total = self._processes.add_up(self._parameters, total)
                return self._clip(total, sum(batch.count for batch in group), weights_norm)
            largest = max(len(batch) for share in shares for batch, _ in share)
            self.lacked_memory = True
            self._optimizer.zero_grad(set_to_none=True)
            release_cached_memory(self._trainee.device)
            if largest == 1:
                raise UserError(
                    "cannot train: the device's memory does not hold one example. Switch gradient_checkpointing on, use fp16 or bf16, "
                    "or lower the resolution or the rank."
                )
            self.largest_batch = largest // 2
            self._warnings.append(
                f"Out of memory: batches are cut to {self.largest_batch} from now on; each step still learns from as many examples."
            )

    def drop(self) -> None:
        """Forget the gradients of a step that is not taken: everything is as before it."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._scaler.is_enabled():  # it takes each step's gradients once, until it is updated
            state = self._scaler.state_dict()
            self._scaler.update()
            self._scaler.load_state_dict(state)

    def _backward(self, share: Sequence[Piece], step: int, count: float, total: torch.Tensor) -> None:
        """This process's part; ``total`` grows by the sum of its losses."""
        for batch, draws in self._arguments(share, step):
            with self._dropout_seeded(step, draws.first):
                loss = self._trainee.loss(batch, draws)
                self._scaler.scale(loss.total / count).backward()
            total += loss.total.detach()

    def _clip(self, total: torch.Tensor, count: float, weights_norm: torch.Tensor) -> tuple[float, float, float]:
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm or math.inf)
        loss, gradient_norm, weights_length = torch.stack([total.float(), norm.float(), weights_norm]).tolist()  # one wait for the device
        return loss / count, gradient_norm, weights_length

    def arguments(self, group: Sequence[Batch], step: int) -> list[tuple[Batch, Draws]]:
        """What this process's trainee will be asked the loss of in that step, as far as is known before."""
        return self._arguments(self._share_out(group)[self._processes.place], step)

    def _arguments(self, share: Sequence[Piece], step: int) -> list[tuple[Batch, Draws]]:
        return [(batch, Draws(self._config.seed, step, first)) for batch, first in share]

    def _share_out(self, group: Sequence[Batch]) -> list[list[Piece]]:
        """Each process's part of the step, in batches of which none is too large."""
        return [_cut(share, self.largest_batch) for share in share_out(group, self._processes.count)]

    @contextlib.contextmanager
    def _dropout_seeded(self, step: int, first: int) -> Iterator[None]:
        """Dropout, the adapter's and any of the model's own, draws from the global generators: give it its own numbers, and the
        host its own back."""
        device = self._trainee.device
        cuda = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(((self._config.seed * 1_000_003 + step) * 4_099 + first) % 2**63)
            yield


@torch.no_grad()
def norm_of(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The length of all of them as one vector; [] fp32 on their device. No finite number where one of theirs is none."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm([tensor.detach() for tensor in tensors])).float())


def share_out(group: Sequence[Batch], count: int) -> list[list[Piece]]:
    """A step's batches among so many processes, as evenly as examples can be; one is halved only where that needs it."""
    firsts = itertools.accumulate((len(batch) for batch in group), initial=0)
    pieces: list[Piece] = list(zip(group, firsts, strict=False))
    least = sum(len(batch) for batch in group) // count
    while True:
        shares: list[list[Piece]] = [[] for _ in range(count)]
        examples = [0] * count
        for piece in sorted(pieces, key=lambda piece: -len(piece[0])):
            place = examples.index(min(examples))
            shares[place].append(piece)
            examples[place] += len(piece[0])
        if least <= min(examples) and max(examples) <= least + 1:
            return [sorted(share, key=lambda piece: piece[1]) for share in shares]
        place = max(range(len(pieces)), key=lambda place: len(pieces[place][0]))
        pieces[place : place + 1] = _halve(pieces[place])


def _halve(piece: Piece) -> list[Piece]:
    batch, first = piece
    one, other = batch.halves()
    return [(one, first), (other, first + len(one))]


def _cut(share: Sequence[Piece], largest: int | None) -> list[Piece]:
    """The share's batches, halved until none has more than ``largest`` examples."""
    out: list[Piece] = []
    for piece in share:
        if largest is None or len(piece[0]) <= largest:
            out.append(piece)
        else:
            out += _cut(_halve(piece), largest)
    return out
