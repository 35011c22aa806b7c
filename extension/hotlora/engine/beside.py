"""A run beside its program: a process of its own trains it, on another device, while here wishes are handed on and its events are heard.

That process alone writes in the run's folder. It reads a line of JSON from its standard input that says what the run is, then one per
wish; where the lines end, the program has ended. What it does with them stands in ``cli/beside.py``.
"""

import contextlib
import dataclasses
import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from .config import RunConfig
from .control import Control
from .errors import UserError
from .events import Event, Failed, Finished, Saved, parse_event
from .grid import GridPlan
from .interfaces import Host
from .job import Job
from .options import as_plain
from .run import Run

_LOOK_SECONDS = 0.2
_NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # of Windows, where each such process would open a console
_USABLE = ("checkpoint", "best", "final")  # kinds of adapters that are for the program


@runtime_checkable
class Besides(Host, Protocol):
    """A host whose program can have a run trained beside it."""

    def beside_command(self) -> Sequence[str]:
        """What starts the process."""
        ...

    def find_base(self, config: Any) -> Path:
        """Where the model lies that the config names; where it names none, the loaded one is written into it. Loads nothing.

        Raises:
            UserError: where there is none.
        """
        ...

    def publish_beside(self, path: Path) -> None:
        """As ``publish``, outside of a turn."""
        ...


def make_job(host: Host, config: RunConfig, run: Run) -> Job:
    """The run to be carried out: in the program, or beside it where its options name a device."""
    return BesideJob(host, config, run) if config.train_device and isinstance(host, Besides) else Job(host, config, run)


def refuse_beside(host: Host, config: RunConfig, what: str) -> None:
    """Raise UserError for work with a run's options that only the program itself does."""
    if config.train_device and isinstance(host, Besides):
        raise UserError(f"cannot {what} on '{config.train_device}': only the program's own model does that. Leave train_device empty.")


class Wishes(Control):
    """Hands each wish on to the process, at once or when there is one. Takes no turns."""

    def __init__(self, host: Host, run: Run):
        super().__init__(host, run, slice_seconds=0)
        self._writing = threading.Lock()
        self._stream: IO[bytes] | None = None
        self._unsent: list[str] = []

    def open(self, stream: IO[bytes], order: Any) -> None:
        """From now on they go there, behind the order."""
        with self._writing:
            self._stream = stream
            self._unsent.insert(0, json.dumps(order))
            self._send()

    def stop(self) -> None:
        self._wish("stop")
        super().stop()

    def pause(self, *, free: bool = False) -> None:
        super().pause(free=free)
        self._wish("pause", free=free)

    def go_on(self) -> None:
        super().go_on()
        self._wish("go_on")

    def sample_now(self) -> None:
        self._wish("sample_now")

    def save_now(self) -> None:
        self._wish("save_now")

    def draw(self, plan: GridPlan) -> None:
        self._wish("draw", plan=dataclasses.asdict(plan))

    def _wish(self, name: str, **details: Any) -> None:
        with self._writing:
            self._unsent.append(json.dumps({"wish": name, **details}))
            self._send()

    def _send(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the process has ended, which is seen elsewhere
            if self._stream:
                self._stream.write("".join(f"{line}\n" for line in self._unsent).encode())
                self._stream.flush()
                self._unsent.clear()


class BesideJob(Job):
    """Has a run trained by a process of its own."""

    def __init__(self, host: Besides, config: RunConfig, run: Run):
        super().__init__(host, config, run)
        self.control = self._wishes = Wishes(host, run)
        self._program = host

    def _train(self) -> Finished | Failed | None:
        base = self._program.find_base(self.config)
        self.run.write_config(self.config)  # it names the base model now
        order = {
            "task": self.config.TASK,
            "options": as_plain(self.config),
            "given": sorted(self.config.given),
            "notes": self.config.notes,
            "base": str(base),
            "resumes": self.run.is_reopened,
        }
        events = Newest(self.run.events.path)
        self.run.close()  # the process takes it
        with open(self.run.log_path, "ab") as log:
            process = subprocess.Popen(
                list(self._program.beside_command()), stdin=subprocess.PIPE, stdout=log, stderr=log, creationflags=_NO_WINDOW
            )
            assert process.stdin is not None
            try:
                self._wishes.open(process.stdin, order)
                return self._follow(process, events)
            finally:  # where following has failed, it saves and ends
                with contextlib.suppress(OSError):
                    process.stdin.close()
                process.wait()

    def _follow(self, process: subprocess.Popen, events: "Newest") -> Finished | Failed:
        """Until it has ended. Raises UserError where it did not say how."""
        outcome: Finished | Failed | None = None
        is_over = False
        while not is_over:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
            is_over = process.returncode is not None
            for event in events.read_on():
                self._hear(event)
                outcome = event if isinstance(event, Finished | Failed) else None
        if outcome is None:
            raise UserError(
                f"cannot go on: the process that trained '{self.name}' on {self.config.train_device} has died, with exit code "
                f"{process.returncode}. Resume the run: what was saved before is whole. What it said last is in {self.run.log_path}."
            )
        return outcome

    def _hear(self, event: Event) -> None:
        self._note(event)
        if isinstance(event, Saved) and event.kind in _USABLE:
            self._publish(event.path)
        elif isinstance(event, Finished) and "cover" in event.files:
            self._publish(event.files["lora"])  # once more, with its cover
        self.run.events.tell(event)

    def _publish(self, path: str) -> None:
        if Path(path).exists():  # of several checkpoints an early one may be gone by now
            self._program.publish_beside(Path(path))


class Newest:
    """What is written to an event file from now on."""

    def __init__(self, path: Path):
        self._path = path
        self._offset = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0

    def read_on(self) -> Iterator[Event]:
        """What has come since the last look."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    return
                self._offset += len(line)
                yield parse_event(line)
