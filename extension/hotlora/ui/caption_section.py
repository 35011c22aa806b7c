"""*Write captions*, in the data place: who writes them and how they are to look, how far it is, and proposals to accept or refuse.

What is written is decided elsewhere (``Studio.captions``); the page shows it. The script (javascript/hotlora_captions.js) asks how far
it is while it is at work.
"""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ..engine.errors import UserError
from .compat import answer, listen, message, offer_one, tell_answered
from .draw import escape, notes
from .labels import CAPTION_LABELS, in_labels
from .studio import Studio
from .widgets import OptionWidgets

_FIRST = ("captioner", "as_proposals")
_NEEDED = {"blip": "blip_model", "onnx": "tagger_folder", "endpoint": "endpoint_url"}  # captioner -> what it does not work without
_SHOWN = 60


class CaptionSection:
    """Widgets and answers."""

    def __init__(self, studio: Studio, said: Any):
        assert studio.captions
        self._desk, self._said = studio.captions, said

    def build(self) -> None:
        """Make the widgets."""
        kinds = self._desk.list_kinds()
        labels, self._keys = [label for _, label in kinds], {label: key for key, label in kinds}
        self.settings = OptionWidgets(self._desk.settings_class, {"captioner": lambda: labels}, {}, {"captioner": labels[0]})
        with gr.Accordion("Write captions", open=False, elem_id="hotlora_captions"):
            self._make("captioner")
            self._needed = {
                key: self._make(name, visible=key == kinds[0][0]) for key, name in _NEEDED.items() if key in self._keys.values()
            }
            self._make("as_proposals")
            with gr.Accordion("How captions are written", open=False):
                for name in self.settings.fields:
                    if name not in (*_FIRST, *_NEEDED.values()):
                        self._make(name)
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.write = gr.Button("Write captions", size="sm", variant="primary", elem_id="hotlora_write_captions")
                self.stop = gr.Button("Stop", size="sm", elem_id="hotlora_stop_captions")
            self.status = gr.HTML(elem_id="hotlora_captions_status", elem_classes=["hotlora-live"])
            self.proposals = gr.HTML(elem_id="hotlora_proposals", elem_classes=["hotlora-live"])
            with gr.Row(elem_classes=["hotlora-buttons", "hotlora-apart"], visible=False) as self.all:
                self._accept = gr.Button("Accept all", size="sm", elem_id="hotlora_accept_all")
                self._refuse = gr.Button("Refuse all", size="sm", elem_id="hotlora_refuse_all")
        self._tick = gr.Button("how far", elem_id="hotlora_captions_tick", elem_classes=["hotlora-hidden"])
        self._decide = gr.Button("decide", elem_id="hotlora_decide", elem_classes=["hotlora-hidden"])
        self._decision = gr.Textbox(elem_id="hotlora_decision", elem_classes=["hotlora-hidden"])

    def _make(self, name: str, **options: Any) -> Any:
        return self.settings.make(name, label=CAPTION_LABELS.get(name, ""), elem_classes=["hotlora-setting"], **options)

    def _show_needed(self, captioner: str) -> Any:
        shown = [gr.update(visible=key == self._keys.get(captioner)) for key in self._needed]
        return shown if len(shown) > 1 else shown[0]

    def connect(self, recipe: Any) -> None:
        """Answer what is done with the widgets."""
        self._recipe, everything = recipe, recipe.options.widgets
        drawn = [self.proposals, self.all]
        if self._needed:
            listen(
                self.settings.made["captioner"].change, self._show_needed, [self.settings.made["captioner"]], list(self._needed.values())
            )
        progress = [self.status, self.write, self.stop]
        started = answer(self.write.click, self._start, [*self.settings.widgets, *everything], [self._said, *progress, *drawn])
        tell_answered(started, "hotlora_write_captions")
        answer(self.stop.click, self._stop, [], [self._said, *progress])
        listen(self._tick.click, self._show_progress, everything, [*progress, *drawn])
        decision = f"(...values) => [window.hotloraDecision || '', ...values.slice(1, {1 + len(everything)})]"
        decided = [self._said, *drawn]
        answering = answer(self._decide.click, self._take_decision, [self._decision, *everything], decided, js=decision)
        listen(answering.then, None, js="() => { hotloraDecided(); }")
        for button, accept in ((self._accept, "true"), (self._refuse, "false")):
            listen(button.click, None, js=f"() => {{ hotloraDecide(null, {accept}); }}")

    def _start(self, *shown: Any) -> tuple:
        count = len(self.settings.widgets)
        config = self._recipe.read_config(shown[count:], named=False)
        self._desk.start(config, self.settings.values(shown[:count]))
        return "", *self._show(), *self._show_proposals(config, self._recipe.options.read_text("train_data_dir", shown[count:]))

    def _stop(self) -> list[Any]:
        self._desk.stop()
        return ["", *self._show()]

    def _show(self) -> list[Any]:
        status = self._desk.status
        return [show_status(status), *offer_one(busy=status.busy)]

    def _show_progress(self, *shown: Any) -> tuple:
        """The proposals only where it is at rest: they need a look into the folder."""
        shows = self._show()
        if self._desk.status.busy:
            return *shows, gr.update(), gr.update()
        try:
            config = self._recipe.read_config(shown, named=False)
            return *shows, *self._show_proposals(config, self._recipe.options.read_text("train_data_dir", shown))
        except UserError:  # the folder may be none by now, which is said where it is looked at
            return *shows, "", gr.update(visible=False)

    def _take_decision(self, decision: str, *shown: Any) -> tuple:
        folder, name, accept = json.loads(decision)
        config = self._recipe.read_config(shown, named=False, folder=folder)
        told = self._desk.decide(config, None if name is None else [name], accept=accept)
        return message(told), *self._show_proposals(config, folder)

    def _show_proposals(self, config: Any, folder: str) -> tuple:
        proposals = self._desk.list_proposals(config)
        return show_proposals(proposals, folder), gr.update(visible=bool(proposals))


