"""What a run is told from outside while it trains: stop, pause, sample now, save now; and when a turn is over.

Thread-safe: a button, an HTTP request and Ctrl-C all end here. The loop looks once per step.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .interfaces import Host
from .run import Run

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Newest:
    """The adapter of a run in training, as it stands. Only for whoever keeps the run from taking a turn meanwhile."""

    step: Callable[[], int]
    write: Callable[[Path], Path]  # as a file for other programs
    attached: Callable[[], contextlib.AbstractContextManager[None]]  # in the model itself


class Control:
    """One run's wishes from outside, and its turns at the host's model."""

    def __init__(self, host: Host, run: Run, slice_seconds: float, is_there: Callable[[], bool] = lambda: True):
        self.host, self.run = host, run
        self._is_there = is_there  # the model; asked in a pause
        self._slice_seconds = slice_seconds
        self._turn_started = 0.0
        self._stop = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._sample, self._save = threading.Event(), threading.Event()
        self.newest: Newest | None = None  # while there is something to write

    def stop(self) -> None:
        """Save and end after the current step."""
        self._stop.set()
        self._running.set()

    def pause(self) -> None:
        """Save the state after the current step and leave the model alone until :meth:`go_on`."""
        self._running.clear()

    def go_on(self) -> None:
        """End a pause."""
        self._running.set()

    def sample_now(self) -> None:
        """Make samples after the current step."""
        self._sample.set()

    def save_now(self) -> None:
        """Save a usable adapter after the current step."""
        self._save.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def take_sample_wish(self) -> bool:
        """Whether samples were asked for since the last look."""
        return _take(self._sample)

    def take_save_wish(self) -> bool:
        """Whether saving was asked for since the last look."""
        return _take(self._save)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Exclusive use of the host's model, after any pause. Raises ModelAway, also in a pause, where the host does not have it any more:
        so that nobody keeps it."""
        while not self._running.wait(_LOOK_SECONDS):
            if not self._is_there():
                with self.host.turn():  # which says why
                    pass
        with self.host.turn():
            self._turn_started = time.monotonic()
            yield

    def turn_over(self) -> bool:
        """Whether to give the model back before the next step."""
        over = time.monotonic() - self._turn_started > self._slice_seconds
        return over or self.stopping or self.paused or self.host.wanted()


def _take(event: threading.Event) -> bool:
    was = event.is_set()
    event.clear()
    return was
