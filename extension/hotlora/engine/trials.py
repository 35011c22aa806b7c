"""One trial of a search: an ordinary run on a model that is borrowed once for all of them, and somebody who follows it."""

import contextlib
import gc
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import RunConfig
from .control import Control
from .errors import ModelAway
from .events import Event, Failed, Finished, Paused, Searching, Started, Validated
from .interfaces import Host, Renewing, Trainee
from .job import Job
from .run import Run

CUT_SHORT, TIME_OVER, INTERRUPTED, AWAY = "cut short", "time was over", "interrupted", "its model was away"
TRIED_AGAIN = (TIME_OVER, INTERRUPTED, AWAY)  # which says nothing about the settings


@dataclass
class Limits:
    """When a search ends. ``until``: by ``time.monotonic``; ``trials``: searched settings, those of earlier calls included."""

    until: float = math.inf
    trials: float = math.inf

    @property
    def seconds_left(self) -> float:
        return self.until - time.monotonic()


class ResidentHost:
    """A host whose model, once borrowed, serves run after run with the same prepared data. What they write is nobody's to use yet."""

    def __init__(self, host: Host, first: Renewing):
        self._first = first
        self.has_model, self.turn, self.wanted = host.has_model, host.turn, host.wanted

    def borrow(self, config: Any) -> Trainee:
        """In a turn: the model's layers are looked at, and whoever draws meanwhile may have put something of theirs into it."""
        with self.turn():
            return self._first.renew(config)

    def publish(self, path: Path) -> None:
        """Not among the adapters that people choose from."""


class Trial(Job):
    """A run that is a part of a search. It does not wait for a model that has gone away: that is the search's affair.

    Attributes:
        away: why it is, where it is.
    """

    def __init__(self, host: Host, config: RunConfig, run: Run, whole: Control | None):
        super().__init__(host, config, run)
        self.away: ModelAway | None = None
        if whole:
            self.control.join(whole)

    def _train_while_there(self) -> Finished | Failed | None:
        try:
            return self._train()
        except ModelAway as away:
            self.away = away
        gc.collect()
        gone = Finished(self._step, "stopped", {})
        self._take(gone)
        return gone


class Watch:
    """Follows a trial: tells Optuna its losses, and stops it where it is hopeless or time is over. A pause costs no time."""

    def __init__(self, trial: Any, job: Job, limits: Limits, tell: Callable[[Event], None]):
        self._trial, self._job, self._limits, self._tell = trial, job, limits, tell
        self._may_prune = trial.user_attrs["kind"] == "search"
        self._paused_at: float | None = None
        self.loss: float | None = None
        self.parameters = 0
        self.cut = ""  # why it was stopped

    def __call__(self, event: Event) -> None:
        if isinstance(event, Paused):
            self._paused_at = time.monotonic()
            self._tell(event)
            return
        if self._paused_at is not None:
            self._limits.until += time.monotonic() - self._paused_at
            self._paused_at = None
            self._tell(Searching(self._limits.seconds_left if math.isfinite(self._limits.until) else 0.0))
        if isinstance(event, Started):
            self.parameters = event.trainable_parameters
        if isinstance(event, Validated):
            self.loss = event.loss
            self._trial.report(event.loss, event.step)
            if self._may_prune and (not math.isfinite(event.loss) or self._trial.should_prune()):
                self._stop(CUT_SHORT)
        if self._limits.seconds_left < 0:
            self._stop(TIME_OVER)

    def _stop(self, why: str) -> None:
        self.cut = self.cut or why
        self._job.control.stop()

    def explain_end(self, job: "Trial", outcome: Event, *, is_stopped: bool) -> str:
        """Why there is no loss; empty where there is one. ``is_stopped``: the search is."""
        if job.away:
            return AWAY
        message = getattr(outcome, "message", "")
        if message or self.cut:
            return message or self.cut
        if is_stopped and getattr(outcome, "reason", "") == "stopped":
            return INTERRUPTED
        return "" if self.loss is not None and math.isfinite(self.loss) else "no loss"


@contextlib.contextmanager
def unchanged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Raises RuntimeError where their weights are not, bit for bit, afterwards what they were."""
    before = _fingerprint(modules)
    try:
        yield
    finally:
        if _fingerprint(modules) != before:
            raise RuntimeError("the model's weights are no longer what they were before the search")


def _fingerprint(modules: Sequence[nn.Module]) -> str:
    digest = hashlib.sha256()
    for module in modules:
        for tensor in module.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
