"""The gradients of one optimizer step, over as many batches as memory asks for.

Owns accumulation, clipping, and what happens when memory runs out. Updates nothing.
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


class Gradients:
    """Computes them into the optimizer's parameters.

    Args:
        warnings: where to say that batches were cut.
    """

    def __init__(self, trainee: Trainee, config: RunConfig, optimizer: torch.optim.Optimizer, scaler: Any, warnings: list[str]):
        self._trainee, self._config, self._optimizer, self._scaler, self._warnings = trainee, config, optimizer, scaler, warnings
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._largest_batch = trainee.largest_batch  # lowered by running out of memory

    def of_step(self, group: Sequence[Batch], step: int) -> tuple[float, float, float]:
        """Gradients of the group's mean loss; (that loss, the gradient's norm before clipping, the norm of the weights themselves).

        Out of memory: nothing was updated yet, so the same step is computed again in halves. Because random numbers go
        by the example's place in the step, that changes nothing but the speed.
        """
        while True:
            try:
                return self._backward(_cut(group, self._largest_batch), step)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(len(batch) for batch in _cut(group, self._largest_batch))
            self._optimizer.zero_grad(set_to_none=True)
            release_cached_memory(self._trainee.device)
            if largest == 1:
                raise UserError(
                    "cannot train: the device's memory does not hold one example. Switch gradient_checkpointing on, use fp16 or bf16, "
                    "or lower the resolution or the rank."
                )
            self._largest_batch = largest // 2
            self._warnings.append(
                f"Out of memory: batches are cut to {self._largest_batch} from now on; each step still learns from as many examples."
            )

    def drop(self) -> None:
        """Forget the gradients of a step that is not taken: everything is as before it."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._scaler.is_enabled():  # it takes each step's gradients once, until it is updated
            state = self._scaler.state_dict()
            self._scaler.update()
            self._scaler.load_state_dict(state)

    def _backward(self, batches: Sequence[Batch], step: int) -> tuple[float, float, float]:
        count = sum(batch.count for batch in batches)
        total = torch.zeros((), device=self._trainee.device)
        weights_norm = norm_of(self._parameters)
        for batch, draws in self._arguments(batches, step):
            with self._dropout_seeded(step, draws.first):
                loss = self._trainee.loss(batch, draws)
                self._scaler.scale(loss.total / count).backward()
            total += loss.total.detach()
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm or math.inf)
        loss, gradient_norm, weights_norm = torch.stack([total.float(), norm.float(), weights_norm]).tolist()  # one wait for the device
        return loss / count, gradient_norm, weights_norm

    def arguments(self, group: Sequence[Batch], step: int) -> list[tuple[Batch, Draws]]:
        """What the trainee will be asked the loss of in that step, as far as is known before."""
        return self._arguments(_cut(group, self._largest_batch), step)

    def _arguments(self, batches: Sequence[Batch], step: int) -> list[tuple[Batch, Draws]]:
        firsts = itertools.accumulate((len(batch) for batch in batches), initial=0)
        return [(batch, Draws(self._config.seed, step, first)) for batch, first in zip(batches, firsts, strict=False)]

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


def _cut(group: Sequence[Batch], largest: int | None) -> list[Batch]:
    """The group's batches, halved until none has more than ``largest`` examples."""
    out: list[Batch] = []
    for batch in group:
        if largest is None or len(batch) <= largest:
            out.append(batch)
        else:
            out += _cut(list(batch.halves()), largest)
    return out
