"""The second place: how to train. Presets, the few options everybody sets, all others in Advanced, and Train."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.config import RunConfig
from ..engine.options import build, groups_of
from .compat import answer, message, uploaded_paths
from .draw import escape, hint
from .presets import export_recipe, import_recipe, list_presets, personal_options, read_preset, save_preset
from .studio import BorrowedPrompt, Studio
from .widgets import OptionWidgets

_SEEN_BY_ALL = {
    "output_name": "Name of the LoRA",
    "trigger_word": "Trigger word",
    "epochs": "Epochs",
    "max_steps": "Steps",
    "lora_rank": "Rank",
    "learning_rate": "Learning rate",
}
_SET_BY_THE_PAGE = ("task_type", "output_dir", "train_data_dir")


class RecipeSection:
    """Widgets and answers of the recipe place."""

    def __init__(self, studio: Studio, said: Any):
        self._studio, self._said = studio, said
        self._config_class = studio.jobs.config_class
        self._first_preset = list_presets(studio)[0]
        first = read_preset(self._first_preset, studio)
        self.options = OptionWidgets(self._config_class, studio.choices, studio.defaults, first)

    def build(self, borrowed: BorrowedPrompt | None) -> None:
        """Make the widgets."""
        gr.HTML("<h3><i>2</i> <span>Recipe</span></h3>")
        self.model = gr.HTML(self.show_model(), elem_id="hotlora_model", elem_classes=["hotlora-live"])
        self.preset = gr.Dropdown(
            label="Preset",
            info="Sets everything below but the name."
            if "trigger_word" not in self.options.fields
            else "Sets everything below but name and trigger word.",
            choices=list_presets(self._studio),
            value=self._first_preset,
            elem_id="hotlora_preset",
            interactive=True,
        )
        if "base_model" not in self._studio.hides:
            self.options.make("base_model", label="Base model")
        called = "What you will call it by, as in <lora:name:0.8>." if self._studio.uses_tag else "What you will call it by."
        told = {"output_name": {"info": called}}
        here = [(name, label) for name, label in _SEEN_BY_ALL.items() if name in self.options.fields]
        for first in range(0, len(here), 2):
            with gr.Row():
                for name, label in here[first : first + 2]:
                    self.options.make(name, label=label, **told.get(name, {}))
        with gr.Accordion("Advanced", open=False, elem_id="hotlora_advanced"):
            self._build_advanced(borrowed)
            self._build_files()
        with gr.Row():
            self.look_ahead = gr.Button("What will happen?", elem_id="hotlora_look_ahead")
            self.cancel_look = gr.Button("Cancel", elem_id="hotlora_cancel_look", visible=False)
            self.train = gr.Button("Train", variant="primary", elem_id="hotlora_train")

    def _build_advanced(self, borrowed: BorrowedPrompt | None) -> None:
        left_out = {*_SET_BY_THE_PAGE, *self._studio.hides, "base_model"}
        self.borrow = None
        for heading, fields in groups_of(self._config_class).items():
            names = [field.name for field in fields if field.name not in left_out and field.name not in self.options.made]
            if not names:
                continue
            gr.HTML(f"<h4>{heading}</h4>")
            if heading == "Samples" and borrowed:
                self.borrow = gr.Button("Prompt and settings as in txt2img now", elem_id="hotlora_borrow", size="sm")
                self._borrowed = borrowed
            for first in range(0, len(names), 2):
                with gr.Row():
                    for name in names[first : first + 2]:
                        self.options.make(name)

    def _build_files(self) -> None:
        gr.HTML("<h4>Keep this recipe</h4>")
        with gr.Row():
            self.preset_name = gr.Textbox(label="Name of the preset", elem_id="hotlora_preset_name")
            self.save_preset = gr.Button("Save as preset", size="sm", elem_id="hotlora_save_preset")
        with gr.Row():
            self.export = gr.Button("Export as YAML", size="sm", elem_id="hotlora_export")
            self.upload = gr.UploadButton("Import", size="sm", file_types=[".yaml", ".yml", ".json", ".toml"], elem_id="hotlora_import")
        self.exported = gr.HTML(elem_id="hotlora_exported")

    def connect(self, watch: Any) -> None:
        """Answer what is done with the widgets."""
        widgets, said = self.options.widgets, self._said
        answer(self.preset.input, self._show_preset, [self.preset, *widgets], [said, *widgets])
        answer(self.save_preset.click, self._keep_preset, [self.preset_name, *widgets], [said, self.preset])
        answer(self.export.click, self._write_yaml, widgets, [said, self.exported])
        answer(self.upload.upload, self._read_yaml, [self.upload], [said, *widgets])
        if self.borrow:
            answer(self.borrow.click, self._take_prompt, [*self._borrowed.widgets, *widgets], [said, *widgets])
        answer(self.look_ahead.click, self._look_ahead, widgets, [said, self.cancel_look])
        answer(self.cancel_look.click, self._cancel_look, [], [said, self.cancel_look])
        answer(self.train.click, self._start, widgets, [said, watch.run])

    def show_model(self) -> str:
        """Which model would be trained on, where that is not chosen on this page."""
        if "base_model" not in self._studio.hides:
            return ""
        name, reason = self._studio.model_name(), self._studio.why_not()
        if reason:
            return message(reason, bad=True)
        if not name:
            return hint("No model is loaded. Choose one first.")
        waits = self._studio.waits_for()
        return f"<p><b>Trains on</b> <code>{escape(name)}</code></p>{hint(waits) if waits else ''}"

    def read_config(self, shown: Sequence[Any], *, named: bool = True, folder: Path | None = None) -> RunConfig:
        """Checked options from what the widgets show, but for the data's folder where one is given. Raises UserError."""
        values = self._read(shown, named=named)
        return self._studio.jobs.build_config(values | {"train_data_dir": str(folder)} if folder else values)

    def _read(self, shown: Sequence[Any], *, named: bool = True) -> dict[str, Any]:
        values = self.options.values(shown)
        if not named:
            values.setdefault("output_name", "unnamed")
        trigger = values.get("trigger_word")
        if trigger and not values.get("sample_prompts"):
            values["sample_prompts"] = [trigger]
        return dict(self._studio.settings()) | values

    def _show_preset(self, name: str, *shown: Any) -> list:
        wanted = read_preset(name, self._studio)
        personal = personal_options(self._config_class)
        mine = {key: value for key, value in self.options.values(shown).items() if key in personal}
        return ["", *self.options.show(dict(self._studio.defaults) | wanted | mine)]

    def _keep_preset(self, name: str, *shown: Any) -> tuple:
        path = save_preset(name, build(self._config_class, self.options.values(shown)), self._studio)
        update = gr.update(choices=list_presets(self._studio), value=path.stem)
        return message(f"Saved as preset '{path.stem}'."), update

    def _write_yaml(self, *shown: Any) -> tuple:
        config = self.read_config(shown, named=False)
        data = base64.b64encode(export_recipe(config).encode("utf-8")).decode("ascii")
        link = f'<a download="{escape(config.name)}.yaml" href="data:text/yaml;charset=utf-8;base64,{data}">{escape(config.name)}.yaml</a>'
        return "", f"<p><b>Download</b> {link} <code>python train.py --config {escape(config.name)}.yaml</code></p>"

    def _read_yaml(self, file: Any) -> list:
        values, told = import_recipe(uploaded_paths(file)[0], self._config_class)
        if "output_dir" in values:
            values.setdefault("output_name", Path(str(values["output_dir"])).name)
        return [message(told), *self.show(values)]

    def show(self, values: dict[str, Any]) -> list[Any]:
        """What the widgets show for the options of a run."""
        return self.options.show(values)

    def _take_prompt(self, *shown: Any) -> list:
        count = len(self._borrowed.widgets)
        values = self.options.values(shown[count:])
        taken = self._borrowed.read(*shown[:count])
        prompts = [*values.get("sample_prompts", []), *taken.pop("sample_prompts", [])]
        return [message("Taken from txt2img."), *self.options.show(values | taken | {"sample_prompts": list(dict.fromkeys(prompts))})]

    def _look_ahead(self, *shown: Any) -> tuple:
        self._studio.jobs.look_ahead(self._read(shown, named=False))
        return "", gr.update(visible=True)

    def _cancel_look(self) -> tuple:
        self._studio.jobs.cancel_look()
        return message("Cancelling after what is under way."), gr.update(visible=False)

    def _start(self, *shown: Any) -> tuple:
        jobs = self._studio.jobs
        job = jobs.start(self._read(shown))
        jobs.drop_look()
        told = "" if job is jobs.current else f"'{job.name}' starts when the runs before it are done."
        return message(told), gr.update(choices=jobs.names(), value=job.name)
