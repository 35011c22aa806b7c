"""Which column of a table is which: its first rows, and a list for each part of an example to choose its column from."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import yaml

from ..engine.errors import UserError
from ..engine.examples import Columns
from .compat import answer, listen
from .draw import escape, hint
from .studio import Studio

_NONE = "none"
_PARTS = ("question", "answer", "system", "context", "text", "messages", "source")
_KNOWN = "These names are known: there is nothing to choose, unless something else is meant."
_UNKNOWN = "Choose the columns of question and answer, or of a text."


class ColumnsSection:
    """Widgets and answers. What is chosen is the option ``columns``, and is kept as options are."""

    def __init__(self, studio: Studio, said: Any):
        self._studio, self._said = studio, said

    def build(self) -> None:
        """Make the widgets; what is below the button opens with it, or by itself where names are not known."""
        self.open = gr.Button("Which column is which", elem_id="hotlora_columns_open", size="sm")
        with gr.Group(visible=False, elem_id="hotlora_mapping") as self.group:
            self._table = gr.HTML("", elem_id="hotlora_columns_table", elem_classes=["hotlora-live"])
            with gr.Row():
                self._parts = [
                    gr.Dropdown(
                        label=part.capitalize(),
                        choices=[_NONE],
                        value=_NONE,
                        elem_id=f"hotlora_column_{part}",
                        interactive=True,
                        min_width=140,
                    )
                    for part in _PARTS
                ]

    def connect(self, recipe: Any, look: Any) -> None:
        """``look``: the button that shows the data."""
        self._recipe = recipe
        everything, shown = recipe.options.widgets, [self.group, self._table, *self._parts]
        answer(self.open.click, self._show, everything, [self._said, *shown])
        listen(look.click, self._offer, everything, shown)
        for part in self._parts:
            listen(part.input, self._choose, self._parts, [recipe.options.made["columns"]])

    def _show(self, *values: Any) -> tuple:
        assert self._studio.look_at_columns
        return "", *self._fill(self._studio.look_at_columns(self._recipe.read_config(values, named=False)), values)

    def _offer(self, *values: Any) -> tuple:
        """Opens where the names of columns are not known, and closes where they are; what else is wrong is said where the data is looked
        at."""
        assert self._studio.look_at_columns
        try:
            seen = self._studio.look_at_columns(self._recipe.read_config(values, named=False))
        except UserError:
            seen = None
        if seen and not seen.is_known:
            return self._fill(seen, values)
        return gr.update(visible=False), *(gr.update() for _ in range(1 + len(_PARTS)))

    def _fill(self, seen: Columns, values: Sequence[Any]) -> tuple:
        choices = [_NONE, *seen.names]
        chosen = [gr.update(choices=choices, value=seen.meant.get(part, _NONE)) for part in _PARTS]
        folder = self._recipe.options.read_text("train_data_dir", values)
        return gr.update(visible=True), show_columns(seen, folder), *chosen

    def _choose(self, *chosen: Any) -> str:
        """The option's text."""
        columns = {part: column for part, column in zip(_PARTS, chosen, strict=True) if column and column != _NONE}
        return yaml.safe_dump(columns, allow_unicode=True, default_flow_style=True, width=1000, sort_keys=False).strip() if columns else ""


def show_columns(seen: Columns, folder: str) -> str:
    """The first rows as a table. ``folder``: as the page names it."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in seen.names)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in seen.rows)
    told = hint(_KNOWN if seen.is_known else _UNKNOWN)
    table = f"<table><caption>{escape(seen.file)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div data-of="{escape(folder)}">{told}<div class="hotlora-columns" tabindex="0">{table}</div></div>'
