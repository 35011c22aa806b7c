"""The part of the HTTP API that is about one picture's mask, and how a picture travels as text."""

import base64
import binascii
from typing import Any

from fastapi import APIRouter, Body

from ..engine.errors import UserError
from .draw import jpeg_source
from .studio import Editor

_MOST_CHARACTERS = 22_000_000  # some more than the largest mask has that is taken
_OPTIONS = Body({"train_data_dir": "data/mystyle"}, embed=True)
_NAME = Body(..., embed=True, description="Of the picture, as the album calls it.")


def add_mask(router: APIRouter, editor: Editor, read: Any) -> None:
    """Routes. ``read``: the checked options of a request."""

    @router.post("/album/mask", summary="A picture's mask, to draw on; or write it, or remove it")
    def mask(
        name: str = _NAME,
        mask: str | None = Body(
            None,
            embed=True,
            description="The new one: a PNG in base64, white where the picture is learned, of its shape and not larger. An empty text "
            "removes the file. Nothing is written without.",
        ),
        options: dict = _OPTIONS,
    ) -> dict:
        """``picture`` (JPEG, at most 1024 pixels) and ``mask`` (PNG of that size; empty where all is learned) as ``data:`` addresses;
        ``size`` of the picture's file; ``has_file``; ``is_used``: whether the options have masks learned by. ``message`` says what was
        done, where something was."""
        config = read(options)
        told = "" if mask is None else editor.write_mask(config, name, read_sent(mask)) if mask else editor.remove_mask(config, name)
        return {"name": name, "message": told, **describe_drawing(editor.open_mask(config, name))}


def describe_drawing(drawing: Any) -> dict[str, Any]:
    """``studio.Editor.open_mask``'s answer, as plain values."""
    mask = "data:image/png;base64," + base64.b64encode(drawing.mask).decode("ascii") if drawing.mask else ""
    plain = {"size": list(drawing.size), "has_file": drawing.has_file, "is_used": drawing.is_used}
    return {"picture": jpeg_source(drawing.picture), "mask": mask, **plain}


def read_sent(text: str) -> bytes:
    """What base64 stands for, with or without the ``data:`` before it. Raises UserError."""
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"cannot take the mask: its {len(text)} characters are more than {_MOST_CHARACTERS}. Send a smaller PNG.")
    try:
        return base64.b64decode(text.removeprefix("data:image/png;base64,"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("cannot take the mask: it is not written in base64. Send a PNG so.") from error
