"""Below the list of runs: the tools for their LoRAs. What each does is in the room ``toolbox``. LoRAs can only be named that runs have
written, and models that the program lists or a run might be trained on, so nobody reaches other files from here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.entries import Entry
from ..engine.errors import UserError
from ..engine.names import check_name
from ..toolbox.adapters import check_output
from ..toolbox.converting import FORMS, GGUF
from ..toolbox.errands import Errands, ErrandStatus
from ..toolbox.gguf_files import SUFFIX
from ..toolbox.looking import check, describe, tell
from ..toolbox.opening import is_text_lora
from ..toolbox.resizing import Size
from ..toolbox.workbench import bake_file, convert_file, extract_file, foresee_baking, merge_files, resize_file
from .compat import answer, message, tell_answered
from .draw import escape
from .studio import Studio

LOOK, LOADS, SMALLER, MERGE, CONVERT = "Look into it", "Will it load?", "Make it smaller", "Merge into one", "Write another form"
BAKE, EXTRACT = "Put into a model", "Take out of a model"
_FIELDS = {  # tool -> what it asks for
    **{LOOK: "files", LOADS: "files", SMALLER: "files rank name", MERGE: "files weights rank name", CONVERT: "files form name"},
    **{BAKE: "files weights model name", EXTRACT: "model tuned rank name"},
}
_FORMS = dict(
    zip(("for A1111, Forge and ComfyUI", "for diffusers", "for peft, a folder", "texts: for llama.cpp and KoboldCpp"), FORMS, strict=True)
)


class ToolsSection:
    """Widgets and answers for what people do with finished LoRAs."""

    def __init__(self, studio: Studio, said: Any):
        self._studio, self._jobs, self._said, self._errands = studio, studio.jobs, said, Errands()

    def build(self) -> None:
        """Make the widgets."""
        with gr.Accordion("Tools", open=False, elem_id="hotlora_toolbox"):
            how: dict[str, Any] = {"interactive": True}
            self.tool = gr.Radio(label="What to do", choices=list(_FIELDS), value=LOOK, elem_id="hotlora_tool", **how)
            self.files = gr.Dropdown(label="LoRAs", choices=[], value=[], multiselect=True, elem_id="hotlora_tool_files", **how)
            self.fields = {
                "rank": gr.Number(
                    label="New rank",
                    info="At most. When merging, 0 leaves everything.",
                    value=8,
                    precision=0,
                    visible=False,
                    elem_id="hotlora_tool_rank",
                    **how,
                ),
                "weights": gr.Textbox(
                    label="Weights",
                    info="In the order of the LoRAs, such as 1, 0.6; all of them 1 when empty.",
                    visible=False,
                    elem_id="hotlora_tool_weights",
                    **how,
                ),
                "form": gr.Radio(
                    label="Form", choices=list(_FORMS), value=next(iter(_FORMS)), visible=False, elem_id="hotlora_tool_form", **how
                ),
                "name": gr.Textbox(label="Name of the new file", max_lines=1, visible=False, elem_id="hotlora_tool_name", **how),
                "model": self._build_model("Model", "One of the program's, or a path: a checkpoint, or a language model's folder."),
                "tuned": self._build_model("The same model, trained further", "What it has learned beyond the first is taken out."),
            }
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.do = gr.Button("Do it", size="sm", elem_id="hotlora_tool_do")
                self.stop = gr.Button("Stop", size="sm", visible=False, elem_id="hotlora_tool_stop")
            self.work = gr.HTML(elem_id="hotlora_tool_work", elem_classes=["hotlora-live"])
            self.told = gr.HTML(elem_id="hotlora_tool_told", elem_classes=["hotlora-live"])

    def _build_model(self, label: str, info: str) -> Any:
        return gr.Dropdown(
            label=label,
            info=info,
            choices=list(self._studio.models()),
            allow_custom_value=True,
            visible=False,
            interactive=True,
            elem_id=f"hotlora_tool_{'model' if label == 'Model' else 'tuned'}",
        )

    def connect(self) -> None:
        """Answer what is done with the widgets."""
        fields = list(self.fields.values())
        answer(self.tool.input, self._choose, [self.tool], [self._said, self.told, self.files, *fields])
        done = answer(self.do.click, self._do, [self.tool, self.files, *fields], [self._said, self.told])
        tell_answered(done, "hotlora_tool_do")
        answer(self.stop.click, self._stop, [], [self._said])

    @property
    def drawn(self) -> list[Any]:
        """The widgets that :meth:`describe` describes."""
        return [self.files, self.stop, self.work, self.fields["model"], self.fields["tuned"]]

    def describe(self, files: Sequence[str]) -> list[tuple[Any, dict[str, Any]]]:
        """For each of :attr:`drawn` what it shows, and the widget's properties."""
        status, models = self._errands.status, list(self._studio.models())
        listed = (models, {"choices": models})
        return [
            (files, {"choices": files}),
            (status.busy, {"visible": status.busy}),
            (status, {"value": show_errand(status)}),
            listed,
            listed,
        ]

    @staticmethod
    def list_files(entries: Sequence[Entry], shown: str) -> list[str]:
        """What can be chosen: of each run what it ended with, and of the one that is shown its checkpoints too."""
        found = [(entry.name, file) for entry in entries for file in entry.outline.files[::-1]]
        return [f"{name}/{Path(file.path).name}" for name, file in found if file.kind != "checkpoint" or name == shown]

    def _choose(self, tool: str) -> list[Any]:
        """What it asks for; what the last one has told is no answer of this one."""
        shown = _FIELDS[tool].split()
        return ["", "", *(gr.update(visible=name in shown) for name in ("files", *self.fields))]

    def _do(self, tool: str, chosen: list[str], *asked: Any) -> tuple[str, str]:
        values = dict(zip(self.fields, asked, strict=False))
        if tool == EXTRACT:
            return self._extract(values)
        rank, weights, form, name = values["rank"] or 0, values["weights"], values["form"], values["name"]
        loras = [self._find(file) for file in chosen or []]
        if not loras:
            raise UserError("cannot do that to nothing: no LoRA is chosen. Choose one under LoRAs.")
        if tool in (LOOK, LOADS):
            lines = [line for lora in loras for line in (tell(describe(lora)) if tool == LOOK else check(lora))]
            return "", _show(lines)
        if tool == BAKE:
            return self._bake(loras, values)
        if tool == MERGE:
            output = self._name(name, loras[0], is_folder=is_text_lora(loras[0]))
            size = Size(int(rank)) if rank else None
            lines = merge_files(loras, _read_weights(weights), output, size)
        elif len(loras) > 1:
            raise UserError(f"cannot do that to {len(loras)} LoRAs at once: the new one has one name. Choose one under LoRAs.")
        elif tool == SMALLER:
            if rank < 1:
                raise UserError("cannot make a LoRA of rank 0: nothing would be left. Set New rank to 1 or more.")
            output = self._name(name, loras[0], is_folder=is_text_lora(loras[0]))
            lines = resize_file(loras[0], output, Size(int(rank)))
        else:
            is_gguf = _FORMS[form] == GGUF
            output = self._name(name, loras[0], is_folder=not is_gguf and (_FORMS[form] == "peft" or is_text_lora(loras[0])))
            output = output.with_name(f"{name.strip()}{SUFFIX}") if is_gguf else output
            lines = convert_file(loras[0], output, _FORMS[form])
            lines += check(output) if output.is_file() else []  # a form that the program at hand does not read is no use there
        return message(f"'{output.name}' is written."), _show(lines)

    def _bake(self, loras: Sequence[Path], values: dict[str, Any]) -> tuple[str, str]:
        base, weights = self._find_model(values["model"]), _read_weights(values["weights"])
        name = check_name((values["name"] or "").strip(), "the new model")
        output = base.parent / (name if is_text_lora(loras[0]) else f"{name}.safetensors")
        self._check_writing(output)
        self._errands.start(foresee_baking(base, output), lambda tell: bake_file(base, loras, weights, output, tell=tell))
        return message("It is being written. The page can be used meanwhile."), ""

    def _extract(self, values: dict[str, Any]) -> tuple[str, str]:
        base, tuned, rank = self._find_model(values["model"]), self._find_model(values["tuned"]), int(values["rank"] or 0)
        if rank < 1:
            raise UserError("cannot take out a LoRA of rank 0: there would be nothing in it. Set New rank to 1 or more.")
        output = self._name(values["name"], tuned, is_folder=base.is_dir())
        if not self._jobs.library:
            self._check_writing(output)
        self._errands.start([f"It is written to {output}."], lambda tell: extract_file(base, tuned, output, Size(rank), tell=tell))
        return message("It is being written. The page can be used meanwhile."), ""

    def _stop(self) -> str:
        self._errands.stop()
        return message("Stopping. Nothing of it is left.")

    def _find_model(self, named: str | None) -> Path:
        """One of the program's models, or a path that runs may name."""
        named = (named or "").strip()
        if not named:
            raise UserError("cannot do that without a model: none is chosen. Choose one under Model.")
        listed = self._studio.models().get(named)
        if listed:
            return listed
        self._check_allowed(named)
        path = Path(named).expanduser()
        if not path.exists():
            raise UserError(f"cannot use '{named}': there is no such file or folder. Choose another under Model.")
        return path

    def _check_allowed(self, place: str) -> None:
        """Raises UserError where runs may not name it."""
        self._jobs.build_config({"output_name": "a tool", "base_model": place})

    def _check_writing(self, output: Path) -> None:
        check_output(output, overwrite=False)
        self._check_allowed(str(output.parent.absolute()))

    def _find(self, chosen: str) -> Path:
        name, _, file = chosen.rpartition("/")
        known = [Path(saved.path) for saved in self._jobs.outline(name).files if Path(saved.path).name == file]
        if not known or not known[0].exists():
            raise UserError(f"cannot use '{chosen}': its run has no such file any more. Choose another under LoRAs.")
        return known[0]

    def _name(self, name: str, source: Path, *, is_folder: bool) -> Path:
        """Where the program finds it under that name; without a program, beside the LoRA that it is made of."""
        name = check_name((name or "").strip(), "the new LoRA")
        library = self._jobs.library
        if library:
            library.check_name(name)
        output = (library.folder() if library else source.parent) / (name if is_folder else f"{name}.safetensors")
        check_output(output, overwrite=False)
        return output


def _read_weights(text: str) -> list[float]:
    parts = [part for part in (text or "").replace(";", ",").split(",") if part.strip()]
    try:
        return [float(part) for part in parts]
    except ValueError as error:
        raise UserError(f"cannot read the weights '{text}': one of them is no number. Write them as 1, 0.6.") from error


def show_errand(status: ErrandStatus) -> str:
    """How far it is, or what came of it."""
    if not status.number:
        return ""
    if not status.busy:
        return message(" ".join(status.lines), bad=status.bad)
    share = status.done / status.total if status.total else 0
    count = f"<p><b>{status.done} / {status.total}</b></p>" if status.total else ""
    return f'<div class="hotlora-bar"><i style="width:{share:.1%}"></i></div>{count}{_show(status.lines)}'


def _show(lines: Sequence[str]) -> str:
    return f'<div class="hotlora-page" tabindex="0"><pre>{escape(chr(10).join(lines))}</pre></div>'
