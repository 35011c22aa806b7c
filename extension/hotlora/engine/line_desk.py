"""Work beside runs that a page or the HTTP API has done, a piece at a time in the line of its program; how it goes, and its end.

What the work is, a desk for it says. Must not import any host.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import UserError
from .events import Event, Failed, Warned
from .interfaces import Host
from .job import Job
from .jobs import Jobs

AnyJob = TypeVar("AnyJob", bound=Job)


class LineDesk(Generic[AnyJob]):
    """Has one piece of work done at a time.

    Attributes:
        WAITING, STOPPING, DONE, STOPPED: what is said of it then.
        TAKEN, IDLE: why another piece cannot begin now, and why nothing can be stopped.

    Args:
        folder: where data sets lie, a folder each.
    """

    WAITING = STOPPING = DONE = STOPPED = TAKEN = IDLE = ""

    def __init__(self, jobs: Jobs, folder: Path):
        self._jobs, self._folder = jobs, folder
        self._lock = threading.Lock()
        self._job: AnyJob | None = None
        self._number, self._said = 0, ""

    @property
    def folder(self) -> str:
        """Where their folders are made."""
        return str(self._folder)

    def stop(self) -> None:
        """After what is made now; at once where it waits. Raises UserError where nothing does either."""
        if self._job is None or not self._is_busy(self._job):
            raise UserError(self.IDLE)
        self._jobs.stop(self._job.name)

    def _is_busy(self, job: AnyJob) -> bool:
        return self._jobs.find_job(job.name) is job

    def _enter(self, name: str, make: Callable[[Host], AnyJob]) -> None:
        """Have it stand in line. Raises UserError while another does, and what making it raises."""
        with self._lock:
            if self._job and self._is_busy(self._job):
                raise UserError(self.TAKEN)
            self._job = self._jobs.enter(name, lambda host: self._watch(make(host)))  # type: ignore[assignment]
            self._number += 1

    def _watch(self, job: AnyJob) -> AnyJob:
        self._said = ""
        job.subscribe(self._hear)
        return job

    def _hear(self, event: Event) -> None:
        self._said = event.message if isinstance(event, Warned) else ""

    def _tell(self, job: AnyJob, *, busy: bool, complete: bool) -> dict[str, Any]:
        """What every status has of it: ``number``, ``busy`` and ``message``."""
        said = self._said
        if busy and self._jobs.current is not job:
            said = self.WAITING
        elif busy and job.control.stopping:
            said = self.STOPPING
        elif isinstance(job.outcome, Failed):
            said = job.outcome.message
        elif not busy:
            said = self.DONE if complete else self.STOPPED
        return {"number": self._number, "busy": busy, "message": said}
