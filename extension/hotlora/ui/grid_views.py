"""A grid as HTML: a table of pictures, and what can be done with each. Reads pictures; starts nothing."""

from collections.abc import Mapping
from pathlib import Path

from ..engine.grid import Cell, Grid
from .draw import escape, picture_source

_SIDES = ((24, 448), (80, 256), (400, 128))  # up to so many pictures, so large: the page holds them all


def describe_plan(count: int, *, is_training: bool) -> str:
    """What was ordered, in a sentence."""
    when = "after this step, between others" if is_training else "as soon as the model is free"
    return f"{count} pictures at most are drawn {when}, without those that are there already. Stop ends it; what is drawn stays."


def show_grid(grid: Grid, others: Mapping[str, str], uses_tag: bool) -> str:
    """How many are drawn, and the table.

    Args:
        others: label of a checkpoint that is there -> names of the files that go where only it is kept.
        uses_tag: whether a checkpoint can be put into a prompt box of the same page.
    """
    paths = grid.paths()
    done, total = grid.count()
    side = next((side for most, side in _SIDES if total <= most), _SIDES[-1][1])
    heads = "".join(f'<th scope="col">{_say(cell, grid.columns)}</th>' for cell in grid.cells[0])
    rows = []
    for row in grid.cells:
        cells = "".join(f"<td>{_show(cell, grid, paths.get(cell.name), side, others, uses_tag)}</td>" for cell in row)
        rows.append(f'<tr><th scope="row">{_say(row[0], grid.rows)}</th>{cells}</tr>')
    told = f'<p role="status"><b>{done} / {total}</b> <span>drawn</span></p>'
    table = f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'{told}<div class="hotlora-beside" tabindex="0" data-run="{escape(grid.title)}">{table}</div>'


def _say(cell: Cell, axis: str) -> str:
    value = getattr(cell, axis)
    said = f"{value:g}" if isinstance(value, float) else str(value)
    if axis in ("prompt", "checkpoint"):
        return escape(said)
    return "<span>without LoRA</span>" if axis == "weight" and not value else f"<span>{axis}</span> {escape(said)}"


def _show(cell: Cell, grid: Grid, path: Path | None, side: int, others: Mapping[str, str], uses_tag: bool) -> str:
    source = picture_source(path, side) if path else ""
    if not source:
        return '<span class="hotlora-muted">…</span>'
    words = escape(f"{cell.checkpoint}, {cell.weight:g}: {cell.prompt}")
    is_there = cell.checkpoint in others  # its picture may be all that is left
    tag = f' data-tag="{escape(f"<lora:{cell.adapter}:{cell.weight:g}>")}"' if uses_tag and cell.weight and is_there else ""
    keep = f' data-keep="{escape(cell.checkpoint)}" data-gone="{escape(others[cell.checkpoint])}"' if is_there else ""
    picture = f'<img loading="lazy" src="{source}" alt="{words}" role="button" tabindex="0">'
    return f"<figure{tag}{keep}>{picture}</figure>"
