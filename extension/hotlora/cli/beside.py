"""``hotlora beside``: the process that trains a run beside a program (see ``engine.beside``), which tells it by its standard input what the
run is, and then what people wish.

Joins the stand-alone host to a job. Where the input ends, the program has ended: the run is saved, and can be gone on with as one that was
interrupted, so that nothing is lost and no process is left on the card.
"""

import argparse
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..engine.config import RunConfig
from ..engine.events import Event, Failed, Finished
from ..engine.grid import read_plan
from ..engine.interfaces import Host, Trainee
from ..engine.job import Job
from ..engine.run import Run
from ..hosts.standalone.host import StandaloneHost
from ..tasks import TASKS


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit code. The run's events say how it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the program, whose end is heard
    lines = read_lines()
    order = json.loads(next(lines))
    config = read_config(order)
    its_run = Run.reopen(config)
    its_run.is_reopened = order["resumes"]
    job = Errand(OfFile(TASKS[config.TASK].make_host(), order["base"]), config, its_run)
    signal.signal(signal.SIGTERM, lambda number, frame: job.control.stop())
    threading.Thread(target=job.listen, args=[lines], daemon=True).start()
    outcome = job.work()
    return int(isinstance(outcome, Failed) and outcome.bug)


def read_lines() -> Iterator[bytes]:
    """Of the standard input, without a buffer: a thread that waits at one would keep the process from ending."""
    with open(0, "rb", buffering=0, closefd=False) as file:
        yield from file


def read_config(order: dict[str, Any]) -> RunConfig:
    """The options as the program had them, down to what was settled and what is to be said of them."""
    return TASKS[order["task"]].config_class(**order["options"], given=frozenset(order["given"]), notes=order["notes"])


class Errand(Job):
    """Trains for a program."""

    program_has_ended = False

    def listen(self, lines: Iterator[bytes]) -> None:
        """Do what each line wishes, until they end."""
        for line in lines:
            details = json.loads(line)
            wish = getattr(self.control, details.pop("wish"))
            wish(read_plan(details["plan"])) if "plan" in details else wish(**details)
        self.program_has_ended = not self.control.stopping
        self.control.stop()

    def _take(self, event: Event) -> None:
        if not (self.program_has_ended and isinstance(event, Finished) and event.reason == "stopped"):  # nobody has stopped it
            super()._take(event)


class OfFile(StandaloneHost):
    """A stand-alone host that loads this file or folder, whatever the program calls it."""

    def __init__(self, host: Host, base: str):
        super().__init__()
        self._host, self._base = host, base

    def borrow(self, config: RunConfig) -> Trainee:
        """The config goes on to say what the program says, so that the run can be gone on with there."""
        called, config.base_model = config.base_model, str(Path(self._base))
        try:
            return self._host.borrow(config)
        finally:
            config.base_model = called
