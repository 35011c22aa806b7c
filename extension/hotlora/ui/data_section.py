"""The first place: which data. A folder, or files dropped into a named data set; what is in it, and what is wrong with it."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.examples import Finding
from .album_section import AlbumSection, Looked
from .caption_section import CaptionSection
from .chat_section import ChatSection
from .class_section import ClassSection
from .columns_section import ColumnsSection
from .compat import answer, listen, message, tell_answered, uploaded_paths
from .datasets import add_to_data_set, list_data_sets
from .draw import hint, tell_other
from .mask_section import MaskSection
from .question_section import QuestionSection
from .studio import Studio
from .views import show_data, show_findings, show_looking, show_place
from .widgets import OptionWidgets

_SHOWN = {"pictures": "with their captions"}
_EXAMINE_SECONDS = 8.0  # of a long report, before the page says how far it is
_CLOSED = gr.update(visible=False)


class DataSection:
    """Widgets and answers of the data place."""

    def __init__(self, studio: Studio, said: Any):
        self._studio, self._said = studio, said
        self._reached: dict[str, int] = {}  # how many pictures of a folder an unfinished report has looked at
        self._mender = studio.editor or studio.mender
        self._album = AlbumSection(studio.editor, said, self._read_config) if studio.editor else None
        self._mask = MaskSection(studio.editor, said, self._read_config) if studio.editor else None

    def build(self, options: OptionWidgets) -> None:
        """Make the widgets."""
        word = self._studio.data_word
        gr.HTML(f"<h3><i>1</i> <span>{word.capitalize()}</span></h3>")
        self.folder = options.make("train_data_dir", placeholder="a folder on this computer")
        if "datasets" in options.fields:
            options.make("datasets")  # the script makes a table of it (javascript/hotlora_folders.js)
        self._class = ClassSection(self._studio, self._said) if self._studio.class_pictures else None
        if self._class:
            self._class.build()
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
                self.examine = gr.Button("Health report", elem_id="hotlora_examine", size="sm", visible=self._studio.report is not None)
        self._columns = ColumnsSection(self._studio, self._said) if self._studio.look_at_columns else None
        if self._columns:
            self._columns.build()
        self.health = gr.HTML(elem_id="hotlora_health", elem_classes=["hotlora-live"])
        self._mend = gr.Button("mend", elem_id="hotlora_mend", elem_classes=["hotlora-hidden"])
        self._remedy = gr.Textbox(elem_id="hotlora_remedy", elem_classes=["hotlora-hidden"])
        if self._album:
            self._album.build_tools()
        self.album = gr.HTML(
            hint(f"Your {word} appear here, {_SHOWN.get(word, 'as the model will see them')}, and with what is wrong with them."),
            elem_id="hotlora_album",
        )
        if self._album:
            self._album.build_pager()
        self._build_editor()
        self._captions = CaptionSection(self._studio, self._said) if self._studio.captions else None
        self._questions = QuestionSection(self._studio, self._said) if self._studio.questions else None
        self._chats = ChatSection(self._studio, self._said) if self._studio.chats else None
        for section in (self._captions, self._questions, self._chats):
            if section:
                section.build()
        self._pick = gr.Button("pick", elem_id="hotlora_pick", elem_classes=["hotlora-hidden"])
        self._picked = gr.Textbox(elem_id="hotlora_picked", elem_classes=["hotlora-hidden"])
        self._look_again = gr.Button("look again", elem_id="hotlora_look_again", elem_classes=["hotlora-hidden"])
        self._edited = gr.State(None)  # (folder, name) of the example whose caption is shown
        self._shown = gr.State(None)  # Looked: what is in the album

    def _build_editor(self) -> None:
        """Opens below the album, with the picture in it."""
        with gr.Group(visible=False, elem_id="hotlora_editor") as self.editor:
            self._place = gr.HTML("", elem_id="hotlora_editor_place", elem_classes=["hotlora-live"])
            if self._album:
                self._album.build_cut()
            self.caption = gr.Textbox(label="Caption", lines=3, elem_id="hotlora_caption", interactive=True)
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self._previous = gr.Button("← Previous", size="sm", elem_id="hotlora_previous")
                self.keep = gr.Button("Save caption", size="sm", elem_id="hotlora_save_caption")
                self._next = gr.Button("Next →", size="sm", elem_id="hotlora_next")
            if self._mask:
                self._mask.build()

    def connect(self, recipe: Any) -> None:
        """Answer what is done with the widgets."""
        everything, looked = recipe.options.widgets, [self._said, self.album, self._shown, self.editor]
        self._recipe = recipe
        answer(
            self.upload.upload,
            self._add_files,
            [self.upload, self.data_set, *everything],
            [*looked, self.upload, self.data_set, self.folder],
        )
        for section in (self._captions, self._class, self._questions):
            if section:
                section.connect(recipe)
        if self._columns:
            self._columns.connect(recipe, self.look)
        self._connect_sources(everything, looked)
        answer(self.data_set.input, self._choose, [self.data_set, *everything], [*looked, self.folder])
        tell_answered(answer(self.look.click, self._look_at, everything, looked), "hotlora_look")
        examined = answer(self.examine.click, self._examine, everything, [self._said, self.health])
        tell_answered(examined, "hotlora_examine")
        listen(examined.then, None, js="() => { hotloraExamined(); }")
        wish = f"(...values) => [window.hotloraRemedy || '', ...values.slice(1, {1 + len(everything)})]"
        mended = answer(self._mend.click, self._carry_out, [self._remedy, *everything], [self._said, self.health], js=wish)
        listen(mended.then, None, js="() => { hotloraMended(); }")
        answer(self.folder.submit, self._look_at, everything, looked)
        if self._album:
            self._album.connect(self.album, self._shown, everything)
            picked = f"(...values) => [window.hotloraPicked || '', ...values.slice(1, {2 + len(everything)})]"
            opened = [self._said, self._edited, self.editor, self._place, self.caption]
            opening = answer(self._pick.click, self._open_caption, [self._picked, self._shown, *everything], opened, js=picked)
            listen(opening.then, None, js="() => { hotloraOpened(); }")
            saved = [self._said, self.album, self._shown, self._place]
            kept = answer(self.keep.click, self._keep_caption, [self._edited, self._shown, self.caption, *everything], saved)
            listen(kept.then, None, js="() => { hotloraSaved(); }")
            listen(self._previous.click, None, js="() => { hotloraStep(-1); }")
            listen(self._next.click, None, js="() => { hotloraStep(1); }")
        if self._mask:
            self._mask.connect(self._edited, everything)
        answer(self._look_again.click, self._follow, [self._shown, *everything], [self._said, self.album, self._shown])

    def _connect_sources(self, everything: Sequence[Any], looked: Sequence[Any]) -> None:
        """Data sets that are made on the page itself, and then looked at."""
        outputs = [*looked, self.data_set, self.folder]
        if self._questions:
            taken = f"(...values) => [window.hotloraTaken || '', ...values.slice(1, {1 + len(everything)})]"
            answer(self._questions.take.click, self._take, [self._questions.taken, *everything], outputs, js=taken)
        if self._chats:
            self._chats.connect()
            inputs = [*self._chats.inputs, *everything]
            answer(self._chats.use.click, self._use_chats, inputs, outputs, js=self._chats.read_choice(len(inputs)))

    def _take(self, folder: str, *shown: Any) -> tuple:
        """A data set that was made here becomes what is trained on."""
        names = list_data_sets(self._studio.datasets)
        known = Path(folder).name if Path(folder).name in names else None
        return "", *self._show(shown, folder), _CLOSED, gr.update(choices=names, value=known), folder

    def _use_chats(self, chosen: str, name: str, *shown: Any) -> tuple:
        assert self._chats
        folder, told = self._chats.write(chosen, name)
        return message(told), *self._take(str(folder), *shown)[1:]

    def _add_files(self, files: Any, name: str | None, *shown: Any) -> tuple:
        name = (name or "").strip() or f"my {self._studio.data_word}"
        folder, told = add_to_data_set(self._studio.datasets, name, uploaded_paths(files), self._studio.upload_suffixes)
        names = list_data_sets(self._studio.datasets)
        choice = gr.update(choices=names, value=folder.name)
        return message(told), *self._show(shown, folder), _CLOSED, None, choice, str(folder)

    def _choose(self, name: str | None, *shown: Any) -> tuple:
        if name not in list_data_sets(self._studio.datasets):
            return "", gr.update(), gr.update(), gr.update(), gr.update()  # a new name, for files that are to come
        folder = self._studio.datasets / name
        return "", *self._show(shown, folder), _CLOSED, str(folder)

    def _look_at(self, *shown: Any) -> tuple:
        return "", *self._show(shown), _CLOSED

    def _examine(self, *shown: Any) -> tuple:
        """The findings; how far it is, where the pictures are too many to be looked at while somebody waits."""
        return self._report(self._read_config(shown), self._named(shown))

    def _report(self, config: Any, folder: str) -> tuple:
        assert self._studio.report
        before, until = self._reached.pop(config.train_data_dir, 0), time.monotonic() + _EXAMINE_SECONDS
        findings: list[Finding] = []
        for progress, found in self._studio.report(config):
            findings += found
            if time.monotonic() > until and before < progress.done < progress.total:  # further than before, however slow this computer is
                self._reached[config.train_data_dir] = progress.done
                return "", show_looking(folder, progress.done, progress.total)
        if self._mender is None:
            return "", show_findings([replace(finding, remedy=None) for finding in findings], folder)
        return "", show_findings(findings, folder, self._mender.count_steps(config))

    def _carry_out(self, wish: str, *shown: Any) -> tuple:
        """A finding's remedy, or the way back, in the folder that was looked at; then what is found now."""
        asked, mender = json.loads(wish), self._mender
        assert mender
        config = self._read_config(shown, asked["folder"])
        told = mender.mend(config, asked["remedy"]) if asked["remedy"] else mender.undo(config)
        unfinished, report = self._report(config, asked["folder"])
        return message(told) + unfinished, report

    def _follow(self, looked: Looked | None, *shown: Any) -> tuple:
        """What is in the album, by the options as they are now."""
        if not looked:
            return gr.update(), gr.update(), gr.update()
        return gr.update(), *self._show(shown, looked.folder, looked)

    def _read_config(self, shown: Sequence[Any], folder: Path | str | None = None) -> Any:
        return self._recipe.read_config(shown, named=False, folder=folder)

    def _show(self, shown: Sequence[Any], folder: Path | str | None = None, looked: Looked | None = None) -> tuple[str, Looked]:
        """The album of a folder, and what is in it; of the folder that the page names, where none is given.

        Args:
            looked: what is in the album already, and stays in its place.
        """
        config = self._read_config(shown, folder)
        now = replace(looked or Looked(""), folder=str(folder or self._named(shown)))
        if self._album:
            return self._album.show(config, now, is_kept=looked is not None)
        return tell_other(now.folder) + show_data(self._studio.look_at(config)), now

    def _named(self, shown: Sequence[Any]) -> str:
        return self._recipe.options.read_text("train_data_dir", shown)

    def _open_caption(self, name: str, looked: Looked | None, *shown: Any) -> tuple:
        assert self._studio.editor
        folder = looked.folder if looked else self._named(shown)
        text = self._studio.editor.read(self._read_config(shown, folder), name)
        return "", (folder, name), gr.update(visible=True), show_place(name, text), gr.update(value=text, info=name)

    def _keep_caption(self, edited: tuple[str, str], looked: Looked | None, text: str, *shown: Any) -> tuple:
        """Into the folder that it was read from, whatever the page names by now."""
        assert self._studio.editor
        folder, name = edited
        self._studio.editor.write(self._read_config(shown, folder), name, text or "")
        stays = looked if looked and looked.folder == folder else None
        return message("Caption saved."), *self._show(shown, folder, stays), show_place(name, text or "")
