"""A grid as one page of HTML with its pictures in it: nothing else is needed to look at it, or to send it to somebody.

A click makes a picture large; then the arrow keys go through the grid in place, left and right along a row, up and down along a column.
"""

import base64
import html
import io
from pathlib import Path

from PIL import Image

from ..engine.files import write_text
from ..engine.grid import Cell, Grid

_LONGEST_SIDE = 768
_PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1em; color: #1e222c; background: #fff; }}
div {{ overflow: auto; }} table {{ border-collapse: collapse; }}
th {{ padding: 4px; text-align: left; vertical-align: top; min-width: 7em; max-width: 16em; overflow-wrap: anywhere; font-weight: 600; }}
td {{ padding: 4px; }} td img {{ width: 256px; display: block; cursor: zoom-in; }}
dialog {{ border: 0; padding: 12px; max-width: 96vw; max-height: 96vh; }}
dialog img {{ min-width: min(512px, 88vw); max-width: 92vw; max-height: 80vh; }}
p {{ max-width: 92vw; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1><div><table>{table}</table></div><dialog><p></p><img alt=""></dialog>
<script>
const rows = [...document.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
const large = document.querySelector("dialog");
let place = [0, 0];
function show(down, across) {{
    const picture = ((rows[down] || [])[across] || large).querySelector("td img");
    if (!picture) return;
    place = [down, across];
    large.querySelector("img").src = picture.src;
    large.querySelector("p").textContent = picture.alt;
}}
document.querySelector("table").addEventListener("click", (event) => {{
    const row = rows.findIndex((cells) => cells.includes(event.target.closest("td")));
    if (row < 0 || event.target.tagName !== "IMG") return;
    show(row, rows[row].indexOf(event.target.closest("td")));
    large.showModal();
}});
large.addEventListener("keydown", (event) => {{
    const by = {{ ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }}[event.key];
    if (!by) return;
    event.preventDefault();
    show(place[0] + by[0], place[1] + by[1]);
}});
large.addEventListener("click", () => large.close());
</script>
"""


def write_grid_page(grid: Grid, title: str) -> Path:
    """``grid.html`` beside the pictures. Raises UserError where the disk is full."""
    paths = grid.paths()
    heads = "".join(f"<th>{_say(cell, grid.columns)}</th>" for cell in grid.cells[0])
    rows = []
    for row in grid.cells:
        cells = "".join(_show(cell, grid, paths.get(cell.name)) for cell in row)
        rows.append(f"<tr><th>{_say(row[0], grid.rows)}</th>{cells}</tr>")
    table = f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    page = grid.folder / "grid.html"
    write_text(page, _PAGE.format(title=html.escape(title), table=table))
    return page


def _say(cell: Cell, axis: str) -> str:
    value = getattr(cell, axis)
    said = f"{value:g}" if isinstance(value, float) else str(value)
    return html.escape(said if axis in ("prompt", "checkpoint") else "without LoRA" if axis == "weight" and not value else f"{axis} {said}")


def _show(cell: Cell, grid: Grid, path: Path | None) -> str:
    if path is None:
        return "<td>…</td>"
    words = f"{_say(cell, grid.columns)}: {_say(cell, grid.rows)}"
    return f'<td><img loading="lazy" alt="{words}" src="{_embed(path)}"></td>'


def _embed(path: Path) -> str:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
