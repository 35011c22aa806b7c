"""What differs between Gradio 3.41, which AUTOMATIC1111 has, 4.37, which text-generation-webui has, and the newest."""

import functools
import itertools
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from .answers import explain
from .draw import escape
from .labels import in_labels

# Newer ones write white on their orange and red, which not everybody can read: WCAG asks for a contrast of 4.5, and these have 5.2 and 6.5.
_DARKER = (
    "#hotlora_page { --button-primary-background-fill: #c2410c; --button-primary-background-fill-hover: #9a3412; "
    "--button-cancel-background-fill: #b91c1c; --button-cancel-background-fill-hover: #991b1b; }"
)
READABLE = _DARKER if int(gr.__version__.partition(".")[0]) > 4 else ""
_JS = "_js" if gr.__version__.startswith("3.") else "js"
_numbers = itertools.count(1)


def listen(event: Callable, handler: Callable | None, inputs: Sequence = (), outputs: Sequence = (), *, js: str | None = None) -> Any:
    """Call ``handler`` when the event happens, without an overlay over what it changes and without waiting in Gradio's queue,
    which the host's long jobs fill. It is no part of Gradio's own API: 4.37 with a new pydantic cannot describe uploads there."""
    options = {_JS: js} if js else {}
    return event(handler, list(inputs), list(outputs), queue=False, show_progress="hidden", api_name=False, **options)


def answer(event: Callable, handler: Callable, inputs: Sequence, outputs: Sequence, *, js: str | None = None) -> Any:
    """Like :func:`listen`, for handlers whose first output is the message line: what goes wrong is said there, and the other
    outputs stay as they are."""

    @functools.wraps(handler)
    def safe(*args: Any) -> Any:
        try:
            return _number(handler(*args))
        except Exception as error:
            text = explain(error)
            if not text:
                traceback.print_exc()
                text = f"This failed because of a bug ({type(error).__name__}: {error}). Details are in the console."
        said = _number(message(text, bad=True))
        return [said, *(gr.update() for _ in outputs[1:])] if len(outputs) > 1 else said

    return listen(event, safe, inputs, outputs, js=js)


def _number(answers: Any) -> Any:
    """The same sentence said again is another one: it may have been taken off the page meanwhile."""
    said, *others = answers if isinstance(answers, (list, tuple)) else [answers]
    if isinstance(said, str) and said:
        said = f'<div data-said="{next(_numbers)}">{said}</div>'
    return [said, *others] if isinstance(answers, (list, tuple)) else said


def tell_answered(answered: Any, button: str) -> None:
    """Have the page's script know that this button's answer has come, so that it brings it into view."""
    listen(answered.then, None, js=f"() => {{ hotloraAnswered('{button}'); }}")


def offer_one(*, busy: bool) -> list[Any]:
    """Of a button that begins work and one that stops it, the one that has a use now."""
    return [gr.update(interactive=not busy), gr.update(interactive=busy)]


def message(text: str, *, bad: bool = False) -> str:
    """A line for the page's message place, with options called as the page calls them."""
    return f'<div class="hotlora-message{" hotlora-bad" if bad else ""}" role="status">{escape(in_labels(text))}</div>' if text else ""


def uploaded_paths(files: Any) -> list[Path]:
    """Where Gradio has put uploaded files."""
    files = files if isinstance(files, list) else [files] if files else []
    return [Path(getattr(file, "name", file)) for file in files]


def leave_out_of_host_settings(blocks: gr.Blocks) -> None:
    """AUTOMATIC1111 keeps every widget's first value in a file and brings it back for ever; these belong to presets."""
    for component in blocks.blocks.values():
        component.do_not_save_to_config = True
