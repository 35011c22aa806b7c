"""The HTTP API under ``/hotlora/v1``: what the page does, for programs. Described in the host's ``/docs``."""

import itertools
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body, Depends, HTTPException
from fastapi.responses import FileResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from ..engine.errors import UserError
from ..engine.options import as_plain, options_of
from .presets import list_presets
from .studio import Studio

_MOST_EVENTS = 1000


def basic_auth(passwords: Mapping[str, str]) -> Callable[..., None]:
    """A dependency that lets in who knows one of these names with its password."""
    ask = HTTPBasic()

    def check(given: HTTPBasicCredentials = Depends(ask)) -> None:  # noqa: B008
        wanted = passwords.get(given.username, "")
        if not (wanted and secrets.compare_digest(given.password.encode(), wanted.encode())):
            raise HTTPException(401, "Incorrect name or password", {"WWW-Authenticate": "Basic"})

    return check


def build_router(studio: Studio, authorize: Callable | None) -> APIRouter:
    """All routes of one studio."""
    router = APIRouter(prefix="/hotlora/v1", tags=["HotLoRA"], dependencies=[Depends(authorize)] if authorize else [])
    jobs = studio.jobs

    @router.get("/runs", summary="All runs, the newest first")
    def list_runs() -> list:
        return [_describe(studio, name) for name in jobs.names()]

    @router.post("/runs", status_code=201, summary="Start a run")
    def start(options: dict = Body(..., example={"output_name": "mystyle", "train_data_dir": "data/mystyle"})) -> dict:  # noqa: B008
        """The body holds options as in a run file; ``output_name`` names the run. It waits while another one trains."""
        return _answer(lambda: _describe(studio, jobs.start(dict(studio.settings()) | options).name))

    @router.get("/runs/{name}", summary="One run, with its options, files, samples and log")
    def show(name: str) -> dict:
        _find(studio, name)
        return _describe(studio, name) | _details(studio, name)

    @router.get("/runs/{name}/events", summary="What has happened since event number N")
    def list_events(name: str, since: int = 0, limit: int = _MOST_EVENTS) -> dict:
        """Ask again with ``since`` set to the answer's ``next``."""
        path = _find(studio, name) / "events.jsonl"
        if not path.exists():
            return {"events": [], "next": since}
        with open(path, encoding="utf-8") as file:
            lines = list(itertools.islice(file, max(since, 0), max(since, 0) + min(limit, _MOST_EVENTS)))
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return {"events": events, "next": max(since, 0) + len(events)}

    @router.post("/runs/{name}/{action}", summary="pause, go_on, stop, sample, save or resume a run")
    def act(name: str, action: str) -> dict:
        _find(studio, name)
        actions: dict[str, Callable[[], Any]] = {
            "pause": lambda: jobs.control(name).pause(),
            "go_on": lambda: jobs.control(name).go_on(),
            "stop": lambda: jobs.stop(name),
            "sample": lambda: jobs.control(name).sample_now(),
            "save": lambda: jobs.control(name).save_now(),
            "resume": lambda: jobs.resume(name),
        }
        if action not in actions:
            raise HTTPException(404, f"there is no {action}: it is one of {', '.join(actions)}")
        _answer(actions[action])
        return _describe(studio, name)

    @router.delete("/runs/{name}", summary="Delete a run with everything in its folder")
    def delete(name: str) -> dict:
        _find(studio, name)
        _answer(lambda: jobs.delete(name))
        return {"deleted": name}

    @router.get("/runs/{name}/samples/{file}", summary="A sample's picture or text")
    def show_sample(name: str, file: str) -> FileResponse:
        folder = _find(studio, name) / "samples"
        if file not in ({path.name for path in folder.iterdir()} if folder.is_dir() else ()):
            raise HTTPException(404, f"there is no sample {file}")
        return FileResponse(folder / file)

    @router.get("/options", summary="All options: default, choices, what they do")
    def list_options() -> dict:
        defaults = as_plain(jobs.config_class())
        return {
            name: {"default": defaults.get(name), "choices": field.metadata["choices"], "doc": field.metadata["doc"]}
            for name, field in options_of(jobs.config_class).items()
        }

    @router.get("/presets", summary="Names of presets")
    def show_presets() -> list:
        return list_presets(studio.presets)

    return router


def _answer(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except UserError as error:
        raise HTTPException(400, str(error)) from error


def _find(studio: Studio, name: str) -> Path:
    try:
        return studio.jobs.find_folder(name)
    except UserError as error:
        raise HTTPException(404, str(error)) from error


def _describe(studio: Studio, name: str) -> dict[str, Any]:
    history = studio.jobs.history(name)
    return {
        "name": name,
        "status": studio.jobs.status(name),
        "step": history.step,
        "total_steps": history.started.total_steps if history.started else None,
        "seconds_left": history.seconds_left,
        "loss": history.steps[-1].average if history.steps else None,
        "trainable_parameters": history.started.trainable_parameters if history.started else None,
    }


def _details(studio: Studio, name: str) -> dict[str, Any]:
    history = studio.jobs.history(name)
    return {
        "options": studio.jobs.values(name),
        "summary": history.started.summary if history.started else {},
        "files": [{"kind": file.kind, "step": file.step, "path": file.path} for file in history.files],
        "samples": [{"step": made.step, "prompt": made.prompt, "file": Path(made.path).name} for made in history.samples],
        "log": [{"time": at, "text": text} for at, text in history.log],
    }
