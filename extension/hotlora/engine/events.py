"""What happens in a run, as an append-only log that everything else reads: console, TensorBoard, tab, HTTP API.

An event's index in the log never changes, so a reader that was away goes on from the index it had.
"""

import dataclasses
import errno
import json
import threading
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import disk_full


@dataclass(frozen=True)
class Event:
    """Something that happened. ``time`` is seconds since 1970."""

    time: float = field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True)
class Preparing(Event):
    """Work before training: ``done`` of ``total``."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Started(Event):
    """Training begins, or goes on from ``step``."""

    name: str
    step: int
    total_steps: int
    steps_per_epoch: int
    trainable_parameters: int
    summary: dict[str, Any]


@dataclass(frozen=True)
class Step(Event):
    """One optimizer step is done. ``loss`` is this step's mean, ``average`` the smoothed one."""

    step: int
    epoch: float
    loss: float
    average: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Validated(Event):
    """Loss on the kept-back examples; ``best`` when it is the lowest so far. ``scores``: the same said otherwise."""

    step: int
    loss: float
    best: bool
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Graded(Event):
    """Questions were answered and graded: ``scores`` are means over ``count`` of them; ``what`` says which they are."""

    step: int
    what: str
    count: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Previewed(Event):
    """A sample was made."""

    step: int
    prompt: str
    weight: float
    seed: int
    path: str


@dataclass(frozen=True)
class Drawn(Event):
    """A picture of the run's grid was made: ``done`` of ``total``, in so many ``seconds``."""

    path: str
    done: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Searching(Event):
    """A search for better settings begins, or goes on: for so many ``seconds`` at most."""

    seconds: float


@dataclass(frozen=True)
class Tried(Event):
    """A trial of a search has begun (its ``state`` is "running") or ended. ``trial``: a Row of ``search_report``, as plain values."""

    trial: dict[str, Any]


@dataclass(frozen=True)
class Concluded(Event):
    """What a search has found so far, in words. ``proposal``: the options that it would change; none where it would change nothing."""

    words: str
    proposal: dict[str, Any]


@dataclass(frozen=True)
class Saved(Event):
    """A usable adapter file was written. ``kind``: checkpoint, best, final."""

    step: int
    kind: str
    path: str


@dataclass(frozen=True)
class Warned(Event):
    """Something a person should know."""

    message: str


@dataclass(frozen=True)
class Paused(Event):
    """The state is saved and the model left alone. ``message``: what the run waits for, where it is not a mere pause. ``freed``: it waits
    for a person all the same, and the model is unloaded."""

    message: str = ""
    freed: bool = False


@dataclass(frozen=True)
class Finished(Event):
    """The run ended in order. ``reason``: done, stopped, early stopping. ``files``: what to look at."""

    step: int
    reason: str
    files: dict[str, str]


@dataclass(frozen=True)
class Failed(Event):
    """The run ended with an error; ``bug`` when it is none that the user can mend."""

    message: str
    bug: bool


_KINDS = (
    Preparing,
    Started,
    Step,
    Validated,
    Graded,
    Previewed,
    Drawn,
    Searching,
    Tried,
    Concluded,
    Saved,
    Warned,
    Paused,
    Finished,
    Failed,
)
_TYPES = {kind.__name__: kind for kind in _KINDS}


_TAIL_BYTES, _TAIL_EVENTS = 200_000, 200


class EventLog:
    """The file ``events.jsonl`` of a run: a line of JSON per event. Only who writes changes it: another may be in the middle of a line."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._readers: list[Callable[[Event], None]] = []
        self._is_whole = False  # what an earlier kill has left is looked at before the first line

    def _drop_half_line(self) -> None:
        """A kill in the middle of a write leaves a line without its end."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with open(self.path, "rb+") as file:
                file.truncate(whole)

    def subscribe(self, reader: Callable[[Event], None]) -> None:
        """Call ``reader`` with every further event."""
        self._readers.append(reader)

    def append(self, event: Event) -> None:
        """Write it, then tell the readers. Raises UserError when the disk is full or the run's folder gone."""
        line = json.dumps({"type": type(event).__name__, **dataclasses.asdict(event)}, ensure_ascii=False)
        try:
            with self._lock:
                if not self._is_whole:
                    self._drop_half_line()
                    self._is_whole = True
                with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(line + "\n")
        except OSError as error:
            if not self.path.parent.is_dir():
                raise UserError(f"cannot go on: the run's folder '{self.path.parent}' was deleted. Start a new run.") from None
            self._drop_half_line()
            if error.errno == errno.ENOSPC:
                raise disk_full(self.path) from error
            raise
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Give the event to the readers only."""
        for reader in self._readers:
            reader(event)

    def read(self, since: int = 0) -> Iterator[Event]:
        """The events from index ``since`` on."""
        return read_events(self.path, since)


def read_events(path: Path, since: int = 0) -> Iterator[Event]:
    """The events of a run's file from index ``since`` on; nothing if there is no such file."""
    if not path.exists():
        return
    with open(path, "rb") as file:  # as bytes: the last line may be in the middle of a character, while it is written
        for index, line in enumerate(file):
            if index >= since and line.endswith(b"\n"):
                yield parse_event(line)


def find_last_step(path: Path) -> int:
    """The optimizer step that the file speaks of last; 0 for none. Reads its end only."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        events = [parse_event(line) for line in file.read().split(b"\n")[1:] if line]
    return max((event.step for event in events[-_TAIL_EVENTS:] if isinstance(event, (Started, Step))), default=0)


def parse_event(line: bytes) -> Event:
    """A line of a run's file. A damaged one, or one of a newer version's, is a note that says so: it costs only itself."""
    damaged = Warned("A line of events.jsonl cannot be read, and is left out: it was damaged, or written by a newer version.", time=0.0)
    try:
        fields = json.loads(line)
        kind = _TYPES[fields.pop("type")]
        event = kind(**fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return damaged
    return event if all(_fits(getattr(event, field.name), field.type) for field in dataclasses.fields(kind)) else damaged


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of a field's type."""
    plain = typing.get_origin(wanted) or wanted
    if isinstance(value, bool) or plain is bool:
        return isinstance(value, bool) and plain is bool
    return isinstance(value, (int, float) if plain is float else plain)
