"""A grid of answers as one page of HTML and one of Markdown, with how good the answers are where the right ones are known."""

import html
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..engine.files import write_text
from ..engine.grid import Cell, Grid
from .comparison import quote
from .grading import grade_answer

_PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1em; color: #1e222c; background: #fff; }}
div {{ overflow: auto; }} table {{ border-collapse: collapse; }}
th, td {{ padding: 6px; text-align: left; vertical-align: top; border-top: 1px solid #8884; overflow-wrap: anywhere; }}
th {{ min-width: 8em; max-width: 18em; font-weight: 600; white-space: pre-wrap; }} td {{ min-width: 14em; max-width: 30em; }}
pre {{ margin: 0; white-space: pre-wrap; font: inherit; }} small {{ color: #5a6070; display: block; font-weight: 400; }}
</style>
<h1>{title}</h1><div><table>{table}</table></div>
"""


def read_answers(grid: Grid) -> dict[str, str]:
    """Cell's name -> answer, of those that are there."""
    return {name: path.read_text(encoding="utf-8") for name, path in grid.paths().items()}


def score_column(grid: Grid, place: int, answers: Mapping[str, str]) -> dict[str, float]:
    """Mean scores of a column's answers by name, see grade_answer; empty where no right answer is known, or none is there."""
    column = [row[place] for row in grid.cells]
    graded = [grade_answer(cell.wanted, answers[cell.name]) for cell in column if cell.wanted and cell.name in answers]
    names = dict.fromkeys(name for scores in graded for name in scores)
    return {name: statistics.fmean(scores[name] for scores in graded if name in scores) for name in names}


def write_grid_pages(grid: Grid, title: str) -> Path:
    """``grid.html`` beside the answers, and the same as ``grid.md``. Raises UserError where the disk is full."""
    answers = read_answers(grid)
    heads = [(_say(cell, grid.columns), _tell(score_column(grid, place, answers))) for place, cell in enumerate(grid.cells[0])]
    write_text(grid.folder / "grid.md", "\n".join(_list_lines(grid, title, heads, answers)))
    page = grid.folder / "grid.html"
    write_text(page, _PAGE.format(title=html.escape(title), table=_draw_table(grid, heads, answers)))
    return page


def _draw_table(grid: Grid, heads: Iterable[tuple[str, str]], answers: Mapping[str, str]) -> str:
    top = "".join(f"<th>{html.escape(said)}<small>{html.escape(scores)}</small></th>" for said, scores in heads)
    rows = []
    for row in grid.cells:
        wanted = f"<small>right: {html.escape(row[0].wanted)}</small>" if _is_asked(row) else ""
        cells = "".join(f"<td><pre>{html.escape(answers.get(cell.name, '…'))}</pre></td>" for cell in row)
        rows.append(f"<tr><th>{html.escape(_say(row[0], grid.rows))}{wanted}</th>{cells}</tr>")
    return f"<thead><tr><th></th>{top}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _list_lines(grid: Grid, title: str, heads: list[tuple[str, str]], answers: Mapping[str, str]) -> Iterable[str]:
    yield f"# {title}\n"
    yield from (f"- {said}: {scores}" for said, scores in heads if scores)
    for row in grid.cells:
        yield f"\n## {' '.join(_say(row[0], grid.rows).split())}\n"
        if _is_asked(row):
            yield f"**right**\n\n{quote(row[0].wanted)}\n"
        for (said, _), cell in zip(heads, row, strict=True):
            yield f"**{said}**\n\n{quote(answers.get(cell.name, '…'))}\n"


def _is_asked(row: tuple[Cell, ...]) -> bool:
    """Whether one right answer belongs to the whole row."""
    return bool(row[0].wanted) and len({cell.wanted for cell in row}) == 1


def _say(cell: Cell, axis: str) -> str:
    value = getattr(cell, axis)
    said = f"{value:g}" if isinstance(value, float) else str(value)
    return said if axis in ("prompt", "checkpoint") else "without LoRA" if axis == "weight" and not value else f"{axis} {said}"


def _tell(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {score:.0%}" for name, score in scores.items())
