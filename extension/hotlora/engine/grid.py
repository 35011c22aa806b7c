"""A grid of samples of a run, pictures or answers: which there are to be, by two of five axes, and which are made. Makes none itself.

A sample lies in the run's folder ``grid`` under a name made from everything it follows from, so that none is ever made twice; and
``grid.json`` beside them says which of them the last grid shows, and where.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import write_text

AXES = {"checkpoint": "checkpoints", "weight": "weights", "prompt": "prompts", "seed": "seeds", "cfg": "cfgs"}  # axis -> its values
MOST_PICTURES = 400
MOST_QUESTIONS = 100
FOLDER = "grid"
_INDEX = "grid.json"


@dataclass(frozen=True)
class GridPlan:
    """What a grid is to show. Where nothing is said: all checkpoints, weight 1, and each prompt's own seed and guidance.

    Attributes:
        questions: how many of the run's own data are asked too, beside the prompts; those whose right answer is known.
    """

    rows: str = "prompt"
    columns: str = "checkpoint"
    checkpoints: tuple[str, ...] = ()  # labels as of Run.list_adapters
    weights: tuple[float, ...] = (1.0,)
    prompts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    cfgs: tuple[float, ...] = ()
    questions: int = 0

    def asking(self, questions: Iterable[str]) -> "GridPlan":
        """With these as prompts too."""
        return dataclasses.replace(self, prompts=(*self.prompts, *questions), questions=0)

    def with_places(self) -> "GridPlan":
        """As it will be laid out, before the questions are known."""
        return self.asking(f"(question {number + 1} of the data)" for number in range(self.questions))


@dataclass(frozen=True)
class Cell:
    """A sample of a grid, and what it is made from. ``seed`` and ``cfg``: None for the prompt's own. ``wanted``: the right answer, where
    one is known."""

    checkpoint: str
    weight: float
    prompt: str
    seed: int | None
    cfg: float | None
    adapter: str = ""  # as tags call it
    name: str = ""  # its file's, without the suffix
    wanted: str = ""

    @property
    def settings(self) -> dict[str, float]:
        """What holds whatever the prompt says."""
        return {key: value for key, value in (("seed", self.seed), ("cfg", self.cfg)) if value is not None}


@dataclass(frozen=True)
class Grid:
    """A grid as it is laid out: ``cells`` row by row."""

    folder: Path
    title: str
    rows: str
    columns: str
    cells: tuple[tuple[Cell, ...], ...]

    def paths(self) -> dict[str, Path]:
        """Cell's name -> file, of those that are drawn."""
        names = {cell.name for row in self.cells for cell in row}
        return {path.stem: path for path in self.folder.glob("*") if path.stem in names}

    def count(self) -> tuple[int, int]:
        """Pictures that are drawn, and all; what stands in two places is one."""
        return len(self.paths()), len({cell.name for row in self.cells for cell in row})


_KINDS: dict[str, tuple[type, ...]] = {"weights": (int, float), "seeds": (int,), "cfgs": (int, float), "questions": (int,)}


def read_plan(values: Mapping[str, Any]) -> GridPlan:
    """A plan from its fields as plain values.

    Raises:
        UserError: for what is no field of it, and for values of another kind.
    """
    fields = {field.name for field in dataclasses.fields(GridPlan)}
    plan: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"cannot draw a grid with {key}: it takes {', '.join(sorted(fields))}. Leave it out.")
        is_axis = key in ("rows", "columns", "questions")
        found = [value] if is_axis else value
        if not isinstance(found, list | tuple) or not all(_is_of(one, _KINDS.get(key, (str,))) for one in found):
            raise UserError(f"cannot draw a grid with {key} {value!r}: these are no such values. Give a list, or one axis.")
        plan[key] = value if is_axis else tuple(value)
    if plan.get("questions", 0) not in range(MOST_QUESTIONS + 1):
        raise UserError(f"cannot ask {plan['questions']} questions: it takes 0 to {MOST_QUESTIONS}. Give a number in between.")
    return GridPlan(**plan)


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool) or type(value) not in kinds:
        return False
    return isinstance(value, str) or (math.isfinite(value) and (float in kinds or 0 <= value < 2**53))


