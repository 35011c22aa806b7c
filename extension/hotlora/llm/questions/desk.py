"""Questions as the page and the HTTP API have them written and reviewed: into a folder of their own among the data sets, in line with the
runs, one folder at a time.

One :class:`QuestionDesk` per program. Must not import any host.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import UserError
from ...engine.line_desk import LineDesk
from ...engine.names import check_name, clean_name
from ...engine.options import build
from ..config import TextConfig
from .folder import KEPT, OPEN, REFUSED, QuestionFolder, Row, is_question_folder, tally
from .job import QuestionJob, QuestionPlan
from .settings import QuestionSettings

_LONGEST_NAME = 60
_SHOWN_PROBLEMS = 20
_DONE = {"accept": "accepted", "refuse": "refused", "reopen": "to be reviewed again"}


@dataclass(frozen=True)
class QuestionStatus:
    """How far the last ones are."""

    number: int = 0  # of the job, since the program started
    busy: bool = False
    done: int = 0  # asked
    total: int = 0
    kept: int = 0  # usable; they wait for review, or were reviewed
    dropped: tuple[tuple[str, int], ...] = ()  # why, and how many
    name: str = ""  # of the folder
    folder: str = ""
    message: str = ""
    problems: tuple[str, ...] = ()  # what of the documents is left out


@dataclass(frozen=True)
class Review:
    """Rows of a folder, a page of them."""

    name: str
    folder: str
    rows: Sequence[Row]
    start: int
    shown: int  # rows of the kind that was asked for
    accepted: int
    open: int
    refused: int


class QuestionDesk(LineDesk[QuestionJob]):
    """Has them written, and takes decisions about them."""

    WAITING = "They are written when the runs before them are done."
    STOPPING = "Stopping after the question that is written now."
    DONE = "Done. Review them: only what you accept is learned."
    STOPPED = "Stopped. Write questions goes on from there."
    TAKEN = "cannot write other questions now: some are being written. Wait for them, or stop them."
    IDLE = "cannot stop: no questions are being written. Write some first."

    settings_class = QuestionSettings

    @property
    def status(self) -> QuestionStatus:
        job = self._job
        if job is None:
            return QuestionStatus()
        busy = self._is_busy(job)
        outcomes, done = dict(job.outcomes), job.count_asked()
        return QuestionStatus(
            done=done,
            total=job.total,
            kept=sum(outcome == KEPT for outcome in outcomes.values()),
            dropped=tuple(tally(outcomes).items()),
            name=job.name,
            folder=str(job.plan.folder),
            problems=tuple(job.problems[:_SHOWN_PROBLEMS]),
            **self._tell(job, busy=busy, complete=done >= job.total),
        )

    def start(self, config: TextConfig, values: Mapping[str, Any], name: str = "") -> QuestionStatus:
        """Write, or go on; returns the status.

        Args:
            config: names the documents, as its data; and where a program loads models by itself, the model.
            values: of :class:`~.settings.QuestionSettings`.
            name: of their folder; by the documents, where none is given.

        Raises:
            UserError: for what cannot be written, and while others are written or wait.
        """
        settings = build(QuestionSettings, values)
        if not config.train_data_dir:
            raise UserError("cannot write questions about nothing: no documents are given. Give a folder of them, or one of them.")
        documents = Path(config.train_data_dir).expanduser()
        name = check_name(name.strip() or f"{clean_name(documents.stem)[:_LONGEST_NAME].strip(' .')} questions", "the folder")
        plan = QuestionPlan(documents, self._folder / name, settings, config.sample_seed)
        self._enter(name, lambda host: QuestionJob(host, config, plan))
        return self.status

    # -- reviewing -----------------------------------------------------------------------------------------------------

    def list_folders(self) -> list[str]:
        """Names of the folders that there is something to review in, or was; the one that is written into first."""
        names = sorted((path.name for path in self._folder.glob("*/") if is_question_folder(path)), key=str.casefold)
        current = self._job.name if self._job else ""
        return sorted(names, key=lambda name: name != current)

    def review(self, name: str, *, start: int = 0, count: int = 20, refused: bool = False) -> Review:
        """Rows that wait for review, or those that were refused; of the last page, where there are no more.

        Raises:
            UserError: where there is no such folder.
        """
        store = self._open(name)
        rows, counts = store.list_rows(REFUSED if refused else OPEN), store.count()
        start = max(min(start, (len(rows) - 1) // count * count), 0)
        shown = rows[start : start + count]
        return Review(name, str(store.folder), shown, start, len(rows), counts["accepted"], counts[OPEN], counts[REFUSED])

    def decide(self, name: str, verdict: str, keys: Sequence[str] | None = None, texts: Mapping[str, Sequence[str]] | None = None) -> str:
        """Accept or refuse rows, or have refused ones reviewed again; returns what was done.

        Args:
            verdict: accept, refuse or reopen; empty where only words are changed.
            keys: of the rows; None for all that wait.
            texts: key -> (question, answer) of those whose words are to be changed first.

        Raises:
            UserError: where there is no such folder, for another verdict, and where what is accepted has no question or no answer.
        """
        if verdict and verdict not in _DONE:
            raise UserError(f"cannot {verdict} questions: that is none of {', '.join(_DONE)}. Choose one of those.")
        if any(len(pair) != 2 for pair in (texts or {}).values()):
            raise UserError("cannot change rows: each takes a question and an answer. Give both.")
        store = self._open(name)
        changed = store.edit({key: (pair[0], pair[1]) for key, pair in (texts or {}).items()}) if texts else 0
        if not verdict:
            return f"{changed} changed."
        chosen = [row.key for row in store.list_rows()] if keys is None else keys
        done = store.decide(chosen, verdict)
        return f"{done} {_DONE[verdict]}, {store.count()[OPEN]} left."

    def _open(self, name: str) -> QuestionFolder:
        if name not in self.list_folders():
            raise UserError(f"cannot review '{name}': no questions were written there. Choose one of those that were.")
        return QuestionFolder(self._folder / name)
