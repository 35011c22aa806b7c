"""Below the samples: the checkpoints of the run side by side, to choose the best of them. Pictures and answers are made by an entry of the
line, or by the run itself while it trains (``engine.grid_job``)."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.errors import UserError
from ..engine.grid import FOLDER, read_grid
from ..engine.grid_job import foresee_grid
from ..engine.plurals import counted
from ..engine.run import FINISHED
from ..engine.tidying import find_doomed, keep_only, list_checkpoints
from .compat import answer, message, tell_answered
from .draw import hint
from .drawings import Drawing, text, widget
from .grid_views import Offers, describe_plan, show_foreseen, show_grid
from .labels import in_labels
from .studio import Studio

_ABOUT = (
    "Which checkpoint is the best? Each prompt is drawn with each checkpoint, with the same seeds. A click makes a picture large; there "
    "the arrow keys change the checkpoint in place. Pictures that are drawn already are not drawn again."
)
_ABOUT_TEXTS = (
    "Which checkpoint is the best? Each prompt is answered with each checkpoint. A click on an answer shows it in full; there the arrow "
    "keys change the checkpoint in place. Answers that are there already are not written again."
)
_AXES = {"Prompt": "prompt", "Checkpoint": "checkpoint", "Weight": "weight", "Seed": "seed", "CFG": "cfg"}


class GridSection:
    """Widgets and answers of the grid."""

    def __init__(self, studio: Studio):
        self._studio, self._jobs = studio, studio.jobs

    def build(self) -> None:
        """Make the widgets."""
        how: dict[str, Any] = {"interactive": True}
        draws = self._studio.draws_pictures
        axes = [label for label, axis in _AXES.items() if draws or axis != "cfg"]
        with gr.Accordion("Compare checkpoints", open=False, elem_id="hotlora_comparing"):
            gr.HTML(hint(_ABOUT if draws else _ABOUT_TEXTS))
            with gr.Row():
                self.rows = gr.Dropdown(label="Down", choices=axes, value="Prompt", elem_id="hotlora_grid_rows", **how)
                self.columns = gr.Dropdown(label="Across", choices=axes, value="Checkpoint", elem_id="hotlora_grid_columns", **how)
            self.checkpoints = gr.Dropdown(
                label="Checkpoints",
                info="All when empty.",
                choices=[],
                value=[],
                multiselect=True,
                elem_id="hotlora_grid_checkpoints",
                **how,
            )
            self.prompts = gr.Textbox(
                label="Prompts", info="One a line; the run's own when empty.", lines=2, elem_id="hotlora_grid_prompts", **how
            )
            self.questions = gr.Number(
                label="Questions of the data",
                info="Asked too, and graded by their right answers: kept-back ones where there are any.",
                value=0 if draws else 5,
                precision=0,
                visible=not draws,
                elem_id="hotlora_grid_questions",
                **how,
            )
            with gr.Row():
                self.numbers = {
                    field: gr.Textbox(
                        label=label, info=info, max_lines=1, visible=draws or field != "cfgs", elem_id=f"hotlora_grid_{field}", **how
                    )
                    for field, label, info in (
                        ("weights", "Weights", "Such as 0.6, 0.8, 1; 1 when empty."),
                        ("seeds", "Seeds", "Each prompt's own when empty."),
                        ("cfgs", "CFG", "Each prompt's own when empty."),
                    )
                }
            self.foreseen = gr.HTML(elem_id="hotlora_grid_foreseen", elem_classes=["hotlora-live"])
            self.do = gr.Button("Draw them" if draws else "Have them answered", size="sm", interactive=False, elem_id="hotlora_grid_draw")
            self._answer = gr.HTML(elem_id="hotlora_grid_answer", elem_classes=["hotlora-live"])
            self.grid = gr.HTML(elem_id="hotlora_grid", elem_classes=["hotlora-live"])
            self._keep = gr.Button("keep", elem_id="hotlora_grid_keep", elem_classes=["hotlora-hidden"])
            self._kept = gr.Textbox(elem_id="hotlora_grid_kept", elem_classes=["hotlora-hidden"])
            self._take = gr.Button("take", elem_id="hotlora_grid_take", elem_classes=["hotlora-hidden"])
            self._taken = gr.Textbox(elem_id="hotlora_grid_taken", elem_classes=["hotlora-hidden"])

    def connect(self, run: Any) -> None:
        """Answer what is done with the widgets. ``run``: says which run is meant."""
        tell_answered(answer(self.do.click, self._draw, [run, *self.asked], [self._answer]), "hotlora_grid_draw")
        kept = "() => [JSON.stringify(window.hotloraKept || [])]"
        tell_answered(answer(self._keep.click, self._keep_only, [self._kept], [self._answer], js=kept), "hotlora_grid_keep")
        taken = "() => [JSON.stringify(window.hotloraTaken || [])]"
        tell_answered(answer(self._take.click, self._apply, [self._taken], [self._answer], js=taken), "hotlora_grid_take")

    @property
    def asked(self) -> list[Any]:
        """The widgets that say what is to be drawn."""
        return [self.rows, self.columns, self.checkpoints, self.prompts, self.questions, *self.numbers.values()]

    @property
    def drawn(self) -> list[Any]:
        """The widgets that :meth:`describe` describes."""
        return [self.checkpoints, self.foreseen, self.do, self.grid]

    def describe(self, name: str | None, asked: Sequence[Any]) -> Iterator[Drawing]:
        """Their content, of the run that is shown. The grid is read only where something in its folder has changed.

        Args:
            asked: values of the widgets :attr:`asked`; none where they are not known.
        """
        adapters, changed, folder = self._find_adapters(name), 0, Path()
        if adapters and name:
            folder = self._jobs.find_folder(name)
            changed = _last_change(folder / FOLDER)
        yield widget(choices=list(adapters))
        yield text(self._foresee(name, asked) if adapters and name and asked else "")
        yield widget(interactive=bool(adapters))
        yield Drawing((name, changed, list(adapters)), lambda: gr.update(value=self._show(folder, adapters) if changed else ""))

    def _find_adapters(self, name: str | None) -> dict[str, Path]:
        if not name:
            return {}
        try:
            return list_checkpoints(self._jobs, name)
        except UserError:  # it has just been deleted, or cannot be read
            return {}

    def _show(self, folder: Path, adapters: dict[str, Path]) -> str:
        grid = read_grid(folder)
        others = {label: ", ".join(path.name for path in find_doomed(adapters, label)) for label in adapters}
        offers = Offers(others, uses_tag=self._studio.uses_tag, applies=self._studio.shelf is not None, grade=self._studio.grade)
        return show_grid(grid, offers) if grid else ""

    def _foresee(self, name: str, asked: Sequence[Any]) -> str:
        """How many samples it is about to be, or why it is none."""
        try:
            count, seconds = foresee_grid(self._jobs, name, self._read_plan(*asked))
        except UserError as error:
            return hint(in_labels(str(error)))
        return show_foreseen(count, seconds, draws=self._studio.draws_pictures)

    def _draw(self, name: str, *asked: Any) -> str:
        count = self._jobs.draw(name, self._read_plan(*asked))
        is_training = self._jobs.status(name) == "training"
        return message(describe_plan(count, is_training=is_training, draws=self._studio.draws_pictures))

    def _read_plan(
        self, rows: str, columns: str, checkpoints: list[str], prompts: str, questions: float | None, *numbers: str
    ) -> dict[str, Any]:
        plan: dict[str, Any] = {"rows": _AXES[rows], "columns": _AXES[columns], "checkpoints": checkpoints or []}
        plan["prompts"] = [line.strip() for line in (prompts or "").splitlines() if line.strip()]
        plan["questions"] = max(int(questions or 0), 0)
        for field, typed in zip(self.numbers, numbers, strict=True):
            plan[field] = _read_numbers(typed, self.numbers[field].label, whole=field == "seeds")
        return {key: value for key, value in plan.items() if value}

    def _apply(self, taken: str) -> str:
        name, label, strength = json.loads(taken)
        path, shelf = list_checkpoints(self._jobs, name).get(label), self._studio.shelf
        if shelf is None or path is None or path.name not in shelf.names():
            raise UserError(f"cannot use {label} of '{name}': the program has no adapter of that name any more. Choose another one.")
        told = shelf.apply({path.name: float(strength)})
        return message(told, bad=True) if told else message(f"Answers come with {path.name} now.")

    def _keep_only(self, kept: str) -> str:
        name, label = json.loads(kept)
        gone = keep_only(self._jobs, name, label)
        left = list_checkpoints(self._jobs, name)
        stay = " and ".join(dict.fromkeys(one for one in (label, FINISHED) if one in left))
        told = f"Removed {counted(len(gone), 'checkpoint')} of '{name}'. What stays: {stay}."
        return message(told if gone else f"There is nothing to remove from '{name}'.")


def _read_numbers(text: str, label: str, *, whole: bool) -> list[Any]:
    parts = [part.strip() for part in (text or "").replace(";", ",").split(",") if part.strip()]
    try:
        return [int(part) if whole else float(part) for part in parts]
    except ValueError as error:
        raise UserError(f"cannot read '{text}' under {label}: one of them is no number. Write them as 1, 2.") from error


def _last_change(folder: Path) -> int:
    """Nanoseconds; 0 where there is no such folder. Every picture that comes changes it."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
