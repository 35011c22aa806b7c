"""*Questions about documents*, in the data place: about which, how they are written, how far they are; and their review, row by row.

What is written and accepted is decided elsewhere (``Studio.questions``). The script (javascript/hotlora_questions.js) asks how far it is
while it is at work, and sends what is done with the rows as one JSON: the data set, a verdict, the rows' keys, and the words of rows that
were changed.
"""

import json
from typing import Any

import gradio as gr

from .compat import answer, listen, message, offer_one, tell_answered
from .draw import escape, hint
from .labels import QUESTION_LABELS
from .question_views import show_questions, show_review
from .studio import Studio
from .widgets import OptionWidgets

_TOLD = "The loaded model reads documents passage by passage, and writes questions and answers. Only what you accept is learned."


class QuestionSection:
    """Widgets and answers.

    Attributes:
        take: clicked by the script, with the folder that is to be trained on in :attr:`taken`.
    """

    def __init__(self, studio: Studio, said: Any):
        assert studio.questions
        self._desk, self._said = studio.questions, said

    def build(self) -> None:
        """Make the widgets."""
        self.settings = OptionWidgets(self._desk.settings_class, {}, {}, {})
        place = f"<span>They go into a folder of their own in</span> <b>{escape(self._desk.folder)}</b>"
        with gr.Accordion("Questions about documents, by the model itself", open=False, elem_id="hotlora_questions"):
            gr.HTML(f'<p class="hotlora-muted"><span>{_TOLD}</span> {place}</p>')
            self.documents = gr.Textbox(
                label="Documents",
                placeholder="the folder above",
                info="A folder of documents, or one of them: .txt, .md, .docx, .pdf, .html.",
                max_lines=1,
                elem_id="hotlora_documents",
                interactive=True,
            )
            with gr.Row():
                self._make("questions_per_passage")
                self.name = gr.Textbox(
                    label="Name of their folder",
                    placeholder="by the documents",
                    max_lines=1,
                    elem_id="hotlora_questions_name",
                    interactive=True,
                )
            with gr.Accordion("How questions are written", open=False):
                for name in self.settings.fields:
                    if name != "questions_per_passage":
                        self._make(name)
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.write = gr.Button("Write questions", size="sm", variant="primary", elem_id="hotlora_write_questions")
                self.stop = gr.Button("Stop", size="sm", elem_id="hotlora_stop_questions")
            self.status = gr.HTML(elem_id="hotlora_questions_status", elem_classes=["hotlora-live"])
            gr.HTML("<h4>Review</h4>")
            self.rows = gr.HTML(
                hint("Questions that were written appear here, to be accepted, changed or refused."), elem_id="hotlora_review"
            )
        hidden: dict[str, Any] = {"elem_classes": ["hotlora-hidden"]}
        self._tick = gr.Button("how far", elem_id="hotlora_questions_tick", **hidden)
        self._send = gr.Button("review", elem_id="hotlora_review_send", **hidden)
        self._keep = gr.Button("keep words", elem_id="hotlora_review_keep", **hidden)
        self._wish = gr.Textbox(elem_id="hotlora_review_wish", **hidden)
        self.take = gr.Button("take", elem_id="hotlora_take_questions", **hidden)
        self.taken = gr.Textbox(elem_id="hotlora_taken_questions", **hidden)

    def _make(self, name: str) -> None:
        self.settings.make(name, label=QUESTION_LABELS.get(name, ""), elem_classes=["hotlora-setting"])

    def connect(self, recipe: Any) -> None:
        """Answer what is done with the widgets."""
        self._recipe = recipe
        asked = [self.documents, self.name, *self.settings.widgets, *recipe.options.widgets]
        drawn = [self.status, self.write, self.stop]
        tell_answered(answer(self.write.click, self._start, asked, [self._said, *drawn]), "hotlora_write_questions")
        answer(self.stop.click, self._stop, [], [self._said, *drawn])
        listen(self._tick.click, self._show, [], drawn)
        wish = "(...values) => [window.hotloraReview || '']"
        reviewed = answer(self._send.click, self._review, [self._wish], [self._said, self.rows], js=wish)
        listen(reviewed.then, None, js="() => { hotloraReviewed(); }")
        answer(self._keep.click, self._keep_words, [self._wish], [self._said], js=wish)

    def _start(self, documents: str, name: str, *shown: Any) -> list[Any]:
        count = len(self.settings.widgets)
        config = self._recipe.read_config(shown[count:], named=False, folder=(documents or "").strip() or None)
        self._desk.start(config, self.settings.values(shown[:count]), name or "")
        return ["", *self._show()]

    def _stop(self) -> list[Any]:
        self._desk.stop()
        return ["", *self._show()]

    def _show(self) -> list[Any]:
        status = self._desk.status
        return [show_questions(status), *offer_one(busy=status.busy)]

    def _review(self, wish: str) -> tuple[Any, Any]:
        """Do what was asked for, and show the rows that are there then. The script also asks by itself: then what is said on the page
        stays, which may be about something else."""
        asked = json.loads(wish)
        folders = self._desk.list_folders()
        name = asked["name"] or (folders[0] if folders else "")
        if not name:
            return gr.update(), gr.update()
        told = self._decide(name, asked) if asked["verdict"] or asked["texts"] else ""
        page = self._desk.review(name, start=asked["start"], refused=asked["refused"])
        return message(told) if asked["verdict"] else gr.update(), show_review(page, folders, refused=asked["refused"])

    def _decide(self, name: str, asked: dict[str, Any]) -> str:
        return self._desk.decide(name, asked["verdict"], asked["keys"], asked["texts"])

    def _keep_words(self, wish: str) -> Any:
        """What somebody has written into a row, and left: the list is not drawn anew, for they are in the middle of it."""
        asked = json.loads(wish)
        self._decide(asked["name"], asked | {"verdict": ""})
        return gr.update()