def show_status(status: Any) -> str:
    """How far it is, or how it has ended."""
    if not (status.busy or status.message):
        return ""
    share = status.done / status.total if status.total else 0.0
    counts = f"<b>{status.done} / {status.total}</b> · <span>written</span> <b>{status.written}</b>"
    counts += f" · <span>proposed</span> <b>{status.proposed}</b> · {escape(status.folder)}"
    bad = " hotlora-bad" if status.message.startswith(("cannot", "This failed")) else ""
    said = f'<p class="hotlora-message{bad}">{escape(in_labels(status.message))}</p>' if status.message else ""
    bar = f'<div class="hotlora-bar"><i style="width:{share:.1%}"></i></div>' if status.total else ""
    state = f'data-busy="{int(status.busy)}" data-number="{status.number}"'
    return f"<div {state}>{bar}<p>{counts if status.total else ''}</p>{said}{notes(status.problems)}</div>"


def show_proposals(proposals: Sequence[Any], folder: str) -> str:
    """Each beside what is there; the first of them, where there are many.

    Args:
        folder: of the pictures, as the page names it.
    """
    if not proposals:
        return ""
    items = []
    for proposal in proposals[:_SHOWN]:
        name = escape(proposal.name)
        there = f"<del>{escape(proposal.caption)}</del>" if proposal.caption else '<del class="hotlora-muted">no caption</del>'
        buttons = '<button type="button" data-accept="1">Accept</button><button type="button" data-accept="0">Refuse</button>'
        texts = f"<b>{name}</b>{there}<ins>{escape(proposal.proposed)}</ins>"
        items.append(f'<li data-proposal="{name}"><img alt="" hidden><div>{texts}</div><p class="hotlora-apart">{buttons}</p></li>')
    more = len(proposals) - _SHOWN
    rest = f'<p class="hotlora-muted">+ {more}</p>' if more > 0 else ""
    return f'<div data-of="{escape(folder)}"><h4>Proposals</h4><ul class="hotlora-proposals">{"".join(items)}</ul>{rest}</div>'
