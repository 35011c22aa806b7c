"""The part of the HTTP API that is about captions written by a machine."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Body

from .studio import Captions, Studio

_OPTIONS = {"train_data_dir": "data/mystyle"}
_SETTINGS = {"captioner": "onnx", "tagger_folder": "taggers/wd-v3", "as_proposals": True}


def add_captions(router: APIRouter, studio: Studio, captions: Captions) -> None:
    """Routes to the job, and to its proposals. ``options`` are a run's, of which the data folder counts; the same folders are allowed."""

    def read(options: dict) -> Any:
        values = dict(studio.settings()) | options
        return studio.jobs.build_config(values | {"output_name": values.get("output_name") or "unnamed"})

    @router.get("/captions", summary="How far captions are, and who can write them")
    def show_captions() -> dict:
        """``busy``; ``done`` of ``total`` pictures; how many were ``written`` and ``proposed``; ``message``, ``problems``; and
        ``captioners``: who can write them."""
        kinds = [{"captioner": key, "label": label} for key, label in captions.list_kinds()]
        return asdict(captions.status) | {"captioners": kinds}

    @router.post("/captions", status_code=202, summary="Write captions where there are none, or propose them")
    def write(
        options: dict = Body(_OPTIONS, embed=True),  # noqa: B008
        settings: dict = Body(_SETTINGS, embed=True),  # noqa: B008
    ) -> dict:
        """``settings``: captioner, as_proposals, tagger_folder, general_threshold, character_threshold, blip_model, endpoint_url,
        endpoint_model, endpoint_question, caption_trigger, text_before, text_after, leave_out, underscores_to_spaces, sort_tags,
        caption_batch. Goes on with what is left. Refused while captions are being written."""
        captions.start(read(options), settings)
        return show_captions()

    @router.delete("/captions", summary="Stop writing captions")
    def stop() -> dict:
        """Takes effect after the pictures that are looked at now. What is written stays."""
        captions.stop()
        return show_captions()

    @router.post("/captions/proposals", summary="What is proposed for the pictures in a folder")
    def list_proposals(options: dict = Body(_OPTIONS, embed=True)) -> list:  # noqa: B008
        """Each with the picture's ``name``, its ``caption`` and the ``proposed`` one."""
        return [asdict(proposal) for proposal in captions.list_proposals(read(options))]

    @router.post("/captions/decisions", summary="Accept or refuse proposals")
    def decide(
        accept: bool = Body(..., embed=True, description="Whether they become captions."),
        names: list[str] | None = Body(None, embed=True, description="Of the pictures; all, where none are given."),  # noqa: B008
        options: dict = Body(_OPTIONS, embed=True),  # noqa: B008
    ) -> dict:
        """``message`` says what was done."""
        return {"message": captions.decide(read(options), names, accept=accept)}
