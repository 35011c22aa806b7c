"""*Regularisation pictures*, in the data place: of which words, how many, into which folder; how far they are.

What is drawn is decided elsewhere (``Studio.class_pictures``). The script (javascript/hotlora_class.js) asks how far it is while it is at
work, and puts the folder into the rows of folders.
"""

from typing import Any

import gradio as gr

from .compat import answer, listen, offer_one, tell_answered
from .draw import escape
from .studio import Studio


class ClassSection:
    """Widgets and answers."""

    def __init__(self, studio: Studio, said: Any):
        assert studio.class_pictures
        self._desk, self._said = studio.class_pictures, said

    def build(self) -> None:
        """Make the widgets."""
        place = f"<span>They go into a folder of their own in</span> <b>{escape(self._desk.folder)}</b>"
        with gr.Accordion("Regularisation pictures by the model itself", open=False, elem_id="hotlora_class"):
            self.words = gr.Textbox(
                label="Class words",
                info="What the pictures show without the LoRA, such as: photo of a person. Each line is a prompt; they are taken in turn.",
                lines=2,
                elem_id="hotlora_class_prompts",
                interactive=True,
            )
            with gr.Row():
                self.count = gr.Number(
                    label="How many",
                    info="0: as many as pictures times repeats, up to four hundred.",
                    value=0,
                    precision=0,
                    elem_id="hotlora_class_count",
                    interactive=True,
                )
                self.name = gr.Textbox(
                    label="Name of their folder",
                    placeholder="by the class words",
                    max_lines=1,
                    elem_id="hotlora_class_name",
                    interactive=True,
                )
            gr.HTML(f'<p class="hotlora-muted">{place}</p>')
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.draw = gr.Button("Draw", size="sm", variant="primary", elem_id="hotlora_draw_class")
                self.stop = gr.Button("Stop", size="sm", elem_id="hotlora_stop_class")
            self.status = gr.HTML(elem_id="hotlora_class_status", elem_classes=["hotlora-live"])
        self._tick = gr.Button("how far", elem_id="hotlora_class_tick", elem_classes=["hotlora-hidden"])

    def connect(self, recipe: Any) -> None:
        """Answer what is done with the widgets."""
        self._recipe = recipe
        asked = [self.words, self.count, self.name, *recipe.options.widgets]
        drawn = [self.status, self.draw, self.stop]
        tell_answered(answer(self.draw.click, self._start, asked, [self._said, *drawn]), "hotlora_draw_class")
        answer(self.stop.click, self._stop, [], [self._said, *drawn])
        listen(self._tick.click, self._show, [], drawn)

    def _start(self, words: str, count: float | None, name: str, *shown: Any) -> list[Any]:
        config = self._recipe.read_config(shown, named=False)
        self._desk.start(config, (words or "").splitlines(), int(count or 0), name or "")
        return ["", *self._show()]

    def _stop(self) -> list[Any]:
        self._desk.stop()
        return ["", *self._show()]

    def _show(self) -> list[Any]:
        status = self._desk.status
        return [show_class(status), *offer_one(busy=status.busy)]


def show_class(status: Any) -> str:
    """How far they are, or how it has ended; then a button that takes the folder."""
    if not status.number:
        return ""
    share = status.done / max(status.total, 1)
    bad = " hotlora-bad" if status.message.startswith(("cannot", "Drawing failed")) else ""
    said = f'<p class="hotlora-message{bad}">{escape(status.message)}</p>' if status.message else ""
    folder = escape(status.folder)
    take = f'<button type="button" data-class-folder="{folder}">Add the folder as regularisation</button>' if status.done else ""
    about = f'data-busy="{int(status.busy)}" data-number="{status.number}"'
    bar = f'<div class="hotlora-bar"><i style="width:{share:.1%}"></i></div><p><b>{status.done} / {status.total}</b> · {folder}</p>'
    return f"<div {about}>{bar}{said}{'' if status.busy else take}</div>"
