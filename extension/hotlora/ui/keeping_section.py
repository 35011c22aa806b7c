"""Below the list of runs: another name for one, a note on it, the archive, and the tools for their LoRAs."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ..engine.entries import Entry
from .compat import answer, message
from .studio import Studio
from .tools_section import ToolsSection


class KeepingSection:
    """Widgets and answers for what people write on a run."""

    def __init__(self, studio: Studio, said: Any):
        self._jobs, self._said, self.tools = studio.jobs, said, ToolsSection(studio, said)

    def build(self) -> None:
        """Make the widgets."""
        self.show_archived = gr.Checkbox(label="Show archived runs", value=False, elem_id="hotlora_show_archived", interactive=True)
        with gr.Accordion("Name and note", open=False, elem_id="hotlora_keeping"):
            self.name = gr.Textbox(
                label="Name of the run",
                info="Files of the LoRA, those published already among them, keep their names. A run that trains or waits keeps its own.",
                max_lines=1,
                elem_id="hotlora_run_name",
                interactive=True,
            )
            self.note = gr.Textbox(label="Note", lines=2, elem_id="hotlora_note", interactive=True)
            with gr.Row(elem_classes=["hotlora-buttons"]):
                self.rename = gr.Button("Rename", size="sm", elem_id="hotlora_rename", interactive=False)
                self.keep_note = gr.Button("Keep the note", size="sm", elem_id="hotlora_keep_note", interactive=False)
                self.archive = gr.Button("Archive", size="sm", elem_id="hotlora_archive", interactive=False)
        self.tools.build()

    def connect(self, run: Any) -> None:
        """Answer what is done with the widgets. ``run``: says which run is meant."""
        answer(self.rename.click, self._rename, [run, self.name], [self._said, run])
        answer(self.keep_note.click, self._keep_note, [run, self.note], [self._said])
        answer(self.archive.click, self._archive, [run], [self._said])
        self.tools.connect()

    @property
    def drawn(self) -> list[Any]:
        """The widgets that :meth:`describe` describes."""
        return [self.name, self.note, self.rename, self.keep_note, self.archive, *self.tools.drawn]

    def describe(self, entry: Entry | None, entries: Sequence[Entry], *, busy: bool) -> list[tuple[Any, dict[str, Any]]]:
        """For each of :attr:`drawn` what it shows, and the widget's properties. What somebody types stays until another run is shown.

        Args:
            entry: the run that is shown.
            entries: all that are listed.
            busy: it trains or waits.
        """
        name, note, archived = (entry.name, entry.marks.note, entry.marks.archived) if entry else ("", "", False)
        there, files = entry is not None, self.tools.list_files(entries, name)
        return [
            (name, {"value": name}),
            ((name, note), {"value": note}),
            (there and not busy, {"interactive": there and not busy}),
            (there, {"interactive": there}),
            ((there, busy, archived), {"interactive": there and not busy, "value": "Bring back" if archived else "Archive"}),
            *self.tools.describe(files),
        ]

    def _rename(self, name: str, new: str) -> tuple[str, Any]:
        self._jobs.rename(name, new or "")
        new = new.strip()
        told = f"'{name}' is called '{new}' now. The files of its LoRA keep their names."
        return message(told), gr.update(choices=self._jobs.names(), value=new)

    def _keep_note(self, name: str, note: str) -> str:
        self._jobs.mark(name, note=(note or "").strip())
        return message("Kept.")

    def _archive(self, name: str) -> str:
        archived = not self._jobs.marks(name).archived
        self._jobs.mark(name, archived=archived)
        return message(f"'{name}' is in the archive. Tick Show archived runs to see it." if archived else f"'{name}' is in the list again.")