def lay_out(plan: GridPlan, adapters: Mapping[str, Path]) -> tuple[tuple[Cell, ...], ...]:
    """The cells, row by row. ``adapters``: as of Run.list_adapters.

    Raises:
        UserError: for axes that are none, values that fit no axis, and too many pictures.
    """
    for axis in (plan.rows, plan.columns):
        if axis not in AXES:
            raise UserError(f"cannot draw a grid by '{axis}': it takes {', '.join(AXES)}. Choose two of them.")
    if plan.rows == plan.columns:
        raise UserError(f"cannot draw a grid by {plan.rows} both ways: rows and columns differ. Choose two of {', '.join(AXES)}.")
    values = {axis: _values(plan, axis, adapters) for axis in AXES}
    for axis, found in values.items():
        if len(found) > 1 and axis not in (plan.rows, plan.columns):
            raise UserError(f"cannot draw a grid with {len(found)} {AXES[axis]}: they are no axis. Give one, or make them rows or columns.")
    count = len(values[plan.rows]) * len(values[plan.columns])
    if count > MOST_PICTURES:
        raise UserError(f"cannot make a grid of {count:,} samples: {MOST_PICTURES} are the most. Choose fewer {AXES[plan.columns]}.")
    fixed = {axis: found[0] for axis, found in values.items()}
    return tuple(
        tuple(Cell(**{**fixed, plan.rows: row, plan.columns: column}) for column in values[plan.columns]) for row in values[plan.rows]
    )


def _values(plan: GridPlan, axis: str, adapters: Mapping[str, Path]) -> Sequence[Any]:
    given = tuple(dict.fromkeys(getattr(plan, AXES[axis])))
    if axis == "prompt" and not given:
        raise UserError("cannot draw a grid without a prompt: the run has none, and no question of its data is asked. Give one.")
    if axis != "checkpoint":
        return given or (None,) if axis in ("seed", "cfg") else given or (1.0,)
    strange = [label for label in given if label not in adapters]
    if not adapters:
        raise UserError("cannot draw a grid of checkpoints: the run has saved none yet. Wait for one, or set save_steps.")
    if strange:
        raise UserError(f"cannot draw a grid of checkpoint '{strange[0]}': there is {', '.join(adapters)}. Choose among those.")
    usual = tuple(adapters) if "checkpoint" in (plan.rows, plan.columns) else tuple(adapters)[-1:]
    return given or usual


def name_picture(facts: Mapping[str, Any]) -> str:
    """A file's name that no picture of other facts has."""
    return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def hash_adapter(path: Path) -> str:
    """Of an adapter's content, be it a file or a folder of files."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as opened:
                while piece := opened.read(1 << 20):
                    digest.update(piece)
    return digest.hexdigest()


def write_grid(grid: Grid) -> None:
    """Say which pictures the grid shows, drawn or not."""
    plain = {"title": grid.title, "rows": grid.rows, "columns": grid.columns}
    cells = [[dataclasses.asdict(cell) for cell in row] for row in grid.cells]
    write_text(grid.folder / _INDEX, json.dumps({**plain, "cells": cells}, indent=1, ensure_ascii=False))


def read_grid(folder: Path) -> Grid | None:
    """The grid in a run's folder; None where there is none, or its file is damaged."""
    try:
        plain = json.loads((folder / FOLDER / _INDEX).read_text(encoding="utf-8"))
        cells = tuple(tuple(Cell(**cell) for cell in row) for row in plain["cells"])
        return Grid(folder / FOLDER, plain["title"], plain["rows"], plain["columns"], cells)
    except (OSError, ValueError, KeyError, TypeError):
        return None
