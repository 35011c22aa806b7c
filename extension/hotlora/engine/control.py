"""What a run is told from outside while it trains: stop, pause, sample now, save now, draw a grid; and when a turn is over.

Thread-safe: a button, an HTTP request and Ctrl-C all end here. The loop looks once per step.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import HandedBack
from .grid import GridPlan
from .interfaces import Host
from .run import Run

_LOOK_SECONDS = 1.0
_SHARE_SECONDS, _MOST_TURNS = 60.0, 1000


@dataclass(frozen=True)
class Newest:
    """The adapter of a run in training, as it stands. Only for whoever keeps the run from taking a turn meanwhile."""

    step: Callable[[], int]
    write: Callable[[Path], Path]  # as a file for other programs
    attached: Callable[[], contextlib.AbstractContextManager[None]]  # in the model itself


class Control:
    """One run's wishes from outside, and its turns at the host's model."""

    def __init__(
        self, host: Host, run: Run, slice_seconds: float, training_share: float = 0.0, is_there: Callable[[], bool] = lambda: True
    ):
        self.host, self.run = host, run
        self._is_there = is_there  # the model; asked in a pause
        self._slice_seconds, self._training_share = slice_seconds, training_share
        self._turn_started = 0.0
        self._owed_seconds = 0.0  # of this turn, whoever waits: training's share of the time that others have just had
        self._turns: deque[tuple[float, float]] = deque(maxlen=_MOST_TURNS)  # begin and end of those in the last minute
        self._stop = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._freeing = threading.Event()  # only in a pause
        self._sample, self._save = threading.Event(), threading.Event()
        self._grid: GridPlan | None = None
        self.newest: Newest | None = None  # while there is something to write
        self._whole: Control | None = None

    def join(self, whole: "Control") -> None:
        """Be a part of a longer work: stop and pause with it from now on, and count turns as its own."""
        self._whole, self._running, self._freeing, self._turns = whole, whole._running, whole._freeing, whole._turns

    def stop(self) -> None:
        """Save and end after the current step."""
        self._stop.set()
        if self._whole is None:
            self.go_on()

    def pause(self, *, free: bool = False) -> None:
        """Save the state after the current step and leave the model alone until :meth:`go_on`; also in a pause.

        Args:
            free: keep nothing of the run in the device's memory, and have the host unload the model until then.
        """
        if free:
            self._freeing.set()
        self._running.clear()

    def go_on(self) -> None:
        """End a pause."""
        self._freeing.clear()
        self._running.set()

    def wait_for_end_of_pause(self) -> None:
        """Return when there is none, or the run is told to stop."""
        while not (self.stopping or self._running.wait(_LOOK_SECONDS)):
            pass

    def sample_now(self) -> None:
        """Make samples after the current step."""
        self._sample.set()

    def save_now(self) -> None:
        """Save a usable adapter after the current step."""
        self._save.set()

    def draw(self, plan: GridPlan) -> None:
        """Draw a grid after the current step."""
        self._grid = plan

    @property
    def stopping(self) -> bool:
        return self._stop.is_set() or (self._whole is not None and self._whole.stopping)

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    @property
    def freeing(self) -> bool:
        """Whether the pause is one without the model."""
        return self.paused and self._freeing.is_set()

    def take_sample_wish(self) -> bool:
        """Whether samples were asked for since the last look."""
        return _take(self._sample)

    def take_save_wish(self) -> bool:
        """Whether saving was asked for since the last look."""
        return _take(self._save)

    def take_grid_wish(self) -> GridPlan | None:
        """The grid that was asked for since the last look."""
        plan, self._grid = self._grid, None
        return plan

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Exclusive use of the host's model, after any pause. Raises ModelAway, also in a pause, where the host does not have it any more,
        or is to unload it: so that nobody keeps it."""
        while not self._running.wait(0 if self.freeing else _LOOK_SECONDS):
            if self.freeing:
                raise HandedBack("The model was unloaded to free its memory. Press Go on: it is loaded again, and the run goes on.")
            if not self._is_there():
                with self.host.turn():  # which says why
                    pass
        asked = time.monotonic()
        with self.host.turn():
            self._turn_started = time.monotonic()
            waited = self._turn_started - asked
            owed = waited * self._training_share / (1 - self._training_share)
            self._owed_seconds = min(owed, self._slice_seconds)  # also after somebody had it for an hour
            try:
                yield
            finally:
                self._turns.append((self._turn_started, time.monotonic()))

    def turn_over(self) -> bool:
        """Whether to give the model back before the next step."""
        if self.stopping or self.paused:
            return True
        had = time.monotonic() - self._turn_started
        return had >= (self._owed_seconds if self.host.wanted() else self._slice_seconds)

    def share_of_time(self) -> float | None:
        """How much of the last minute the run had the model, 0 to 1, up to the end of its last turn; None before that."""
        turns = list(self._turns)
        if not turns:
            return None
        last = turns[-1][1]
        first = max(turns[0][0], last - _SHARE_SECONDS)
        return sum(max(0.0, end - max(begin, first)) for begin, end in turns) / max(last - first, 1e-9)


def _take(event: threading.Event) -> bool:
    was = event.is_set()
    event.clear()
    return was
