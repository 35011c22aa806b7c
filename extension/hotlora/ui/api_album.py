"""The part of the HTTP API that is about editing the captions of a data set, many at once, and leaving pictures out."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Body

from .api_mask import add_mask
from .studio import Editor, Studio

_OPTIONS = Body({"train_data_dir": "data/mystyle"}, embed=True)
_NAMES = Body(..., embed=True, description="Of the pictures, as the album calls them.")
_QUERY = Body("", embed=True, description='Such as: cat -dog "blue sky" | bird')


def add_album(router: APIRouter, studio: Studio, editor: Editor) -> None:
    """Routes. ``options`` are a run's, of which the data folder and the options of captions count; the same folders are allowed."""

    def read(options: dict) -> Any:
        values = dict(studio.settings()) | options
        return studio.jobs.build_config(values | {"output_name": values.get("output_name") or "unnamed"})

    _add_looks(router, editor, read)
    _add_changes(router, editor, read)
    add_mask(router, editor, read)


def _add_looks(router: APIRouter, editor: Editor, read: Any) -> None:
    @router.post("/album", summary="The pictures that a filter shows, a page of them")
    def look(
        options: dict = _OPTIONS,
        query: str = _QUERY,
        start: int = Body(0, embed=True, ge=0, description="Place of the first one among those that the filter shows."),
        left_out: bool = Body(False, embed=True, description="Those that are left out, instead of the others."),
    ) -> dict:
        """``count`` of all, ``names`` of those that the filter shows; of the page of them from ``start`` on ``pictures``, each with
        ``name``, ``text`` as it is learned, ``tokens``, ``problem``, ``warning``, ``mask`` (whether there is a file of that), ``size``,
        ``focus``, ``crop`` and ``cuts``: what the buckets that it is trained in keep of it (but at ``random``), as shares of its width and
        height;
        ``tags`` of all pictures with their counts; how many are ``left_out``; how many ``steps`` can be undone."""
        seen = editor.look(read(options), query=query, start=start, aside=left_out)
        pictures = [{key: value for key, value in asdict(shown).items() if key != "thumbnail"} for shown in seen.shown]
        counted = {"count": seen.count, "names": list(seen.names), "start": seen.start, "pictures": pictures}
        return counted | {"tags": dict(seen.tags), "left_out": seen.left_out, "steps": seen.steps}

    @router.post("/album/caption", summary="A caption as it is written; or write it")
    def write(
        name: str = Body(..., embed=True, description="Of the picture, as the album calls it."),
        caption: str | None = Body(None, embed=True, description="The new one; an empty one removes it. Nothing is written without."),
        options: dict = _OPTIONS,
    ) -> dict:
        if caption is not None:
            editor.write(read(options), name, caption)
        return {"name": name, "caption": editor.read(read(options), name)}

    @router.post("/album/focus", summary="What matters in a picture, so that it is cut around that; or no longer")
    def focus(
        name: str = Body(..., embed=True, description="Of the picture, as the album calls it."),
        point: list[float] | None = Body(None, embed=True, description="From the left and from the top, 0 to 1; none: the middle is kept."),  # noqa: B008
        options: dict = _OPTIONS,
    ) -> dict:
        """``message`` says what was done. ``/album`` tells each picture's ``focus`` and ``cuts``. It can be undone like any change."""
        return {"message": editor.set_focus(read(options), name, point)}

    @router.post("/album/crop", summary="All that is used of a picture; or all of it again")
    def crop(
        name: str = Body(..., embed=True, description="Of the picture, as the album calls it."),
        crop: list[float] | None = Body(None, embed=True, description="Left, top, right and bottom side, 0 to 1; none: all of it."),  # noqa: B008
        options: dict = _OPTIONS,
    ) -> dict:
        """``message`` says what was done. The picture's file stays what it is. It can be undone like any change."""
        return {"message": editor.set_crop(read(options), name, crop)}


def _add_changes(router: APIRouter, editor: Editor, read: Any) -> None:
    keys = ", ".join(key for key, _ in editor.list_operations())

    @router.post("/album/change", summary="Change many captions at once")
    def change(
        operation: str = Body(..., embed=True, description=f"One of {keys}."),
        text: str = Body("", embed=True, description="Tags, or a pattern."),
        by: str = Body("", embed=True, description="What is to stand there instead."),
        names: list[str] | None = Body(None, embed=True, description="Of the pictures; all that the filter shows, where none are given."),  # noqa: B008
        query: str = _QUERY,
        options: dict = _OPTIONS,
    ) -> dict:
        """``message`` says what was done, with counts."""
        return {"message": editor.change(read(options), {"operation": operation, "text": text, "by": by}, names, query)}

    @router.post("/album/mend", summary="Carry out what the health report offers")
    def mend(
        remedy: dict = Body(..., embed=True, description="As in an answer of ``/data/report``; ``names`` may be fewer."),  # noqa: B008
        options: dict = _OPTIONS,
    ) -> dict:
        """``message`` says what was done. It can be undone like any change."""
        return {"message": editor.mend(read(options), remedy)}

    @router.post("/album/undo", summary="Undo the last change of captions, of focus points and crops, or of what is left out")
    def undo(options: dict = _OPTIONS) -> dict:
        """Refused where something of it was changed meanwhile."""
        return {"message": editor.undo(read(options))}

    @router.post("/album/leave_out", summary="Leave pictures out")
    def leave_out(names: list[str] = _NAMES, options: dict = _OPTIONS) -> dict:
        """They are moved with captions and masks into the sub-folder ``left out``, where nothing is trained on."""
        return {"message": editor.leave_out(read(options), names)}

    @router.post("/album/bring_back", summary="Bring pictures back that were left out")
    def bring_back(names: list[str] = _NAMES, options: dict = _OPTIONS) -> dict:
        return {"message": editor.bring_back(read(options), names)}
