"""The album where captions are edited: filter, pages, operations on many pictures, undo. What is done is decided elsewhere
(``Studio.editor``).

The page's script (javascript/hotlora_editing.js) has two ways to ask: one that draws the album anew, and one that fetches small things
(thumbnails, names, a count of tokens) and draws nothing. Nothing that it has is sent again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from ..engine.errors import UserError
from .album_views import show_album, show_cut, show_pager, show_tools
from .answers import explain
from .compat import answer, listen, message
from .draw import escape, jpeg_source, tell_other
from .studio import Editor


@dataclass(frozen=True)
class Looked:
    """What the album shows: kept with the page, so that it stays while something else changes."""

    folder: str
    names: Sequence[str] = ()  # of all that the filter shows, in their order
    query: str = ""
    start: int = 0
    aside: bool = False  # what is left out


class AlbumSection:
    """Widgets and answers.

    Args:
        read_config: (what the widgets show, folder) -> the checked options.
    """

    def __init__(self, editor: Editor, said: Any, read_config: Callable[[Sequence[Any], str], Any]):
        self._editor, self._said, self._read_config = editor, said, read_config

    def build_tools(self) -> None:
        """What stands above the album."""
        gr.HTML(show_tools(self._editor.list_operations()), elem_id="hotlora_tools")

    def build_pager(self) -> None:
        """What stands below it, and what the script presses."""
        gr.HTML(show_pager(), elem_id="hotlora_pager")
        self._ask = gr.Button("ask", elem_id="hotlora_ask", elem_classes=["hotlora-hidden"])
        self._fetch = gr.Button("fetch", elem_id="hotlora_fetch", elem_classes=["hotlora-hidden"])
        self._wish = gr.Textbox(elem_id="hotlora_album_wish", elem_classes=["hotlora-hidden"])
        self._fetched = gr.HTML(elem_id="hotlora_fetched", elem_classes=["hotlora-hidden"])

    def build_cut(self) -> None:
        """What stands in the editor, of the picture that is open there."""
        gr.HTML(show_cut(), elem_id="hotlora_cut")

    def connect(self, album: Any, looked: Any, everything: Sequence[Any]) -> None:
        """Answer what the script asks."""
        count = 2 + len(everything)
        for button, wish, handler, outputs, done in (
            (self._ask, "Ask", self._answer, [self._said, album, looked], "hotloraAsked"),
            (self._fetch, "Fetch", self._send, [self._fetched], "hotloraFetched"),
        ):
            js = f"(...values) => [window.hotlora{wish} || '', ...values.slice(1, {count})]"
            event = answer if button is self._ask else listen
            asked = event(button.click, handler, [self._wish, looked, *everything], outputs, js=js)
            listen(asked.then, None, js=f"() => {{ {done}(); }}")

    def show(self, config: Any, looked: Looked, *, is_kept: bool) -> tuple[str, Looked]:
        """The album, and what it shows.

        Args:
            is_kept: whether those stay in sight that ``looked`` names, whatever the filter says of them by now.
        """
        page = self._editor.look(
            config, query=looked.query, start=looked.start, aside=looked.aside, order=looked.names if is_kept else (), is_kept=is_kept
        )
        album = show_album(page, looked.query, aside=looked.aside)
        return tell_other(looked.folder) + album, replace(looked, names=list(page.names), start=page.start)

    def _answer(self, wish: str, looked: Looked | None, *shown: Any) -> tuple:
        """A look, or an operation: after that the script asks for a look."""
        if looked is None:
            raise UserError("cannot change captions: no pictures are shown. Look at them first.")
        asked, config = json.loads(wish), self._read_config(shown, looked.folder)
        if asked["do"] != "look":
            return message(self._carry_out(asked, config, looked)), gr.update(), looked
        kept = bool(asked.get("kept"))
        looked = replace(looked, query=str(asked["query"]), start=int(asked["start"]), aside=bool(asked["aside"]))
        return gr.update(), *self.show(config, looked, is_kept=kept)

    def _carry_out(self, asked: dict[str, Any], config: Any, looked: Looked) -> str:
        editor, names = self._editor, asked.get("names")
        if asked["do"] == "change":
            return editor.change(config, asked, looked.names if names is None else names)
        if asked["do"] == "undo":
            return editor.undo(config)
        if asked["do"] == "focus":
            return editor.set_focus(config, str(asked["name"]), asked["value"])
        if asked["do"] == "crop":
            return editor.set_crop(config, str(asked["name"]), asked["value"])
        return (editor.leave_out if asked["do"] == "leave" else editor.bring_back)(config, names or [])

    def _send(self, wish: str, looked: Looked | None, *shown: Any) -> str:
        asked = json.loads(wish)
        sent: dict[str, Any] = {"number": asked["number"]}
        try:
            if "thumbnails" in asked:
                made = self._editor.find_thumbnails(asked["thumbnails"])
                sent["thumbnails"] = {key: jpeg_source(data) if data else "" for key, data in made.items()}
            elif "preview" in asked:
                preview = self._editor.find_preview(str(asked["preview"]))
                sent["preview"] = jpeg_source(preview) if preview else ""
            elif "text" in asked and looked:
                sent["tokens"] = self._editor.count_tokens(self._read_config(shown, looked.folder), asked["text"])
            elif looked:
                sent["names"] = list(looked.names)
        except Exception as error:
            if not explain(error):
                raise
        return f'<i data-answer="{escape(json.dumps(sent))}"></i>'
