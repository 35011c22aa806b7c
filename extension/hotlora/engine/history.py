"""What a run's events say, put together for people who look: curves, samples, files, how far it is, how it ended."""

import contextlib
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from .errors import UserError
from .events import (
    Concluded,
    Drawn,
    Event,
    Failed,
    Finished,
    Graded,
    Paused,
    Preparing,
    Previewed,
    Saved,
    Searching,
    Started,
    Step,
    Tried,
    Validated,
    Warned,
    parse_event,
)
from .plurals import counted
from .search_report import Row, tell_row

_RECENT_STEPS = 30
_LONGEST_GAP = 600.0  # seconds between a step and what begins anew; more, and the program had ended meanwhile
_STEP_LINE = re.compile(rb'\{"type": "Step", "time": [^,]+, "step": (\d+), ')  # as EventLog writes it
_LEAVES_STEPS_ALONE = re.compile(rb'\{"type": "(Validated|Previewed|Drawn|Saved|Warned)"')


class History:
    """Folds events, in order. Where a resume or a rewind went back, the curves are as if it had never gone ahead.

    Args:
        is_outline: keep the last few steps only. For lists of many runs: a tenth of the time to read, and little memory.
        follow: makes an event name its files where they lie now.

    Attributes:
        count: events read so far, which is the index of the next one.
        latest: the last event that says what the run is doing; None before the first.
        search, trials, conclusion: of a search for better settings: how long it goes on, its trials by number, and what it has found.
        sample_seconds: how long the newest sample took, as far as its events tell; None before.
        worked_seconds: from its first event to its last, without what lay between an end or a pause and going on.
    """

    def __init__(self, events: Iterable[Event] = (), *, is_outline: bool = False, follow: Callable[[Event], Event] = lambda event: event):
        self._is_outline, self._follow = is_outline, follow
        self.worked_seconds, self._heard_at = 0.0, 0.0
        self.count, self._offset = 0, 0
        self._seen = (0, 0)  # size and time of the file that was read last
        self.started: Started | None = None
        self.latest: Event | None = None
        self.search: Searching | None = None
        self.trials: dict[int, Row] = {}
        self.conclusion: Concluded | None = None
        self.steps: list[Step] = []
        self.validations: list[Validated] = []
        self.grades: list[Graded] = []
        self.samples: list[Previewed] = []
        self.sample_seconds: float | None = None
        self.files: list[Saved] = []  # each path once, as it was written last; so with samples
        self.log: list[tuple[float, str]] = []  # time in seconds since 1970, what a person should know
        self._going_since = 0.0  # the time of the last start or pause
        for event in events:
            self.add(event)

    @property
    def moment(self) -> tuple[int, float]:
        """No two states of a run have the same."""
        return self.count, self.latest.time if self.latest else 0.0

    def read_on(self, path: Path) -> "History":
        """Take in what has been written to an event file since the last look; the file is opened only if it has changed. A damaged line
        costs only itself.

        Raises:
            UserError: where the file cannot be opened.
        """
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return self
        state = (found.st_size, found.st_mtime_ns)
        if state != self._seen:
            if found.st_size < self._offset:  # a start that had failed was made anew
                vars(self).update(vars(History(is_outline=self._is_outline, follow=self._follow)))
            try:
                with open(path, "rb") as file:
                    file.seek(self._offset)
                    (self._read_outline if self._is_outline else self._read_all)(file)
            except OSError as error:
                raise UserError(f"cannot read '{path}': {error.strerror or error}. Remove it, or delete the run.") from error
            self._seen = state
        return self

    def _read_all(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if line.endswith(b"\n"):  # else it is being written
                self._offset += len(line)
                self.add(parse_event(line))

    def _read_outline(self, lines: Iterable[bytes]) -> None:
        """Of steps that follow each other, parse the first, which may go back, and the last few."""
        held: deque[bytes] = deque(maxlen=_RECENT_STEPS)  # steps, in order, that nothing has gone back behind
        last = math.inf
        for count, line in enumerate(lines, self.count + 1):
            if not line.endswith(b"\n"):
                break
            match = _STEP_LINE.match(line)
            step = int(match[1]) if match else math.inf
            if last < step < math.inf:
                held.append(line)
                last = step
            elif _LEAVES_STEPS_ALONE.match(line):
                self.add(parse_event(line))
            else:
                self._take_steps(held)
                self.add(parse_event(line))
                last = step
            self.count, self._offset = count, self._offset + len(line)
        self._take_steps(held)

    def _take_steps(self, held: deque[bytes]) -> None:
        whole = [event for event in map(parse_event, held) if isinstance(event, Step)]  # the others are damaged
        if whole:
            self.steps = [*self.steps, *whole][-_RECENT_STEPS:]
            self._count_time(whole[-1])
            self.latest = whole[-1]
        held.clear()

    def _count_time(self, event: Event) -> None:
        gap = event.time - self._heard_at if self._heard_at else 0.0
        begins = isinstance(event, (Preparing, Started))
        rested = isinstance(self.latest, (Finished, Failed, Paused)) and isinstance(event, (Preparing, Started, Step, Searching))
        if gap > 0 and not rested and not (begins and isinstance(self.latest, Step) and gap > _LONGEST_GAP):
            self.worked_seconds += gap
        self._heard_at = event.time

    def add(self, event: Event) -> None:
        """Take in one event."""
        self.count += 1
        event = self._follow(event)
        self._count_time(event)
        if isinstance(event, Started):
            self.started = event
            self._go_back_to(event.step)
        elif isinstance(event, Step):
            self._go_back_to(event.step - 1)
            self.steps.append(event)
            if self._is_outline:
                del self.steps[:-_RECENT_STEPS]
        elif isinstance(event, Validated):
            self.validations.append(event)
        elif isinstance(event, Graded):
            self._go_back_to(event.step)
            self.grades = [test for test in self.grades if test.step < event.step] + [event]
        elif isinstance(event, Drawn):
            self.sample_seconds = event.seconds
        elif isinstance(event, Previewed):
            last = self.samples[-1] if self.samples else None
            if last and last.step == event.step and event.time > last.time:  # made one after the other
                self.sample_seconds = event.time - last.time
            self.samples = [sample for sample in self.samples if sample.path != event.path] + [event]
        elif isinstance(event, Saved):
            self.files = [file for file in self.files if file.path != event.path] + [event]
        else:
            self._add_of_search(event)
        if isinstance(event, (Started, Paused)):
            self._going_since = event.time
        message = _describe(event)
        if message:
            self.log.append((event.time, message))
        if isinstance(event, (Preparing, Started, Step, Searching, Tried, Paused, Finished, Failed)):
            self.latest = event

    def _add_of_search(self, event: Event) -> None:
        if isinstance(event, Searching):
            self.search = event
        elif isinstance(event, Tried):
            with contextlib.suppress(TypeError):  # of another version's
                row = Row(**event.trial)
                self.trials[row.number] = row
        elif isinstance(event, Concluded):
            self.conclusion = event

    def _go_back_to(self, step: int) -> None:
        for curve in (self.steps, self.validations, self.grades):
            while curve and curve[-1].step > step:
                curve.pop()

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.steps[-1].step if self.steps else self.started.step if self.started else 0

    @property
    def outcome(self) -> Finished | Failed | None:
        """How the run ended; None where it has not."""
        return self.latest if isinstance(self.latest, (Finished, Failed)) else None

    @property
    def seconds_per_step(self) -> float | None:
        """By the steps' own time, without what the host did in between."""
        recent = self.steps[-_RECENT_STEPS:]
        return sum(step.seconds for step in recent) / len(recent) if recent else None

    @property
    def seconds_left(self) -> float | None:
        """By the clock, so with samples and the host's own pictures; None before the second step since a start or pause. Of a search: to
        the end of its time; None while it rests."""
        if self.search:
            rests = isinstance(self.latest, (Preparing, Paused, Finished, Failed))
            return None if rests else max(self.search.time + self.search.seconds - time.time(), 0.0)
        recent = [step for step in self.steps[-_RECENT_STEPS:] if step.time >= self._going_since]
        if len(recent) < 2 or self.started is None:
            return None
        each = (recent[-1].time - recent[0].time) / (len(recent) - 1)
        return each * (self.started.total_steps - self.step)


def show_scores(test: Graded) -> str:
    """``exact match 90 %, valid JSON 100 %``."""
    return ", ".join(f"{name} {score:.0%}" for name, score in test.scores.items())


def clock(seconds_since_1970: float) -> str:
    """A time of the log, as on a wall clock."""
    return time.strftime("%H:%M:%S", time.localtime(seconds_since_1970))


def _tell_trial(event: Tried) -> str | None:
    try:
        return f"{tell_row(event.trial)[0].upper()}{tell_row(event.trial)[1:]}."
    except (KeyError, TypeError, ValueError):  # of another version's
        return None


def _describe(event: Event) -> str | None:
    """The event's line in the log; None for those that come by the hundred."""
    if isinstance(event, Started):
        return f"Going on at step {event.step} of {event.total_steps}." if event.step else f"Training {counted(event.total_steps, 'step')}."
    if isinstance(event, Saved):
        return f"Saved {Path(event.path).name} ({event.kind}, step {event.step})."
    if isinstance(event, Validated):
        scores = "".join(f", {name} {score:.4g}" for name, score in event.scores.items())
        return f"Validation loss {event.loss:.4f}{scores} at step {event.step}{', the best so far' if event.best else ''}."
    if isinstance(event, Graded):
        return f"{show_scores(event)} on {event.count} {event.what}, at step {event.step}."
    if isinstance(event, Searching):
        return "Searching for better settings."
    if isinstance(event, Tried):
        return None if event.trial.get("state") == "running" else _tell_trial(event)
    if isinstance(event, Concluded):
        return event.words
    if isinstance(event, Paused):
        return event.message or "Paused."
    if isinstance(event, Finished):
        return {"done": "Finished.", "stopped": "Stopped; the state is saved."}.get(event.reason, f"Finished: {event.reason}.")
    return event.message if isinstance(event, (Warned, Failed)) else None
