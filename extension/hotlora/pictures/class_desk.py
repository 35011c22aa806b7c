"""Regularisation pictures as the page and the HTTP API have them drawn: into a folder of their own among the data sets, in line with the
runs, one folder at a time.

One :class:`ClassDesk` per program. Must not import any host.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.line_desk import LineDesk
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


class ClassDesk(LineDesk[ClassJob]):
    """Has them drawn."""

    WAITING = "They are drawn when the runs before them are done."
    STOPPING = "Stopping after the picture that is drawn now."
    DONE = "Done. Train with them: add the folder as regularisation."
    STOPPED = "Stopped. Draw goes on from there."
    TAKEN = "cannot draw other regularisation pictures now: some are being drawn. Wait for them, or stop them."
    IDLE = "cannot stop: no regularisation pictures are being drawn. Draw some first."

    @property
    def status(self) -> ClassStatus:
        job = self._job
        if job is None:
            return ClassStatus()
        busy, done = self._is_busy(job), job.count_drawn()
        complete = not busy and done >= job.plan.count
        told = self._tell(job, busy=busy, complete=complete)
        return ClassStatus(done=done, total=job.plan.count, folder=str(job.plan.folder), complete=complete, **told)

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
        plan = ClassPlan(self._folder / name, words, count, config.sample_seed)
        self._enter(name, lambda host: ClassJob(host, config, plan))
        return self.status
