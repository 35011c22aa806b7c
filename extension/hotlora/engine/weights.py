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
        self._average: Any = None
        self._has_average, self._showing_best = False, False
        if config.ema_decay:
            from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

            averaging = get_ema_multi_avg_fn(config.ema_decay)
            self._average = AveragedModel(torch.nn.ParameterList(self._parameters), multi_avg_fn=averaging)
        self._set_optimizer_mode("train")

    def _set_optimizer_mode(self, mode: str) -> None:
        """Schedule-free optimizers keep other weights to train with than to use."""
        if self._averages_itself:
            getattr(self._optimizer, mode)()

    def update_average(self) -> None:
        """Take note of a step."""
        if self._average is not None:
            self._average.update_parameters(torch.nn.ParameterList(self._parameters))
            self._has_average = True

    def are_finite(self) -> bool:
        """Whether the adapters as they stand, and the average that is kept of them, hold numbers one can go on with."""
        kept = list(self._average.module) if self._average is not None else []
        return math.isfinite(norm_of([*self._parameters, *kept]).item())

    @contextlib.contextmanager
    def usable(self, weight: float = 1.0) -> Iterator[None]:
        """The adapters as they are saved, judged and previewed: averaged, without dropout; afterwards bit for bit back."""
        with self.lock:
            kept = [p.detach().clone() for p in self._parameters]
            self._set_optimizer_mode("eval")
            try:
                if self._showing_best:
                    self._overwrite(kept)
                elif self._has_average:
                    self._overwrite([p.detach() for p in self._average.module])
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
        """Of the average; None where none is kept."""
        return self._average.state_dict() if self._average is not None else None

    def load_state(self, state: dict[str, Any] | None, *, step: int) -> None:
        """Go on from there."""
        if self._average is not None and state is not None:
            self._average.load_state_dict(state)
            self._has_average = step > 0
