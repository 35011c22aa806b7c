"""Finding settings: what is asked of a search, beside the recipe; and what it has found, beside what is watched.

The search itself is an entry of the line (``engine.search_job``); it is watched, stopped and resumed like any run.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from ..engine.errors import UserError
from ..engine.history import History
from ..engine.options import build
from ..engine.search_plan import say_missing
from ..engine.search_space import ALPHA, usual_space
from ..engine.searching import BEST_NAME
from ..engine.yaml_file import read_yaml
from .compat import answer, message, tell_answered
from .draw import escape, hint
from .drawings import Drawing, text, widget
from .labels import label_of
from .search_views import show_search
from .studio import Studio

_ABOUT = (
    "Is there a better rank, learning rate or kind of LoRA for your data? This trains the recipe above three times, then other settings, "
    "and judges each by examples that are kept back: a fifth of them, where the recipe keeps none back. In the end it says what is best, "
    "and whether that is more than luck. It stands in line like a run, and the model is yours in between."
)
_LABELS = {ALPHA: "Alpha", "include": "Layers", "conv_rank": "Convolutions too", "target_modules": "Layers"}


class SearchSection:
    """Widgets and answers of both."""

    def __init__(self, studio: Studio, said: Any):
        self._studio, self._jobs, self._said = studio, studio.jobs, said
        self._keys = {_LABELS.get(key) or label_of(key): key for key in usual_space(studio.jobs.config_class())}

    def build(self) -> None:
        """What is asked."""
        how: dict[str, Any] = {"interactive": True}
        with gr.Accordion("Find settings", open=False, elem_id="hotlora_finding"):
            gr.HTML(hint(_ABOUT))
            self._missing = gr.HTML(elem_id="hotlora_find_missing", elem_classes=["hotlora-live"])
            self.minutes = gr.Number(
                label="Minutes to search",
                info="Every trial is a whole run of this recipe: give the time of some twenty of them, or set fewer steps.",
                value=60,
                elem_id="hotlora_find_minutes",
                **how,
            )
            self.over = gr.CheckboxGroup(
                label="Search over",
                info="Ranks of 4 to 64, alphas of half to twice the rank, rates from a tenth to ten times yours. What is not ticked stays.",
                choices=list(self._keys),
                value=list(self._keys),
                elem_id="hotlora_find_over",
                **how,
            )
            self.others = gr.Textbox(
                label="Search over other options too",
                info="One a line, such as weight_decay=0.001..0.1 or lora_dropout=0,0.1.",
                placeholder="one per line",
                lines=2,
                elem_id="hotlora_find_others",
                **how,
            )
            self.find = gr.Button("Find settings", size="sm", elem_id="hotlora_find")
            self.answer = gr.HTML(elem_id="hotlora_find_answer", elem_classes=["hotlora-live"])

    def build_result(self) -> None:
        """What it has found."""
        self._found = gr.HTML(elem_id="hotlora_found", elem_classes=["hotlora-live"])
        self._take = gr.Button("Take these settings", size="sm", variant="primary", visible=False, elem_id="hotlora_take")

    def connect(self, recipe: Any, run: Any) -> None:
        """Answer what is done with the widgets. ``run``: says which run is shown."""
        self._recipe = recipe
        asked = [self.minutes, self.over, self.others, *recipe.options.widgets]
        tell_answered(answer(self.find.click, self._start, asked, [self.answer, run]), "hotlora_find")
        answer(self._take.click, self._take_best, [run], [self._said, *recipe.options.widgets])

    @property
    def drawn(self) -> list[Any]:
        """The widgets that :meth:`describe` describes."""
        return [self._missing, self.find, self._found, self._take]

    def describe(self, history: History | None) -> Iterator[Drawing]:
        """For each of :attr:`drawn` what it shows. ``history``: of the search that is shown; None where none is."""
        missing = _show_missing(*say_missing(self._studio.add_optuna))
        yield text(missing)
        yield widget(interactive=not missing)
        if history is None:
            yield from (text(""), widget(visible=False))
            return
        moment = (history.count, len(history.trials))
        yield Drawing(moment, lambda: gr.update(value=show_search(history)))
        yield widget(visible=bool(history.conclusion and history.conclusion.proposal))

    def _start(self, minutes: float | None, over: Sequence[str], others: str, *shown: Any) -> tuple[str, Any]:
        keep = ["lora_alpha" if key == ALPHA else key for label, key in self._keys.items() if label not in (over or ())]
        wishes = {"minutes": minutes or 0, "keep": keep, "over": [line.strip() for line in (others or "").splitlines() if line.strip()]}
        jobs = self._jobs
        job = jobs.search(self._recipe.read_options(shown), wishes)
        jobs.drop_look()
        told = "" if job is jobs.current else f"'{job.name}' starts when the runs before it are done."
        return message(told), gr.update(choices=jobs.names(), value=job.name)

    def _take_best(self, name: str) -> list[Any]:
        path = self._jobs.find_folder(name) / BEST_NAME
        if not path.is_file():
            raise UserError(f"cannot take the settings of '{name}': it has proposed none. Let it go on.")
        values = read_yaml(path)
        build(self._jobs.config_class, values)
        told = "The recipe is what the search proposes now. Press Train to have that LoRA."
        return [message(told), *self._recipe.show(values)]


def _show_missing(what: str, how: str) -> str:
    return f'<div class="hotlora-message hotlora-bad"><span>{escape(what)}</span> <span>{escape(how)}</span></div>' if what else ""
