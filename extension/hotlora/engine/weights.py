"""The trained tensors of a run in each of their forms: as they are trained, as they are used, as they were at their best."""

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from .adapters import AdapterSet
from .config import RunConfig
from .gradients import norm_of


class Weights:
    """Owns the average that is kept of the adapters, and shows one form or another in their place.

    Attributes:
        lock: to be held by whoever changes or reads the tensors; an adapter in training is also written from outside (see
            Control.newest).
    """

    def __init__(self, adapters: AdapterSet, optimizer: torch.optim.Optimizer, config: RunConfig):
        self.lock = threading.RLock()
        self._adapters, self._optimizer, self._parameters = adapters, optimizer, adapters.parameters()
        self._averages_itself = config.optimizer == "AdamWScheduleFree"
        self._decay, self._averaged_steps, self._showing_best = config.ema_decay, 0, False
        self._average = [p.detach().clone() for p in self._parameters] if config.ema_decay else []
        self._set_optimizer_mode("train")

    def _set_optimizer_mode(self, mode: str) -> None:
        """Schedule-free optimizers keep other weights to train with than to use."""
        if self._averages_itself:
            getattr(self._optimizer, mode)()

    def update_average(self) -> None:
        """Take note of a step. The first ones count for more, or the average of a short run would be of its start."""
        if self._average:
            steps = self._averaged_steps
            decay = min(self._decay, (1 + steps) / (10 + steps)) if steps else 0.0
            torch._foreach_lerp_(self._average, [p.detach() for p in self._parameters], 1 - decay)
            self._averaged_steps += 1

    def are_finite(self) -> bool:
        """Whether the adapters as they stand, and the average that is kept of them, hold numbers one can go on with."""
        return math.isfinite(norm_of([*self._parameters, *self._average]).item())

    @contextlib.contextmanager
    def usable(self, weight: float = 1.0) -> Iterator[None]:
        """The adapters as they are saved, judged and previewed: averaged, without dropout; afterwards bit for bit back."""
        with self.lock:
            kept = [p.detach().clone() for p in self._parameters]
            self._set_optimizer_mode("eval")
            try:
                if self._showing_best:
                    self._overwrite(kept)
                elif self._averaged_steps:
                    self._overwrite(self._average)
                with self._adapters.at_weight(weight):
                    yield
            finally:
                self._set_optimizer_mode("train")
                self._overwrite(kept)

    @contextlib.contextmanager
    def at_best(self, tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> Iterator[None]:
        """The adapters as they were at the best validation; averaged already, so :meth:`usable` leaves them.
        ``tensors``: as :meth:`AdapterSet.tensors` gave them then."""
        kept = self._adapters.tensors()
        self._adapters.load(tensors)
        self._showing_best = True
        try:
            yield
        finally:
            self._showing_best = False
            self._adapters.load(kept)

    @torch.no_grad()
    def _overwrite(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)

    def state(self) -> dict[str, Any] | None:
        """Of the average, named as torch's AveragedModel does; None where none is kept."""
        if not self._average:
            return None
        return {"n_averaged": torch.tensor(self._averaged_steps), **{f"module.{i}": tensor for i, tensor in enumerate(self._average)}}

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Go on from there. Raises KeyError or RuntimeError where it is another run's."""
        if self._average and state is not None:
            values = [state[f"module.{i}"] for i in range(len(self._average))]
            if [value.shape for value in values] != [own.shape for own in self._average]:
                raise RuntimeError("its average has other shapes")
            for own, value in zip(self._average, values, strict=True):
                own.copy_(value)
            self._averaged_steps = int(state["n_averaged"])
