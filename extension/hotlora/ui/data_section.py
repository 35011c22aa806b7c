"""The first place: which data. A folder, or files dropped into a named data set; what is in it, and what is wrong with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from .compat import answer, listen, message, tell_answered, uploaded_paths
from .datasets import add_to_data_set, list_data_sets
from .draw import hint
from .studio import Studio
from .views import show_data
from .widgets import OptionWidgets

_SHOWN = {"pictures": "with their captions"}
_CLOSED = gr.update(visible=False)


class DataSection:
    """Widgets and answers of the data place."""

    def __init__(self, studio: Studio, said: Any):
        self._studio, self._said = studio, said

    def build(self, options: OptionWidgets) -> None:
        """Make the widgets."""
        word = self._studio.data_word
        gr.HTML(f"<h3><i>1</i> <span>{word.capitalize()}</span></h3>")
        self.folder = options.make("train_data_dir", placeholder="a folder on this computer")
        with gr.Row():
            self.upload = gr.File(
                label="or drop files here", file_count="multiple", elem_id="hotlora_upload", scale=3, elem_classes=["hotlora-drop"]
            )
            with gr.Column(scale=2, min_width=160):
                self.data_set = gr.Dropdown(
                    label="Data set",
                    info="Dropped files go here; type a new name for a new one.",
                    choices=list_data_sets(self._studio.datasets),
                    value=None,
                    allow_custom_value=True,
                    elem_id="hotlora_data_set",
                    interactive=True,
                )
                self.look = gr.Button("Look at them", elem_id="hotlora_look", size="sm")
        self.album = gr.HTML(
            hint(f"Your {word} appear here, {_SHOWN.get(word, 'as the model will see them')}, and with what is wrong with them."),
            elem_id="hotlora_album",
        )
        with gr.Group(visible=False) as self.editor:
            self.caption = gr.Textbox(label="Caption", lines=3, elem_id="hotlora_caption", interactive=True)
            self.keep = gr.Button("Save caption", size="sm", elem_id="hotlora_save_caption")
        self._pick = gr.Button("pick", elem_id="hotlora_pick", elem_classes=["hotlora-hidden"])
        self._picked = gr.Textbox(elem_id="hotlora_picked", elem_classes=["hotlora-hidden"])
        self._edited = gr.State(None)  # (folder, name) of the example whose caption is shown

    def connect(self, recipe: Any) -> None:
        """Answer what is done with the widgets."""
        everything, looked = recipe.options.widgets, [self._said, self.album, self.editor]
        self._recipe = recipe
        answer(
            self.upload.upload,
            self._add_files,
            [self.upload, self.data_set, *everything],
            [*looked, self.upload, self.data_set, self.folder],
        )
        answer(self.data_set.input, self._choose, [self.data_set, *everything], [*looked, self.folder])
        tell_answered(answer(self.look.click, self._look_at, everything, looked), "hotlora_look")
        answer(self.folder.submit, self._look_at, everything, looked)
        if self._studio.read_caption:
            picked = f"(...values) => [window.hotloraPicked || '', ...values.slice(1, {1 + len(everything)})]"
            opened = [self._said, self._edited, self.editor, self.caption]
            answer(self._pick.click, self._open_caption, [self._picked, *everything], opened, js=picked)
            kept = answer(self.keep.click, self._keep_caption, [self._edited, self.caption, *everything], [self._said, self.album])
            listen(kept.then, None, js="() => { hotloraGoBack(); }")

    def _add_files(self, files: Any, name: str | None, *shown: Any) -> tuple:
        name = (name or "").strip() or f"my {self._studio.data_word}"
        folder, told = add_to_data_set(self._studio.datasets, name, uploaded_paths(files), self._studio.upload_suffixes)
        names = list_data_sets(self._studio.datasets)
        choice = gr.update(choices=names, value=folder.name)
        return message(told), self._show(shown, folder), _CLOSED, None, choice, str(folder)

    def _choose(self, name: str | None, *shown: Any) -> tuple:
        if name not in list_data_sets(self._studio.datasets):
            return "", gr.update(), gr.update(), gr.update()  # a new name, for files that are to come
        folder = self._studio.datasets / name
        return "", self._show(shown, folder), _CLOSED, str(folder)

    def _look_at(self, *shown: Any) -> tuple:
        return "", self._show(shown), _CLOSED

    def _show(self, shown: Sequence[Any], folder: Path | None = None) -> str:
        """The album of a folder; of the one that the page names, where none is given."""
        view = self._studio.look_at(self._recipe.read_config(shown, named=False, folder=folder))
        return show_data(view, editable=self._studio.read_caption is not None)

    def _open_caption(self, name: str, *shown: Any) -> tuple:
        config = self._recipe.read_config(shown, named=False)
        text = self._studio.read_caption(config, name) if self._studio.read_caption else ""
        return "", (config.train_data_dir, name), gr.update(visible=True), gr.update(value=text, info=name)

    def _keep_caption(self, edited: tuple[str, str], text: str, *shown: Any) -> tuple:
        """Into the folder that it was read from, whatever the page names by now."""
        folder, name = edited
        if self._studio.write_caption:
            self._studio.write_caption(self._recipe.read_config(shown, named=False, folder=Path(folder)), name, text or "")
        return message("Caption saved."), self._show(shown, Path(folder))
