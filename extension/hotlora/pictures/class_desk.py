"""Regularisation pictures as the page and the HTTP API have them drawn: into a folder of their own among the data sets, in line with the
runs, one folder at a time.

One :class:`ClassDesk` per program. Must not import any host.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.events import Event, Failed, Warned
from ..engine.jobs import Jobs
from ..engine.names import check_name, clean_name
from .class_pictures import ClassJob, ClassPlan
from .config import PictureConfig
from .parts import open_parts

MOST_USUAL = 400  # pictures, where nobody says how many
_LONGEST_NAME = 60


@dataclass(frozen=True)
class ClassStatus:
    """How far the last ones are."""

    number: int = 0  # of the drawing, since the program started
    busy: bool = False
    done: int = 0
    total: int = 0
    folder: str = ""
    complete: bool = False  # all are there
    message: str = ""


class ClassDesk:
    """Has them drawn.

    Args:
        folder: where data sets lie, a folder each.
    """

    def __init__(self, jobs: Jobs, folder: Path):
        self._jobs, self._folder = jobs, folder
        self._lock = threading.Lock()
        self._job: ClassJob | None = None
        self._number, self._said = 0, ""

    @property
    def folder(self) -> str:
        """Where their folders are made."""
        return str(self._folder)

    @property
    def status(self) -> ClassStatus:
        job = self._job
        if job is None:
            return ClassStatus()
        busy = self._jobs.find_job(job.name) is job
        done, outcome = job.count_drawn(), job.outcome
        complete = not busy and done >= job.plan.count
        said = self._said
        if busy and self._jobs.current is not job:
            said = "They are drawn when the runs before them are done."
        elif isinstance(outcome, Failed):
            said = outcome.message
        elif not busy:
            said = "Done. Train with them: add the folder as regularisation." if complete else "Stopped. Draw goes on from there."
        return ClassStatus(self._number, busy, done, job.plan.count, str(job.plan.folder), complete, said)

    def suggest(self, config: PictureConfig) -> int:
        """How many there had better be: one for each time that an epoch shows a picture to train on, as sd-scripts would use them, up to
        ``MOST_USUAL``. Raises UserError where there is no picture to train on."""
        parts = [part for part in open_parts(config) if part.use == "train"]
        return min(sum(found.repeats for part in parts for found in part.contents.pictures), MOST_USUAL)

    def start(self, config: RunConfig, words: Sequence[str], count: int = 0, name: str = "") -> ClassStatus:
        """Draw, or go on; returns the status.

        Args:
            words: prompts, taken in turn.
            count: how many there are to be; 0 for as many as :meth:`suggest` says.
            name: of their folder; by the first words, where none is given.

        Raises:
            UserError: for what cannot be drawn, and while others are drawn or wait.
        """
        words = tuple(line.strip() for line in words if line.strip())
        if not words:
            raise UserError("cannot draw regularisation pictures of nothing: there are no class words. Give some, such as person.")
        name = check_name(name.strip() or f"{clean_name(words[0])[:_LONGEST_NAME].strip(' .')} class", "the folder")
        count = count or self.suggest(config)  # type: ignore[arg-type]
        with self._lock:
            if self.status.busy:
                raise UserError("cannot draw other regularisation pictures now: some are being drawn. Wait for them, or stop them.")
            plan = ClassPlan(self._folder / name, words, count, config.sample_seed)
            job = self._jobs.enter(name, lambda host: self._watch(ClassJob(host, config, plan)))
            self._job, self._number = job, self._number + 1  # type: ignore[assignment]
        return self.status

    def _watch(self, job: ClassJob) -> ClassJob:
        self._said = ""
        job.subscribe(self._hear)
        return job

    def _hear(self, event: Event) -> None:
        self._said = event.message if isinstance(event, Warned) else ""

    def stop(self) -> None:
        """After the picture that is drawn now; at once where they wait. Raises UserError where none are drawn."""
        job = self._job
        if job is None or self._jobs.find_job(job.name) is not job:
            raise UserError("cannot stop: no regularisation pictures are being drawn. Draw some first.")
        self._jobs.stop(job.name)
