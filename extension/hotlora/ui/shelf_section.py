"""The fourth place, in programs on whose model adapters are put: which ones it answers with, and how strongly."""

from typing import Any

import gradio as gr

from .compat import answer, message
from .studio import Live, Shelf

_AT_ONCE = 3
_NONE = "none"
_ALONE = "Answers come from the model alone."


class ShelfSection:
    """Widgets and answers of the adapters' place."""

    def __init__(self, shelf: Shelf, live: Live | None, said: Any):
        self._shelf, self._live, self._said = shelf, live, said

    def build(self) -> None:
        """Make the widgets."""
        gr.HTML("<h3><i>4</i> <span>Use</span></h3>")
        applied = list(self._shelf.applied().items())
        self._built = {"applied": repr(self._shelf.applied()), "choices": repr(self._choices())}  # what a fresh page shows
        self.names, self.weights = [], []
        for place in range(_AT_ONCE):
            name, weight = applied[place] if place < len(applied) else (_NONE, 1.0)
            with gr.Row():
                self.names.append(
                    gr.Dropdown(
                        label=f"Adapter {place + 1}",
                        choices=self._choices(),
                        value=name,
                        elem_id=f"hotlora_adapter_{place + 1}",
                        interactive=True,
                        scale=3,
                    )
                )
                self.weights.append(
                    gr.Slider(
                        label="Weight",
                        minimum=0,
                        maximum=2,
                        step=0.05,
                        value=weight,
                        elem_id=f"hotlora_weight_{place + 1}",
                        interactive=True,
                        scale=2,
                    )
                )
        with gr.Row(elem_classes=["hotlora-buttons"]):
            self.apply = gr.Button("Answer with these", size="sm", variant="primary", elem_id="hotlora_apply")
            self.clear = gr.Button("Take all off", size="sm", elem_id="hotlora_clear")
        if self._live:
            self.live = gr.Checkbox(
                label="While a run trains, answer with what it has learned so far",
                value=self._live.wanted,
                elem_id="hotlora_live",
                interactive=True,
            )

    def connect(self, sent: Any) -> None:
        """Answer what is done with the widgets. ``sent``: the page's mark of what it was sent; see :meth:`list_changes`."""
        shown = [sent, *self.names, *self.weights]
        answer(self.apply.click, self._apply, shown, [self._said, sent])
        for slider in self.weights:
            answer(slider.release, self._change_weight, shown, [self._said, sent])
        answer(self.clear.click, self._clear, [sent], [self._said, sent, *self.names])
        if self._live:
            answer(self.live.input, self._set_live, [self.live], [self._said])

    def show(self) -> list[Any]:
        """Updates for all names and weights."""
        applied = list(self._shelf.applied().items()) + [(_NONE, 1.0)] * _AT_ONCE
        names = [gr.update(choices=self._choices(), value=name) for name, _ in applied[:_AT_ONCE]]
        return [*names, *(gr.update(value=weight) for _, weight in applied[:_AT_ONCE])]

    def list_changes(self, sent: dict[Any, str]) -> list[Any]:
        """Updates for all names and weights, of what has changed since it was sent last; so that what somebody is just choosing is not
        taken back."""
        applied, choices = repr(self._shelf.applied()), repr(self._choices())
        if sent.get("applied", self._built["applied"]) != applied:
            updates = self.show()
        else:
            new = gr.update(choices=self._choices()) if sent.get("choices", self._built["choices"]) != choices else gr.update()
            updates = [*([new] * _AT_ONCE), *([gr.update()] * _AT_ONCE)]
        sent |= {"applied": applied, "choices": choices}
        return updates

    def _choices(self) -> list[str]:
        return [_NONE, *self._shelf.names()]

    def _read(self, shown: tuple[Any, ...]) -> dict[str, float]:
        pairs = zip(shown[:_AT_ONCE], shown[_AT_ONCE:], strict=True)
        return {name: float(weight) for name, weight in pairs if name and name != _NONE}

    def _put_on(self, sent: dict[Any, str], weights: dict[str, float]) -> list[Any]:
        """What is told of it, and ``sent`` with the mark that this page shows it already: what is sent again takes back what
        somebody has typed meanwhile."""
        told = self._shelf.apply(weights)
        applied = self._shelf.applied()
        return [told, {**sent, "applied": repr(applied)} if applied == weights else sent]

    def _apply(self, sent: dict[Any, str], *shown: Any) -> list[Any]:
        weights = self._read(shown)
        told, sent = self._put_on(sent, weights)
        said = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        return [message(told, bad=True) if told else message(f"Answers come with {said} now." if said else _ALONE), sent]

    def _change_weight(self, sent: dict[Any, str], *shown: Any) -> list[Any]:
        """At once, where the same adapters are on the model already."""
        weights = self._read(shown)
        if weights and list(weights) == list(self._shelf.applied()):
            return self._apply(sent, *shown)
        return ["", sent]

    def _clear(self, sent: dict[Any, str]) -> list[Any]:
        _, sent = self._put_on(sent, {})
        return [message(_ALONE), sent, *(gr.update(value=_NONE) for _ in range(_AT_ONCE))]

    def _set_live(self, wanted: bool) -> str:
        if self._live:
            self._live.wanted = bool(wanted)
        return message("Answers come from the run in training." if wanted else "Answers come from the model alone while a run trains.")
