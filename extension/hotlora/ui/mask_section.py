"""The button in the album's editor by which a mask is drawn on the picture, and what the drawing asks. What is written is decided elsewhere
(``Studio.editor``).

The drawing itself is the script's (javascript/hotlora_mask.js): it is sent the picture and its mask, small, and sends the mask back. A
refusal is a part of the answer, because the drawing covers the page.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from .answers import explain
from .api_mask import describe_drawing, read_sent
from .compat import answer, listen, message
from .draw import escape
from .labels import in_labels
from .studio import Editor


class MaskSection:
    """Widgets and answers.

    Args:
        read_config: (what the widgets show, folder) -> the checked options.
    """

    def __init__(self, editor: Editor, said: Any, read_config: Callable[[Sequence[Any], str], Any]):
        self._editor, self._said, self._read_config = editor, said, read_config

    def build(self) -> None:
        """In the editor, below its buttons."""
        with gr.Row(elem_classes=["hotlora-buttons"]):
            self._open = gr.Button("Draw a mask", size="sm", elem_id="hotlora_mask")
        self._ask = gr.Button("ask", elem_id="hotlora_mask_ask", elem_classes=["hotlora-hidden"])
        self._wish = gr.Textbox(elem_id="hotlora_mask_wish", elem_classes=["hotlora-hidden"])
        self._answered = gr.HTML(elem_id="hotlora_mask_answer", elem_classes=["hotlora-hidden"])

    def connect(self, edited: Any, everything: Sequence[Any]) -> None:
        """Answer what the script asks. ``edited``: the folder and name of the picture in the editor."""
        listen(self._open.click, None, js="() => { hotloraMask(); }")
        js = f"(...values) => [window.hotloraMaskWish || '', ...values.slice(1, {2 + len(everything)})]"
        inputs, outputs = [self._wish, edited, *everything], [self._said, self._answered]
        asked = answer(self._ask.click, self._answer, inputs, outputs, js=js)
        listen(asked.then, None, js="() => { hotloraMaskAnswered(); }")

    def _answer(self, wish: str, edited: tuple[str, str], *shown: Any) -> tuple[str, str]:
        asked = json.loads(wish)
        told: dict[str, Any] = {"number": asked["number"]}
        try:
            said = self._carry_out(asked, self._read_config(shown, edited[0]), told)
        except Exception as error:
            sentence = explain(error)
            if not sentence:
                raise
            told["error"], said = in_labels(sentence), message(sentence, bad=True)
        return said, f'<i data-answer="{escape(json.dumps(told))}"></i>'

    def _carry_out(self, asked: dict[str, Any], config: Any, told: dict[str, Any]) -> str:
        editor, name = self._editor, str(asked["name"])
        if asked["do"] == "open":
            told.update(describe_drawing(editor.open_mask(config, name)))
            return ""
        if asked["do"] == "remove":
            return message(editor.remove_mask(config, name))
        return message(editor.write_mask(config, name, read_sent(asked["mask"])))
