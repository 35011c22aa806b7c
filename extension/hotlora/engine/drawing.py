"""The samples of a grid, pictures or answers, made one by one with finished adapters in the model, as a generator of events.

Between any two events the model may go back to its host, with nothing of an adapter in it. What is there already is passed over, so that
whatever ends this, doing it again goes on.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from .adapters import AdapterSet
from .config import RunConfig
from .control import Control
from .errors import UserError
from .events import Drawn, Event, Preparing, Warned
from .grid import FOLDER, Cell, Grid, GridPlan, hash_adapter, lay_out, name_picture, write_grid
from .interfaces import PreviewRequest, Trainee
from .redrawing import Asking, Redrawing
from .run import Run


def draw_grid(
    trainee: Trainee,
    config: RunConfig,
    control: Control,
    plan: GridPlan,
    bare: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Generator[Event, None, None]:
    """Draw what is missing, checkpoint by checkpoint; then the file of all. Ends early when the run is told to stop.

    Args:
        bare: entered around each picture; the model without what is attached to it otherwise.

    Raises:
        UserError: where this model makes no such samples, or a checkpoint is gone or does not fit.
    """
    run = control.run
    if not isinstance(trainee, Redrawing):
        raise UserError(f"cannot draw a grid of '{run.name}': its model makes no samples of finished files. Look at its samples.")
    adapters = run.list_adapters()
    known: Mapping[str, str] = {}
    if plan.questions:
        known = yield from _find_questions(trainee, run, plan.questions)
        plan = plan.asking(known)
    grid = _settle(trainee, config, run, plan, known)
    write_grid(grid)
    wanted = {cell.name: cell for row in grid.cells for cell in row}
    there = grid.paths()
    missing = [cell for name, cell in wanted.items() if name not in there]
    done, opened = len(wanted) - len(missing), _Opened(trainee)
    for cell in sorted(missing, key=lambda cell: list(adapters).index(cell.checkpoint)):
        if control.stopping:
            break
        began = time.monotonic()
        with bare(), torch.no_grad(), opened.at(adapters[cell.checkpoint], cell.weight):
            path = trainee.preview(_request(cell, config)).save(grid.folder / cell.name)
        done += 1
        for note in opened.take_notes():
            yield Warned(note)
        yield Drawn(str(path), done, len(wanted), time.monotonic() - began)
    trainee.write_grid(grid)


def _find_questions(trainee: Any, run: Run, count: int) -> Generator[Event, None, Mapping[str, str]]:
    """Question -> right answer."""
    if not isinstance(trainee, Asking):
        raise UserError(f"cannot ask '{run.name}' questions: it learns none. Give prompts.")
    for step in trainee.prepare():
        yield Preparing(step.what, step.done, step.total)
    return trainee.find_questions(count)


def _settle(trainee: Any, config: RunConfig, run: Run, plan: GridPlan, known: Mapping[str, str]) -> Grid:
    """With the name of each sample."""
    adapters, digests = run.list_adapters(), dict[str, str]()

    def settle(cell: Cell) -> Cell:
        cell = dataclasses.replace(cell, wanted=known.get(cell.prompt, ""))
        path = adapters[cell.checkpoint]
        if cell.weight and cell.checkpoint not in digests:
            digests[cell.checkpoint] = hash_adapter(path)
        digest = digests[cell.checkpoint] if cell.weight else ""  # at weight 0 all are the model alone
        facts = {**trainee.settle(_request(cell, config)), "adapter": digest, "weight": cell.weight, "model": trainee.fingerprint}
        return dataclasses.replace(cell, adapter=path.name.removesuffix(path.suffix), name=name_picture(facts))

    cells = tuple(tuple(settle(cell) for cell in row) for row in lay_out(plan, adapters))
    return Grid(run.folder / FOLDER, run.name, plan.rows, plan.columns, cells)


def _request(cell: Cell, config: RunConfig) -> PreviewRequest:
    return PreviewRequest(cell.prompt, config.sample_seed, cell.weight, cell.settings, cell.adapter, cell.wanted)


class _Opened:
    """The adapter that was drawn with last, kept for the next picture."""

    def __init__(self, trainee: Any):
        self._trainee = trainee
        self._path: Path | None = None
        self._adapters: AdapterSet | None = None
        self._notes: dict[str, bool] = {}  # note -> whether it was said

    @contextlib.contextmanager
    def at(self, path: Path, weight: float) -> Iterator[None]:
        """The model with it at this weight; afterwards as found."""
        if not weight:
            yield
            return
        if path != self._path or self._adapters is None:
            self._adapters = None  # before the next one is there
            self._adapters, self._path = self._open(path), path
        with self._adapters.attached(self._trainee.modules), self._adapters.at_weight(weight):
            yield

    def _open(self, path: Path) -> AdapterSet:
        found = self._trainee.open(path)
        self._notes = dict.fromkeys(found.notes, False) | self._notes
        adapters = AdapterSet(found.targets, **dataclasses.asdict(found.choice), use_dora=found.use_dora)
        adapters.to(self._trainee.device)
        adapters.load(found.tensors)
        return adapters

    def take_notes(self) -> list[str]:
        """What has not been said yet."""
        news = [note for note, said in self._notes.items() if not said]
        self._notes |= dict.fromkeys(news, True)
        return news
