"""Below the list of runs: the tools for their LoRAs. What each does is in the room ``toolbox``; only files that runs have written can be
named, so nobody reaches others from here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.entries import Entry
from ..engine.errors import UserError
from ..engine.names import check_name
from ..toolbox.adapters import check_output
from ..toolbox.converting import FORMS
from ..toolbox.looking import check, describe, tell
from ..toolbox.opening import is_text_lora
from ..toolbox.resizing import Size
from ..toolbox.workbench import convert_file, merge_files, resize_file
from .compat import answer, message, tell_answered
from .draw import escape
from .studio import Studio

LOOK, LOADS, SMALLER, MERGE, CONVERT = "Look into it", "Will it load?", "Make it smaller", "Merge into one", "Write another form"
_FIELDS = {LOOK: "", LOADS: "", SMALLER: "rank name", MERGE: "weights rank name", CONVERT: "form name"}  # tool -> what it asks for
_FORMS = dict(zip(("for A1111, Forge and ComfyUI", "for diffusers", "for peft, a folder"), FORMS, strict=True))


class ToolsSection:
    """Widgets and answers for what people do with finished LoRAs."""

    def __init__(self, studio: Studio, said: Any):
        self._jobs, self._said = studio.jobs, said

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
                "name": gr.Textbox(label="Name of the new LoRA", max_lines=1, visible=False, elem_id="hotlora_tool_name", **how),
            }
            self.do = gr.Button("Do it", size="sm", elem_id="hotlora_tool_do")
            self.told = gr.HTML(elem_id="hotlora_tool_told", elem_classes=["hotlora-live"])

    def connect(self) -> None:
        """Answer what is done with the widgets."""
        fields = list(self.fields.values())
        answer(self.tool.input, self._choose, [self.tool], [self._said, self.told, *fields])
        done = answer(self.do.click, self._do, [self.tool, self.files, *fields], [self._said, self.told])
        tell_answered(done, "hotlora_tool_do")

    @staticmethod
    def list_files(entries: Sequence[Entry], shown: str) -> list[str]:
        """What can be chosen: of each run what it ended with, and of the one that is shown its checkpoints too."""
        found = [(entry.name, file) for entry in entries for file in entry.outline.files[::-1]]
        return [f"{name}/{Path(file.path).name}" for name, file in found if file.kind != "checkpoint" or name == shown]

    def _choose(self, tool: str) -> list[Any]:
        """What it asks for; what the last one has told is no answer of this one."""
        return ["", "", *(gr.update(visible=name in _FIELDS[tool].split()) for name in self.fields)]

    def _do(self, tool: str, chosen: list[str], rank: float | None, weights: str, form: str, name: str) -> tuple[str, str]:
        rank = rank or 0
        loras = [self._find(file) for file in chosen or []]
        if not loras:
            raise UserError("cannot do that to nothing: no LoRA is chosen. Choose one under LoRAs.")
        if tool in (LOOK, LOADS):
            lines = [line for lora in loras for line in (tell(describe(lora)) if tool == LOOK else check(lora))]
            return "", _show(lines)
        if tool == MERGE:
            output = self._name(name, loras[0])
            size = Size(int(rank)) if rank else None
            lines = merge_files(loras, _read_weights(weights), output, size)
        elif len(loras) > 1:
            raise UserError(f"cannot do that to {len(loras)} LoRAs at once: the new one has one name. Choose one under LoRAs.")
        elif tool == SMALLER:
            if rank < 1:
                raise UserError("cannot make a LoRA of rank 0: nothing would be left. Set New rank to 1 or more.")
            output = self._name(name, loras[0])
            lines = resize_file(loras[0], output, Size(int(rank)))
        else:
            output = self._name(name, loras[0], is_folder=_FORMS[form] == "peft")
            lines = convert_file(loras[0], output, _FORMS[form])
            lines += check(output) if output.is_file() else []  # a form that the program at hand does not read is no use there
        return message(f"'{output.name}' is written."), _show(lines)

    def _find(self, chosen: str) -> Path:
        name, _, file = chosen.rpartition("/")
        known = [Path(saved.path) for saved in self._jobs.outline(name).files if Path(saved.path).name == file]
        if not known or not known[0].exists():
            raise UserError(f"cannot use '{chosen}': its run has no such file any more. Choose another under LoRAs.")
        return known[0]

    def _name(self, name: str, source: Path, *, is_folder: bool = False) -> Path:
        """Where the program finds it under that name; without a program, beside the LoRA that it is made of."""
        name = check_name((name or "").strip(), "the new LoRA")
        library = self._jobs.library
        if library:
            library.check_name(name)
        output = (library.folder() if library else source.parent) / (name if is_folder or is_text_lora(source) else f"{name}.safetensors")
        check_output(output, overwrite=False)
        return output


def _read_weights(text: str) -> list[float]:
    parts = [part for part in (text or "").replace(";", ",").split(",") if part.strip()]
    try:
        return [float(part) for part in parts]
    except ValueError as error:
        raise UserError(f"cannot read the weights '{text}': one of them is no number. Write them as 1, 0.6.") from error


def _show(lines: Sequence[str]) -> str:
    return f'<div class="hotlora-page" tabindex="0"><pre>{escape(chr(10).join(lines))}</pre></div>'
