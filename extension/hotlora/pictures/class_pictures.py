"""Regularisation pictures: what the model itself makes of a class word, drawn by the host's own sampler, in turns, into a folder of its
own.

Each picture gets its words as caption. What is drawn already is passed over, so that whatever ends this, doing it again goes on; a folder
whose pictures were drawn otherwise, or by another model, is refused. Must not import any host.
"""

import contextlib
import json
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..engine.config import RunConfig
from ..engine.control import Control
from ..engine.errors import UserError
from ..engine.events import Drawn, Event, Failed, Finished, Paused, Warned
from ..engine.files import write_text
from ..engine.interfaces import Host, PreviewRequest, Progress
from ..engine.job import Job
from ..engine.loop import through_turns
from ..engine.redrawing import Asking, Redrawing
from ..engine.run import Run
from .caption_files import path_key
from .entries import list_sources
from .left_out import LEFT_OUT

MOST_PICTURES = 10_000
_FACTS = ".hotlora-class.json"  # hidden, so that nobody takes it for data


@dataclass(frozen=True)
class ClassPlan:
    """What is to be drawn."""

    folder: Path
    words: tuple[str, ...]  # prompts as of samples, taken in turn
    count: int
    seed: int  # of the first; each further one has the next


def check_plan(plan: ClassPlan, config: RunConfig) -> None:
    """Raise UserError for one that cannot be carried out, as far as that is known without a model."""
    if not plan.words or not all(words.strip() for words in plan.words):
        raise UserError("cannot draw regularisation pictures of nothing: there are no class words. Give some, such as person.")
    if not 1 <= plan.count <= MOST_PICTURES:
        raise UserError(f"cannot draw {plan.count} regularisation pictures: it takes 1 to {MOST_PICTURES:,}. Give a number in between.")
    if plan.folder.exists() and not plan.folder.is_dir():
        raise UserError(f"cannot draw regularisation pictures into {plan.folder}: it is a file. Name a folder.")
    for source in list_sources(config):  # type: ignore[arg-type]
        if not source.is_reg and path_key(source.root) == path_key(plan.folder):
            raise UserError(f"cannot draw regularisation pictures into {plan.folder}: it is {source.option}. Name a folder of their own.")


def draw_class(trainee: Any, config: RunConfig, control: Control, plan: ClassPlan) -> Generator[Event, None, None]:
    """Draw what is missing, one by one; between any two the model may go back to its host. Ends early when told to stop.

    Raises:
        UserError: where this model draws no pictures, or the folder holds pictures that were drawn otherwise.
    """
    if not isinstance(trainee, Redrawing) or isinstance(trainee, Asking):  # who answers draws nothing
        raise UserError("cannot draw regularisation pictures: this model draws none. Give the run file of a run on pictures.")
    _settle_folder(trainee, config, plan)
    missing = [number for number in range(plan.count) if not _is_there(plan, number)]
    for done, number in enumerate(missing, start=plan.count - len(missing) + 1):
        if control.stopping:
            return
        began = time.monotonic()
        with torch.no_grad():
            sample: Any = trainee.preview(_request(plan, number))
        path = replace(sample, lora="").save(_stem(plan, number))
        _caption(path, sample.request.prompt)
        yield Drawn(str(path), done, plan.count, time.monotonic() - began)


def _request(plan: ClassPlan, number: int) -> PreviewRequest:
    return PreviewRequest(plan.words[number % len(plan.words)], plan.seed + number, 0.0)


def _stem(plan: ClassPlan, number: int) -> Path:
    return plan.folder / f"class {number + 1:05}"


def _is_there(plan: ClassPlan, number: int) -> bool:
    """Also where somebody has left it out. One that was drawn just before a kill gets its caption."""
    path = _name_file(plan, number)
    if path.is_file():
        _caption(path, plan.words[number % len(plan.words)].partition(" --")[0].strip())
    return _is_drawn(plan, number)


def _is_drawn(plan: ClassPlan, number: int) -> bool:
    path = _name_file(plan, number)
    return path.is_file() or (plan.folder / LEFT_OUT / path.name).is_file()


def _name_file(plan: ClassPlan, number: int) -> Path:
    return plan.folder / f"{_stem(plan, number).name}.png"


def _caption(path: Path, words: str) -> None:
    """Never over what somebody wrote."""
    if not path.with_suffix(".txt").exists():
        write_text(path.with_suffix(".txt"), f"{words}\n")


def _settle_folder(trainee: Redrawing, config: RunConfig, plan: ClassPlan) -> None:
    """Keep what the folder's pictures follow from beside them; raise UserError where they follow from something else."""
    settled = {**trainee.settle(_request(plan, 0)), "words": list(plan.words), "model": getattr(trainee, "fingerprint", "")}
    facts = json.loads(json.dumps(settled, default=str))
    path = plan.folder / _FACTS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None  # not there, or damaged: then nothing is known, and nothing drawn is taken for this
    if before is None and any(plan.folder.glob("class [0-9]*.png")):
        raise UserError(f"cannot go on in {plan.folder}: nothing says how its pictures were drawn. Choose another folder.")
    other = [key for key in facts if before is not None and before.get(key) != facts[key]]
    if other:
        raise UserError(f"cannot go on in {plan.folder}: its pictures were drawn with another {', '.join(other)}. Choose another folder.")
    plan.folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(facts, indent=1, ensure_ascii=False))


class ClassJob(Job):
    """Draws them; an entry of the line like any run, by the folder's name. Its events are told and not kept."""

    WORK = "Drawing"
    IS_RUN = False

    def __init__(self, host: Host, config: RunConfig, plan: ClassPlan):
        check_plan(plan, config)
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder '{plan.folder}': {error.strerror}. Choose another one.") from error
        run = Run(plan.folder, plan.folder.name, "")
        run.take()
        super().__init__(host, replace(config, init_lora="", tensorboard=False), run)
        self.plan, self._phase = plan, "drawing"

    def count_drawn(self) -> int:
        """How many of them are there; those that somebody has left out count."""
        if self.progress:
            return self.progress.done
        return sum(_is_drawn(self.plan, number) for number in range(self.plan.count))

    def _train(self) -> Finished | None:
        trainee = self._host.borrow(self.config)
        work = draw_class(trainee, self.config, self.control, self.plan)
        for event in through_turns(self.control, work, contextlib.nullcontext):
            self._take(event)
        return Finished(0, "stopped" if self.control.stopping else "done", {})

    def _take(self, event: Event) -> None:
        if isinstance(event, Drawn):
            self.progress = Progress("drawing regularisation pictures", event.done, event.total)
        self.run.events.tell(Warned(event.message) if isinstance(event, Paused) and event.message else event)

    def _tell(self, event: Failed) -> None:
        self.run.events.tell(event)
