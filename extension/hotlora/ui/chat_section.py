"""*Chats*, in the data place: the conversations that the program keeps, with ticks, and a data set of those that are chosen.

Reading and writing them is the host's (``Studio.chats``).
"""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from .compat import answer
from .draw import hint
from .question_views import show_chats
from .studio import Studio

_CHOSEN = "(...values) => [JSON.stringify(window.hotloraChosenChats()), ...values.slice(1, {count})]"


class ChatSection:
    """Widgets and answers.

    Attributes:
        use: writes what is chosen; whoever connects it calls :meth:`write` with the values of :attr:`inputs` first.
    """

    def __init__(self, studio: Studio, said: Any):
        assert studio.chats
        self._chats, self._said = studio.chats, said

    def build(self) -> None:
        """Make the widgets."""
        with gr.Accordion("Your chats with this program", open=False, elem_id="hotlora_chats"):
            gr.HTML('<p class="hotlora-muted">What was answered in the chats that you choose is learned, as it was answered.</p>')
            self._list = gr.Button("List them", size="sm", elem_id="hotlora_list_chats")
            self.shown = gr.HTML(
                hint("Chats that this program keeps appear here."), elem_id="hotlora_chats_list", elem_classes=["hotlora-live"]
            )
            self.name = gr.Textbox(
                label="Name of the data set", placeholder="my chats", max_lines=1, elem_id="hotlora_chats_name", interactive=True
            )
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.use = gr.Button("Use these", size="sm", variant="primary", elem_id="hotlora_use_chats")
        self._chosen = gr.Textbox(elem_id="hotlora_chats_chosen", elem_classes=["hotlora-hidden"])
        self.inputs = [self._chosen, self.name]

    def connect(self) -> None:
        """Answer what is done with the widgets, but for :attr:`use`."""
        answer(self._list.click, lambda: ("", show_chats(self._chats.list_chats())), [], [self._said, self.shown])

    def read_choice(self, count: int) -> str:
        """The script that hands over what is chosen in front of further values: ``count`` in all."""
        return _CHOSEN.format(count=count)

    def write(self, chosen: str, name: str) -> tuple[Path, str]:
        """The data set's folder, and what was done."""
        return self._chats.use(json.loads(chosen), name or "")
