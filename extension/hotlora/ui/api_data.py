"""The part of the HTTP API that is about data: looking at it, data sets, captions."""

import base64
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body, File, Query, UploadFile
from fastapi import Path as InPath

from ..engine.errors import UserError
from .api_album import add_album
from .api_captions import add_captions
from .api_class import add_class
from .api_questions import add_chats, add_questions
from .datasets import add_to_data_set, list_data_sets
from .studio import Mender, Studio
from .zip_files import clean_place

_OPTIONS = Body(..., example={"train_data_dir": "data/mystyle"}, description="Options as in a run file; GET /options lists them.")


def add_data(router: APIRouter, studio: Studio) -> None:
    """All of it."""
    _add_looks(router, studio)
    _add_sets(router, studio)
    if studio.mender:
        _add_mending(router, studio, studio.mender)
    if studio.editor:
        add_album(router, studio, studio.editor)
    if studio.class_pictures:
        add_class(router, studio, studio.class_pictures)
    if studio.captions:
        add_captions(router, studio, studio.captions)
    if studio.questions:
        add_questions(router, studio, studio.questions)
    if studio.chats:
        add_chats(router, studio.chats)


def _add_looks(router: APIRouter, studio: Studio) -> None:
    @router.post("/data", summary="What a run with these options would train on")
    def look_at_data(options: dict = _OPTIONS, thumbnails: bool = Query(False, description="With small pictures, as data URIs.")) -> dict:
        """The first examples, those with problems before the others: ``name``, ``text`` as it would be trained on, ``problem``: why it
        cannot be trained on, ``warning``: what is odd about it.
        ``facts`` and ``notes`` are about all ``count`` of them."""
        values = dict(studio.settings()) | options
        values["output_name"] = values.get("output_name") or "unnamed"
        view = studio.look_at(studio.jobs.build_config(values))
        examples = [{"name": e.name, "text": e.text, "problem": e.problem or None, "warning": e.warning or None} for e in view.examples]
        if thumbnails:
            for example, seen in zip(examples, view.examples, strict=True):
                data = base64.b64encode(seen.thumbnail).decode("ascii")
                example["thumbnail"] = f"data:image/jpeg;base64,{data}" if data else None
        return {"count": view.count, "facts": dict(view.facts), "notes": list(view.notes), "examples": examples}

    @router.post("/data/report", summary="What commonly goes wrong with such data")
    def report(options: dict = _OPTIONS) -> list:
        """Findings, each with its ``kind``, what is ``said`` of it and what to do, and the ``names`` of the examples that it is about.
        ``remedy`` is what to send to ``/album/mend``, of texts to ``/data/mend``, where the program can mend it, else null. The first
        report of many pictures takes minutes; later ones look only at what has changed."""
        values = dict(studio.settings()) | options
        config = studio.jobs.build_config(values | {"output_name": values.get("output_name") or "unnamed"})
        return [asdict(finding) for _, found in (studio.report(config) if studio.report else ()) for finding in found]


def _add_mending(router: APIRouter, studio: Studio, mender: Mender) -> None:
    def read(options: dict) -> Any:
        values = dict(studio.settings()) | options
        return studio.jobs.build_config(values | {"output_name": values.get("output_name") or "unnamed"})

    @router.post("/data/mend", summary="Carry out what the health report of texts offers")
    def mend(
        remedy: dict = Body(..., embed=True, description="As in an answer of ``/data/report``; ``names`` may be fewer."),  # noqa: B008
        options: dict = Body({"train_data_dir": "data/faq.jsonl"}, embed=True),  # noqa: B008
    ) -> dict:
        """``message`` says what was done. Refused where the files were changed since the report."""
        return {"message": mender.mend(read(options), remedy)}

    @router.post("/data/undo", summary="Undo the last of these changes")
    def undo(options: dict = Body({"train_data_dir": "data/faq.jsonl"}, embed=True)) -> dict:  # noqa: B008
        """Refused where a file of it was changed meanwhile."""
        return {"message": mender.undo(read(options))}


def _add_sets(router: APIRouter, studio: Studio) -> None:
    @router.get("/datasets", summary="All uploaded data sets")
    def list_sets() -> list:
        return [{"name": name, "folder": str(studio.datasets / name)} for name in list_data_sets(studio.datasets)]

    @router.post("/datasets/{name}", status_code=201, summary="Upload files into a data set")
    def upload(
        name: str = InPath(..., description="A new one, or one that is there."),
        files: list[UploadFile] = File(..., description="Pictures, captions of the same name, tables of captions, ZIP files of those."),  # noqa: B008
    ) -> dict:
        """As multipart form: ``curl -F files=@a.png -F files=@a.txt …``. Set ``train_data_dir`` to the answer's ``folder``."""
        with tempfile.TemporaryDirectory() as received:
            folder, told = add_to_data_set(studio.datasets, name, _receive(files, Path(received)), studio.upload_suffixes)
        return {"name": folder.name, "folder": str(folder), "message": told}


def _receive(files: list[UploadFile], folder: Path) -> list[Path]:
    """The files' content under their own names, a folder each."""
    paths = []
    for number, file in enumerate(files):
        name = re.split(r"[/\\]", file.filename or "")[-1]
        if name in ("", ".", ".."):
            raise UserError("cannot take an upload without a file name. Give each file one.")
        path = folder / str(number) / clean_place([name], "cannot take an upload")
        path.parent.mkdir()
        with open(path, "wb") as copy:
            shutil.copyfileobj(file.file, copy)
        paths.append(path)
    return paths
