"""The second place: how to train. Presets, the few options everybody sets, all others in Advanced, and Train.

What changes from one keystroke to the next (which options have a say, which differ from the preset, what a search finds) is the script's
affair (javascript/hotlora_form.js); it is told here what it needs for that.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.config import RunConfig
from ..engine.options import build, groups_of
from .compat import answer, listen, message, tell_answered, uploaded_paths
from .draw import escape, hint
from .form import KeptForm
from .labels import FITS, NEEDS, label_of
from .presets import export_recipe, import_recipe, list_presets, personal_options, read_preset, save_preset
from .search_section import SearchSection
from .studio import BorrowedPrompt, Studio
from .widgets import OptionWidgets

_SEEN_BY_ALL = ("output_name", "trigger_word", "resolution", "lora_rank")
_LENGTHS = ("epochs", "max_steps")  # one choice
_LENGTH = (
    '<div class="hotlora-choice" role="group"><span>How long</span>'
    + "".join(f'<button type="button" data-length="{name}">{label_of(name)}</button>' for name in _LENGTHS)
    + "</div>"
)
_SEARCH = '<input type="search" id="hotlora_search" placeholder="Search the options" aria-label="Search the options">'
_HEADING = (
    '<button type="button" class="hotlora-heading" data-group="{number}" aria-expanded="false"><span>{heading}</span> '
    '<b class="hotlora-muted"></b></button>'
)
_SET_BY_THE_PAGE = ("task_type", "output_dir", "train_data_dir")


class RecipeSection:
    """Widgets and answers of the recipe place."""

    def __init__(self, studio: Studio, said: Any, search: SearchSection):
        self._studio, self._said, self._search = studio, said, search
        self._config_class = studio.jobs.config_class
        self._first_preset = list_presets(studio)[0]
        first = read_preset(self._first_preset, studio)
        self.options = OptionWidgets(self._config_class, studio.choices, studio.defaults, first)
        self._form = KeptForm(studio.presets.parent)

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
            self.options.make("base_model")
        self._build_common()
        with gr.Accordion("Advanced", open=False, elem_id="hotlora_advanced"):
            gr.HTML(_SEARCH)
            self._build_advanced(borrowed)
            self._build_files()
        self._search.build()
        with gr.Row(elem_classes=["hotlora-buttons"]):
            self.look_ahead = gr.Button("What will happen?", elem_id="hotlora_look_ahead")
            self.cancel_look = gr.Button("Cancel", elem_id="hotlora_cancel_look", visible=False)
            self.train = gr.Button("Train", variant="primary", elem_id="hotlora_train")
        self.answer = gr.HTML(elem_id="hotlora_answer", elem_classes=["hotlora-live"])
        self.outlook = gr.HTML(elem_id="hotlora_outlook", elem_classes=["hotlora-live"])
        self._build_hidden()

    def _build_common(self) -> None:
        """What everybody sets."""
        called = "What you will call it by, as in <lora:name:0.8>." if self._studio.uses_tag else "What you will call it by."
        told = {"output_name": {"info": called}}
        here = [name for name in _SEEN_BY_ALL if name in self.options.fields]
        for first in range(0, len(here), 2):
            with gr.Row():
                for name in here[first : first + 2]:
                    self.options.make(name, **told.get(name, {}))
        with gr.Row():
            with gr.Column(min_width=160):
                self.options.make("learning_rate")
            with gr.Column(min_width=160, elem_id="hotlora_length", elem_classes=["hotlora-length"]):
                for name in _LENGTHS:
                    self.options.make(name)
                gr.HTML(_LENGTH)

    def _build_hidden(self) -> None:
        """What the script works with."""
        fits = {name: list(values) for name, values in FITS.items()}
        terms = escape(json.dumps({"fits": fits, "needs": {name: list(others) for name, others in NEEDS.items()}}))
        hidden = {"elem_classes": ["hotlora-hidden"]}
        gr.HTML(f'<i id="hotlora_terms" data-terms="{terms}"></i>', elem_id="hotlora_terms_place", **hidden)
        self._baseline = gr.HTML(self._describe_preset(self._first_preset), elem_id="hotlora_baseline", **hidden)
        self._set = gr.Button("set", elem_id="hotlora_set", **hidden)
        self._keep = gr.Button("keep", elem_id="hotlora_keep", **hidden)
        self._restore = gr.Button("restore", elem_id="hotlora_restore", **hidden)
        self._brought = gr.HTML(elem_id="hotlora_kept", **hidden)
        self._wish = gr.Textbox(elem_id="hotlora_wish", **hidden)

    def _build_advanced(self, borrowed: BorrowedPrompt | None) -> None:
        left_out = {*_SET_BY_THE_PAGE, *self._studio.hides, "base_model"}
        self.borrow = None
        for number, (heading, fields) in enumerate(groups_of(self._config_class).items()):
            names = [field.name for field in fields if field.name not in left_out and field.name not in self.options.made]
            if not names:
                continue
            gr.HTML(_HEADING.format(number=number, heading=heading), elem_id=f"hotlora_heading_{number}")
            with gr.Column(elem_id=f"hotlora_group_{number}", elem_classes=["hotlora-group"]):
                if heading == "Samples" and borrowed:
                    self.borrow = gr.Button("Prompt and settings as in txt2img now", elem_id="hotlora_borrow", size="sm")
                    self._borrowed = borrowed
                for name in names:
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
        answer(self.preset.input, self._show_preset, [self.preset, *widgets], [said, self._baseline, *widgets])
        answer(self.save_preset.click, self._keep_preset, [self.preset_name, *widgets], [said, self.preset])
        answer(self.export.click, self._write_yaml, widgets, [said, self.exported])
        answer(self.upload.upload, self._read_yaml, [self.upload], [said, *widgets])
        if self.borrow:
            answer(self.borrow.click, self._take_prompt, [*self._borrowed.widgets, *widgets], [said, *widgets])
        looked = answer(self.look_ahead.click, self._look_ahead, widgets, [self.answer, self.cancel_look])
        tell_answered(looked, "hotlora_look_ahead")
        answer(self.cancel_look.click, self._cancel_look, [], [self.answer, self.cancel_look])
        tell_answered(answer(self.train.click, self._start, widgets, [self.answer, watch.run]), "hotlora_train")
        wish = "(...values) => [JSON.stringify(window.hotloraWish || []), ...values.slice(1, 2)]"
        answer(self._set.click, self._set_one, [self._wish, self.preset], [said, *widgets], js=wish)
        answer(self._keep.click, self._keep_form, [self.preset, *widgets], [said])
        restored = answer(self._restore.click, self._restore_form, [], [said, self._brought, self.preset, self._baseline, *widgets])
        listen(restored.then, None, js="() => { hotloraRestored(); }")

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

    def read_config(self, shown: Sequence[Any], *, named: bool = True, folder: Path | str | None = None) -> RunConfig:
        """Checked options from what the widgets show, but for the data's folder where one is given. Raises UserError."""
        values = self.read_options(shown, named=named)
        return self._studio.jobs.build_config(values | {"train_data_dir": str(folder)} if folder else values)

    def read_options(self, shown: Sequence[Any], *, named: bool = True) -> dict[str, Any]:
        """Options from what the widgets show, not checked yet."""
        values = self.options.values(shown)
        if not named:
            values.setdefault("output_name", "unnamed")
        trigger = values.get("trigger_word")
        if trigger and not values.get("sample_prompts"):
            values["sample_prompts"] = [trigger]
        return dict(self._studio.settings()) | values

    def _show_preset(self, name: str, *shown: Any) -> list:
        personal = personal_options(self._config_class)
        mine = {key: value for key, value in self.options.values(shown).items() if key in personal}
        return ["", self._describe_preset(name), *self.options.show(self._values_of(name) | mine)]

    def _values_of(self, preset: str) -> dict[str, Any]:
        return dict(self._studio.defaults) | read_preset(preset, self._studio)

    def _describe_preset(self, name: str) -> str:
        """What the widgets show of a preset, for the script to compare with."""
        personal = personal_options(self._config_class)
        values = self.options.defaults | self._values_of(name)
        shown = {key: self.options.shown(key, value) for key, value in values.items() if key not in personal and key in self.options.made}
        return f'<i data-shown="{escape(json.dumps(shown))}"></i>'

    def _set_one(self, wish: str, preset: str) -> list[Any]:
        """One option to a value, or back to the preset's; or several, by their names, to what made the run fit."""
        wanted = json.loads(wish)
        if isinstance(wanted, dict):
            told = message("The recipe has it now. Press Train, or ask again what will happen.")
            return [told, *(self._update(key, wanted[key]) if key in wanted else gr.update() for key in self.options.names)]
        name, *given = wanted or [""]
        values = self.options.defaults | self._values_of(preset)
        return ["", *(self._update(key, given[0] if given else values[key]) if key == name else gr.update() for key in self.options.names)]

    def _update(self, name: str, value: Any) -> Any:
        return gr.update(value=self.options.shown(name, value))

    def _keep_form(self, preset: str, *shown: Any) -> Any:
        self._form.write(preset or "", dict(zip(self.options.names, shown, strict=True)))
        return gr.update()

    def _restore_form(self) -> list[Any]:
        preset, shown = self._form.read()
        updates = [gr.update(value=shown[name]) if name in shown else gr.update() for name in self.options.names]
        brought = f'<i data-kept="{escape(json.dumps(shown))}"></i>'
        if preset not in list_presets(self._studio):
            return [gr.update(), brought, gr.update(), gr.update(), *updates]
        return [gr.update(), brought, preset, self._describe_preset(preset), *updates]

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
        self._studio.jobs.look_ahead(self.read_options(shown, named=False))
        return "", gr.update(visible=True)

    def _cancel_look(self) -> tuple:
        self._studio.jobs.cancel_look()
        return message("Cancelling after what is under way."), gr.update(visible=False)

    def _start(self, *shown: Any) -> tuple:
        jobs = self._studio.jobs
        job = jobs.start(self.read_options(shown))
        jobs.drop_look()
        told = "" if job is jobs.current else f"'{job.name}' starts when the runs before it are done."
        return message(told), gr.update(choices=jobs.names(), value=job.name)
