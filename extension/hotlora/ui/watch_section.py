"""The third place: what will happen, what is happening, what came of it; and all runs there are.

Neither Gradio has a timer: the page's script presses a hidden button every two seconds while somebody looks. What is shown then
is drawn and sent only where it has changed for that page; a page keeps no more than a mark of what it was sent.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.entries import tell_share
from ..engine.errors import UserError
from ..engine.history import History
from .charts import ALSO, draw_losses
from .compat import answer, listen, message, tell_answered
from .draw import escape, hint
from .drawings import Drawing, menu, text, widget
from .grid_section import GridSection
from .keeping_section import KeepingSection
from .now import show_now
from .samples import mark_samples, show_samples
from .search_section import SearchSection
from .steering import Steering
from .studio import Studio
from .thumbnails import Thumbnails
from .views import describe_rows, show_left, show_log, show_outlook, show_runs, show_status

_SMOOTHING = 0.9
_ALIVE = ("preparing", "training", "drawing", "searching", "paused", "stopping")
_RESUMABLE = ("stopped", "failed", "interrupted", "not started")


class WatchSection:
    """Widgets and answers of the watch place."""

    def __init__(self, studio: Studio, said: Any, search: SearchSection):
        self._studio, self._jobs, self._said, self._search = studio, studio.jobs, said, search
        self._keeping, self._thumbnails = KeepingSection(studio, said), Thumbnails()
        self._grid, self._steering = GridSection(studio), Steering(studio.jobs, said)

    def build(self) -> None:
        """Make the widgets."""
        gr.HTML("<h3><i>3</i> <span>Watch</span></h3>", elem_id="hotlora_watch")
        self.now = gr.HTML(elem_id="hotlora_now", elem_classes=["hotlora-live"])
        with gr.Column(visible=False, scale=0, elem_id="hotlora_left") as self.left:
            self.left_runs = gr.HTML(elem_id="hotlora_left_runs", elem_classes=["hotlora-live"])
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.go_on_with_left = gr.Button("Go on with them", size="sm", elem_id="hotlora_go_on_with_left", variant="primary")
                self.forget_left = gr.Button("Forget them", size="sm", elem_id="hotlora_forget_left")
        self.status = gr.HTML(hint("Press Train, and watch it here."), elem_id="hotlora_status", elem_classes=["hotlora-live"])
        with gr.Row(elem_classes=["hotlora-buttons"]):
            self._steering.build()
            word, visible = ("Use now", True) if self._studio.shelf else ("Use in txt2img", self._studio.uses_tag)
            self.use = gr.Button(word, size="sm", elem_id="hotlora_use", interactive=False, visible=visible, variant="primary")
            tell = gr.Button("Tell me when it ends", size="sm", elem_id="hotlora_tell")
        listen(tell.click, None, js="() => { hotloraTell(); }")
        self._search.build_result()
        self.chart = gr.HTML(elem_id="hotlora_chart", elem_classes=["hotlora-live"])
        with gr.Row(elem_id="hotlora_chart_options"):
            self.smoothing = gr.Slider(
                label="Smoothing", minimum=0, maximum=0.99, step=0.01, value=_SMOOTHING, elem_id="hotlora_smoothing", interactive=True
            )
            self.also = gr.CheckboxGroup(
                label="Show as well", choices=list(ALSO), value=list(ALSO[:1]), elem_id="hotlora_also", interactive=True
            )
        self.samples = gr.HTML(elem_id="hotlora_samples", elem_classes=["hotlora-live"])
        self._grid.build()
        with gr.Accordion("Log", open=False):
            self.log = gr.HTML(elem_id="hotlora_log", elem_classes=["hotlora-live"])
        self._build_runs()
        self._tick = gr.Button("tick", elem_id="hotlora_tick", elem_classes=["hotlora-hidden"])
        self._beat = gr.HTML(elem_id="hotlora_beat", elem_classes=["hotlora-hidden"])
        self.sent = gr.State({})
        self._move = gr.Button("move", elem_id="hotlora_move", elem_classes=["hotlora-hidden"])
        self._moved = gr.Textbox(elem_id="hotlora_moved", elem_classes=["hotlora-hidden"])
        self._choose = gr.Button("choose", elem_id="hotlora_choose", elem_classes=["hotlora-hidden"])

    def _build_runs(self) -> None:
        """All runs there are, and what is done with one that does not train."""
        with gr.Accordion("Runs", open=True):
            with gr.Row():
                self.run = gr.Dropdown(label="Run", info="The one shown above.", choices=[], elem_id="hotlora_run", interactive=True)
                self.compare = gr.Dropdown(
                    label="Compare with",
                    info="Curves side by side.",
                    choices=[],
                    multiselect=True,
                    elem_id="hotlora_compare",
                    interactive=True,
                )
            self.runs = gr.HTML(elem_id="hotlora_runs", elem_classes=["hotlora-live"])
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.resume = gr.Button("Resume", size="sm", elem_id="hotlora_resume", interactive=False)
                self.go_on_from = gr.Button("Continue from it", size="sm", elem_id="hotlora_continue", interactive=False)
                self.take_recipe = gr.Button("Use its recipe", size="sm", elem_id="hotlora_take_recipe", interactive=False)
                self.delete = gr.Button("Delete", size="sm", variant="stop", elem_id="hotlora_delete", interactive=False)
            self.copies = gr.Checkbox(
                label="Delete its copies in the LoRA folder too",
                value=False,
                visible=self._jobs.library is not None,
                elem_id="hotlora_copies",
                interactive=True,
            )
            self._keeping.build()

    def connect(self, recipe: Any, shelf: Any = None) -> None:
        """Answer what is done with the widgets."""
        said, run = self._said, self.run
        self._drawn = [
            *(recipe.model, recipe.cancel_look, recipe.outlook, self.status, self.chart, self.samples, self.log, self.runs),
            *(run, self.compare, *self._steering.drawn, self.use),
            *(self.resume, self.go_on_from, self.take_recipe, self.delete),
            *(self.left, self.left_runs, self.now),
            *self._keeping.drawn,
            *self._grid.drawn,
            *self._search.drawn,
        ]
        self._shelf = shelf
        shelved = [*shelf.names, *shelf.weights] if shelf else []
        listen(
            self._tick.click,
            self.draw,
            [run, self.compare, self.sent, self.smoothing, self.also, self._keeping.show_archived, *self._grid.asked],
            [self._beat, self.sent, *self._drawn, *shelved],
        )
        self._steering.connect(run)
        answer(self.resume.click, self._resume, [run], [said])
        answer(self.go_on_from.click, self._continue_from, [run], [said, *recipe.options.widgets])
        answer(self.take_recipe.click, self._take_recipe, [run], [said, *recipe.options.widgets])
        confirm = "(name, copies) => [hotloraConfirm('Delete this run with everything in its folder?', name) ? name : '', copies]"
        answer(self.delete.click, self._delete, [run, self.copies], [said, self.copies], js=confirm)
        moved = "() => [JSON.stringify(window.hotloraMoved || [])]"
        tell_answered(answer(self._move.click, self._move_run, [self._moved], [said], js=moved), "hotlora_move")
        chosen = listen(self._choose.click, lambda name: gr.update(value=name), [run], [run], js="() => [window.hotloraChosen]")
        listen(chosen.then, None, js="() => { hotloraAnswered('hotlora_choose'); }")
        answer(self.go_on_with_left.click, self._go_on_with_left, [], [said])
        answer(self.forget_left.click, self._forget_left, [], [said])
        if shelf:
            answer(self.use.click, self._use_now, [run], [said, *shelf.names, *shelf.weights])
        else:
            listen(self.use.click, None, js="() => { hotloraUse(); }")
        self._keeping.connect(run)
        self._grid.connect(run)
        self._search.connect(recipe, run)
        self._recipe = recipe

    # -- drawing -------------------------------------------------------------------------------------------------------

    def draw(
        self,
        selected: str | None,
        compared: list[str] | None,
        sent: Mapping[Any, Any],
        smoothing: float = _SMOOTHING,
        also: Sequence[str] = ALSO[:1],
        archived: bool = False,
        *grid: Any,
    ) -> list[Any]:
        """All that has changed since it was sent last. ``grid``: what is chosen to be compared, as of GridSection.asked."""
        chart = (float(smoothing or 0), tuple(also or ()))
        sent, answers = dict(sent), []
        described = self._describe(selected, [name for name in compared or [] if name], chart, grid, archived=bool(archived))
        for place, (shows, draw) in enumerate(described):
            mark = hashlib.blake2b(repr(shows).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
            answers.append(draw() if sent.get(place) != mark else gr.update())
            sent[place] = mark
        looks = int(sent.get(-1, 0)) + 1
        sent[-1] = looks
        shelved = self._shelf.list_changes(sent) if self._shelf else []
        return [f"<i>{looks}</i>", sent, *answers, *shelved]

    def _describe(
        self, selected: str | None, compared: list[str], chart: tuple[float, tuple[str, ...]], grid: Sequence[Any], *, archived: bool
    ) -> Iterator[Drawing]:
        """The content of each widget of ``_drawn``, in their order. ``archived``: runs that were put away are shown too."""
        jobs, line = self._jobs, self._jobs.list_line()
        entries = [entry for entry in jobs.list_all() if archived or not entry.marks.archived or entry.name in line]
        names = [entry.name for entry in entries]
        current = next((name for name in line if name in names), None)  # what is no run has no place here
        name = selected if selected in names else current or (names[0] if names else None)
        yield text(self._recipe.show_model())
        yield self._describe_cancelling()
        yield self._describe_outlook()
        status, has_files, drawings = self._describe_run(name, compared, chart)
        yield from drawings
        self._thumbnails.begin()
        rows = describe_rows(entries, line, self._thumbnails.find)
        yield Drawing(rows, lambda: gr.update(value=show_runs(rows)))
        yield menu(names, name, selected)
        yield menu(names, [other for other in compared if other in names], compared)
        shown = next((entry for entry in entries if entry.name == name), None)
        found = shown.outline if shown and shown.outline.search else None  # of a search
        job = jobs.find_job(name) if name else None
        freed = job is not None and job.control.freeing
        yield from self._steering.describe(status, alive=status in _ALIVE, trains=found is None, freed=freed)
        yield from self._describe_buttons(status, has_files, self._is_live(status) and not freed)
        left = jobs.list_left()
        yield widget(visible=bool(left))
        yield text(show_left(left))
        yield text(show_now(jobs))
        for shows, properties in self._keeping.describe(shown, entries, busy=status in (*_ALIVE, "waiting")):
            yield widget(**properties)._replace(shows=shows)
        yield from self._grid.describe(name, grid)
        yield from self._search.describe(found)

    def _describe_cancelling(self) -> Drawing:
        """With the look's number, because a press on *What will happen?* shows the button too."""
        outlook = self._jobs.outlook
        visible = outlook is not None and outlook.busy and not outlook.stopping
        return Drawing((visible, outlook.number if outlook else 0), lambda: gr.update(visible=visible))

    def _describe_outlook(self) -> Drawing:
        """Drawn anew at each sign of progress, not for the clock on it, which goes by itself."""
        look = self._jobs.outlook
        shows = (look.number, look.progress, look.estimate, look.error, look.cancelled, look.busy) if look else None
        return Drawing(shows, lambda: gr.update(value=show_outlook(look)))

    def _describe_run(self, name: str | None, compared: Sequence[str], chart: tuple) -> tuple[str, bool, list[Drawing]]:
        """Of the run that is shown: its status, whether it has made files, and status, chart, samples and log."""
        jobs = self._jobs
        if name is None:
            return "", False, [text(shown) for shown in (hint("Press Train, and watch it here."), "", "", "")]
        try:
            history, status, folder = jobs.history(name), jobs.status(name), jobs.find_folder(name)
            had = tell_share(jobs.find_job(name))
            now = self._show_use(name, status, history) + show_status(name, status, history, jobs.explain_wait(), had)
        except UserError as error:  # it cannot be read, or has just been deleted
            return "unreadable", False, [text(shown) for shown in (message(str(error), bad=True), "", "", "")]
        others = self._read_others(name, compared)
        curves = {name: history, **others}
        moment = (name, history.moment)
        drawings = [
            text(now),
            Drawing([chart, *((n, curve.moment) for n, curve in curves.items())], lambda: gr.update(value=draw_losses(curves, *chart)))
            if history.search is None
            else text(""),
            Drawing([(n, mark_samples(run)) for n, run in curves.items()], lambda: gr.update(value=show_samples(history, others)))
            if history.search is None
            else text(""),
            Drawing(moment, lambda: gr.update(value=show_log(history, folder))),
        ]
        return status, bool(history.files), drawings

    def _read_others(self, name: str, compared: Sequence[str]) -> dict[str, History]:
        """Those to compare with; without what is gone, or cannot be read."""
        found: dict[str, History] = {}
        for other in dict.fromkeys(compared):
            try:
                found |= {other: self._jobs.history(other)} if other != name else {}
            except UserError:
                continue
        return found

    def _describe_buttons(self, status: str, has_files: bool, live: bool) -> list[Drawing]:
        busy = status in (*_ALIVE, "waiting")
        able = (has_files or live, status in _RESUMABLE, has_files, bool(status), bool(status) and not busy)
        return [widget(interactive=is_able) for is_able in able]

    def _is_live(self, status: str) -> bool:
        return self._studio.has_live and status in ("training", "paused")

    def _show_use(self, name: str, status: str, history: History) -> str:
        """What the script puts into the prompt box: the finished LoRA, or what else of the run the program knows."""
        newest = next((file for file in reversed(history.files) if file.kind == "final"), history.files[-1] if history.files else None)
        called = f"{name}-live" if self._is_live(status) else Path(newest.path).stem if newest else name
        values = self._jobs.values(name)
        folders = [values, *(entry for entry in values.get("datasets") or [])]
        trigger = ", ".join(dict.fromkeys(str(folder["trigger_word"]) for folder in folders if folder.get("trigger_word")))
        return f'<span id="hotlora_tag" hidden data-tag="{escape(f"<lora:{called}:0.8>")}" data-trigger="{escape(trigger)}"></span>'

    # -- answering -----------------------------------------------------------------------------------------------------

    def _resume(self, name: str) -> str:
        self._jobs.resume(name)
        return ""

    def _use_now(self, name: str) -> list[Any]:
        newest = Path(self._jobs.history(name).files[-1].path).name  # as it was published
        told = self._studio.shelf.apply({newest: 1.0}) if self._studio.shelf else ""
        return [message(told, bad=True) if told else message(f"Answers come with {newest} now."), *self._shelf.show()]

    def _continue_from(self, name: str) -> list[Any]:
        newest = self._jobs.history(name).files[-1]
        values = self._jobs.values(name) | {"init_lora": newest.path, "output_name": f"{name}-2"}
        told = message("The recipe goes on from that run now. Choose new data or a new rate, then press Train.")
        return [told, *self._recipe.options.show(values)]

    def _take_recipe(self, name: str) -> list[Any]:
        return [message(f"This is the recipe of '{name}'."), *self._recipe.options.show(self._jobs.values(name))]

    def _move_run(self, moved: str) -> str:
        name, by = json.loads(moved)
        self._jobs.move(name, int(by))
        return ""

    def _go_on_with_left(self) -> str:
        refused = self._jobs.go_on_with_left()
        return message(" ".join(refused), bad=True) if refused else message("They go on in their order.")

    def _forget_left(self) -> str:
        self._jobs.forget_left()
        return message("They stay among the runs, where each can be resumed.")

    def _delete(self, name: str, copies: bool) -> tuple[str, Any]:
        if not name:
            return "", gr.update()
        self._jobs.delete(name, copies=bool(copies))
        return message(f"Deleted '{name}'."), gr.update(value=False)
