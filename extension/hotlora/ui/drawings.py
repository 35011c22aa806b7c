"""What a section shows of a moment, in parts that are sent to a page only where they have changed for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr


class Drawing(NamedTuple):
    """One widget's content: what it shows, and how to draw that. What shows the same is the same."""

    shows: Any
    draw: Callable[[], dict[str, Any]]


def text(shown: str) -> Drawing:
    """Little, and quickly drawn."""
    return Drawing(shown, lambda: gr.update(value=shown))


def widget(**properties: Any) -> Drawing:
    """A widget's properties."""
    return Drawing(properties, lambda: gr.update(**properties))


def menu(choices: list[str], value: Any, selected: Any) -> Drawing:
    """The value goes along only where it is not what was selected: a late answer must not take back what was chosen since it was asked."""
    properties = {"choices": choices} if value == selected else {"choices": choices, "value": value}
    return Drawing((choices, value), lambda: gr.update(**properties))
