"""Writing questions: an entry of the line of runs like any other, in turns, on the model that the host holds.

What was asked is passed over, so that whatever ends this, doing it again goes on, and comes to what it would have been without.
"""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...engine.errors import UserError
from ...engine.events import Event, Failed, Finished, Paused, Preparing, Warned
from ...engine.interfaces import Host, Progress
from ...engine.job import Job
from ...engine.loop import through_turns
from ...engine.run import Run
from ..config import TextConfig
from .asking import Pair, ask_pair, plain
from .folder import KEPT, QuestionFolder, name_key
from .passages import Passage, read_passages
from .settings import QuestionSettings

_WORK = "writing questions"
_SEEDS_EACH = 1000  # further from each other than any number of questions about one passage


@runtime_checkable
class Answering(Protocol):
    """A trainee that answers whatever it is asked, its data unprepared."""

    model: Any  # with its name
    fingerprint: str

    def ask(self, prompt: str, max_tokens: int, temperature: float, seed: int) -> tuple[str, bool]:
        """(what the model says, whether it came to an end by itself)."""
        ...


@dataclass(frozen=True)
class QuestionPlan:
    """What is to be written."""

    documents: Path
    folder: Path
    settings: QuestionSettings
    seed: int


def check_plan(plan: QuestionPlan) -> None:
    """Raise UserError for one that cannot be carried out, as far as that is known without a model."""
    if plan.folder.exists() and not plan.folder.is_dir():
        raise UserError(f"cannot write questions into '{plan.folder}': it is a file. Name a folder.")
    if plan.folder.resolve() == plan.documents.resolve():
        raise UserError(f"cannot write questions into '{plan.folder}': the documents are there. Name a folder of their own.")


class QuestionJob(Job):
    """Writes them. Its events are told and not kept.

    Attributes:
        outcomes: key -> KEPT, or why it was dropped, of all that were asked.
        total: questions that are to be asked; 0 before the documents are read.
        problems: what of the documents is left out.
    """

    WORK = "Writing questions"
    IS_RUN = False

    def __init__(self, host: Host, config: TextConfig, plan: QuestionPlan):
        check_plan(plan)
        passages, self.problems = read_passages(plan.documents, plan.settings.passage_characters, config.encoding)
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder '{plan.folder}': {error.strerror}. Choose another one.") from error
        run = Run(plan.folder, plan.folder.name, "")
        run.log_path = plan.folder / ".hotlora-questions.log"  # hidden: the folder is a data set
        run.take()
        super().__init__(host, _undress(config), run)
        self.plan, self._phase = plan, "writing"
        self.store = QuestionFolder(plan.folder)
        self.wanted = [(passage, number) for passage in passages for number in range(1, plan.settings.questions_per_passage + 1)]
        self.outcomes: dict[str, str] = self.store.count_asked()

    @property
    def total(self) -> int:
        return len(self.wanted)

    def count_asked(self) -> int:
        """How many of them were asked."""
        return sum(name_key(passage, number) in self.outcomes for passage, number in self.wanted)

    def _train(self) -> Finished | None:
        trainee = self._host.borrow(self.config)
        for event in through_turns(self.control, self._write(trainee), contextlib.nullcontext):
            self._take(event)
        return Finished(0, "stopped" if self.control.stopping else "done", {})

    def _write(self, trainee: Any) -> Generator[Event, None, None]:
        """Ask what was not asked, one by one; between any two generations the model may go back to its host.

        Raises:
            UserError: where this model answers nothing, or the folder's questions were written otherwise.
        """
        if not isinstance(trainee, Answering):
            raise UserError("cannot write questions: this model answers none. Give the run file of a run on texts.")
        self.store.settle(_list_facts(trainee, self.plan))
        self.outcomes = self.store.count_asked()
        for place, (passage, number) in enumerate(self.wanted):
            key = name_key(passage, number)
            if key in self.outcomes:
                continue
            if self.control.stopping:
                return
            asked = self.store.list_questions()
            known = {plain(question) for _, question in asked}
            earlier = [question for other, question in asked if other.rpartition("-")[0] == passage.key]
            work = ask_pair(trainee.ask, passage, known, earlier, self.plan.settings, _seed(self.plan, passage, number))
            pair = yield from _in_pieces(work, Preparing(_WORK, place, self.total))
            self.store.add(passage, number, pair, trainee.model.name)
            self.outcomes[key] = pair.dropped or KEPT
            yield Preparing(_WORK, place + 1, self.total)

    def _take(self, event: Event) -> None:
        if isinstance(event, Preparing):
            self.progress = Progress(event.what, event.done, event.total)
        self.run.events.tell(Warned(event.message) if isinstance(event, Paused) and event.message else event)

    def _tell(self, event: Failed) -> None:
        self.run.events.tell(event)


def _in_pieces(work: Generator[None, None, Pair], event: Event) -> Generator[Event, None, Pair]:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
        yield event


def _undress(config: TextConfig) -> TextConfig:
    """Without what is about a run: what its answers are told is not what questions are written by."""
    return replace(config, init_lora="", tensorboard=False, system_prompt="")


def _seed(plan: QuestionPlan, passage: Passage, number: int) -> int:
    """By what the passage says, so that further documents change nothing about it."""
    return (plan.seed + int(passage.key[:8], 16) * _SEEDS_EACH + number) % 2**63


def _list_facts(trainee: Answering, plan: QuestionPlan) -> Mapping[str, Any]:
    """What rows follow from beside their passage, as people call it."""
    settings = asdict(plan.settings)
    settings.pop("questions_per_passage")  # more of them go on where fewer ended
    return {"model": trainee.fingerprint, "seed": plan.seed, **settings}
