"""A grid as HTML: a table of pictures or answers, and what can be done with each. Reads samples; starts nothing."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..engine.grid import Cell, Grid
from ..engine.plurals import by_number, counted
from .draw import duration, escape, picture_source

_SIDES = ((24, 448), (80, 256), (400, 128))  # up to so many pictures, so large: the page holds them all
_TEXT = ".txt"


def describe_plan(count: int, *, is_training: bool, draws: bool = True) -> str:
    """What was ordered, in a sentence."""
    when = "after this step, between others" if is_training else "as soon as the model is free"
    what, done = ("picture", "drawn") if draws else ("answer", "written")
    most = f"{counted(count, what)} at most {by_number(count, 'is', 'are')}"
    return f"{most} {done} {when}, without those that are there already. Stop ends it; what is {done} stays."


def show_foreseen(count: int, seconds: float | None, *, draws: bool) -> str:
    """How many samples a grid has that is not asked for yet, and about how long they take."""
    what = "pictures at most" if draws else "answers at most"
    long = f" · <span>about</span> <b>{duration(seconds)}</b>" if seconds is not None else ""
    return f'<p role="status"><b>{count}</b> <span>{what}</span>{long}</p>'


@dataclass(frozen=True)
class Offers:
    """What can be done with a grid's samples.

    Attributes:
        others: label of a checkpoint that is there -> names of the files that go where only it is kept.
        uses_tag: whether a checkpoint can be put into a prompt box of the same page.
        applies: whether one can be put on the program's model.
        grade: scores by name of an answer, given the right one before it.
    """

    others: Mapping[str, str]
    uses_tag: bool = False
    applies: bool = False
    grade: Callable[[str, str], Mapping[str, float]] | None = None


def show_grid(grid: Grid, offers: Offers) -> str:
    """How many are drawn, and the table."""
    paths = grid.paths()
    done, total = grid.count()
    side = next((side for most, side in _SIDES if total <= most), _SIDES[-1][1])
    answers = {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.suffix == _TEXT}
    heads = (f"{_say(cell, grid.columns)}{_score(grid, place, answers, offers)}" for place, cell in enumerate(grid.cells[0]))
    rows = []
    for row in grid.cells:
        shown = (_show(cell, paths.get(cell.name), answers, side) for cell in row)
        cells = "".join(f"<td>{_offer(cell, inner, offers)}</td>" for cell, inner in zip(row, shown, strict=True))
        rows.append(f'<tr><th scope="row">{_say(row[0], grid.rows)}{_tell_right(row)}</th>{cells}</tr>')
    told = f'<p role="status"><b>{done} / {total}</b> <span>{"written" if answers else "drawn"}</span></p>'
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    table = f"<table><thead><tr><td></td>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'{told}<div class="hotlora-beside" tabindex="0" data-run="{escape(grid.title)}">{table}</div>'


def _say(cell: Cell, axis: str) -> str:
    value = getattr(cell, axis)
    said = f"{value:g}" if isinstance(value, float) else str(value)
    if axis in ("prompt", "checkpoint"):
        return escape(said)
    return "<span>without LoRA</span>" if axis == "weight" and not value else f"<span>{axis}</span> {escape(said)}"


def _score(grid: Grid, place: int, answers: Mapping[str, str], offers: Offers) -> str:
    """The mean scores of a column's answers, where right ones are known."""
    column = [row[place] for row in grid.cells if row[place].wanted and row[place].name in answers]
    graded = [offers.grade(cell.wanted, answers[cell.name]) for cell in column] if offers.grade else []
    names = dict.fromkeys(name for scores in graded for name in scores)
    means = {name: statistics.fmean(scores[name] for scores in graded if name in scores) for name in names}
    return "".join(f"<small><span>{name}</span> {mean:.0%}</small>" for name, mean in means.items())


def _tell_right(row: tuple[Cell, ...]) -> str:
    wanted = {cell.wanted for cell in row}
    return f"<small><span>right:</span> {escape(row[0].wanted)}</small>" if len(wanted) == 1 and row[0].wanted else ""


def _show(cell: Cell, path: Path | None, answers: Mapping[str, str], side: int) -> str:
    """The sample itself; nothing where it is not there."""
    words = escape(f"{cell.checkpoint}, {cell.weight:g}: {cell.prompt}")
    if cell.name in answers:
        return f'<pre role="button" tabindex="0" title="{words}">{escape(answers[cell.name])}</pre>'
    source = picture_source(path, side) if path else ""
    return f'<img loading="lazy" src="{source}" alt="{words}" role="button" tabindex="0">' if source else ""


def _offer(cell: Cell, inner: str, offers: Offers) -> str:
    if not inner:
        return '<span class="hotlora-muted">…</span>'
    is_there = cell.checkpoint in offers.others  # its sample may be all that is left
    can_be_used = cell.weight and is_there
    use = f' data-tag="{escape(f"<lora:{cell.adapter}:{cell.weight:g}>")}"' if offers.uses_tag and can_be_used else ""
    use += f' data-strength="{cell.weight:g}"' if offers.applies and can_be_used else ""
    keep = f' data-keep="{escape(cell.checkpoint)}" data-gone="{escape(offers.others[cell.checkpoint])}"' if is_there else ""
    return f"<figure{use}{keep}>{inner}</figure>"
