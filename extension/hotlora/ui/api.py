"""The HTTP API under ``/hotlora/v1``: what the page does, for programs. Described in the host's ``/docs``.

Handlers run in the server's threads and return at once; what takes long is started, and looked at again. Written with plain
dicts: old and new versions of pydantic describe its classes differently.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from ..engine.errors import UserError
from ..engine.options import as_plain, options_of
from ..engine.outlook import Outlook
from .answers import describe_all, describe_details, describe_outlook, describe_run, explain, find_sheet, printable, read_lines
from .api_data import add_data
from .api_grid import add_grid
from .api_queue import add_queue
from .api_search import add_search
from .presets import list_presets, read_preset
from .studio import Studio
from .web_safety import find_stranger, is_same_place

_MOST_EVENTS = 1000
_RUN = InPath(..., description="The run's name.")
_EXAMPLE = {"output_name": "mystyle", "train_data_dir": "data/mystyle", "trigger_word": "mystyle", "epochs": 10}
_OPTIONS = Body(..., example=_EXAMPLE, description="Options as in a run file; GET /options lists them.")
_CHANGES = Body({}, example={"epochs": 20}, description="Options that are different from now on; of a search its minutes or trials.")
_REFUSALS = {
    400: {"description": "What cannot be done and why, in a sentence.", "content": {"application/json": {"example": {"detail": "…"}}}},
    404: {"description": "There is no such run or file."},
}


def basic_auth(passwords: Mapping[str, str]) -> Callable[..., None]:
    """A dependency that lets in who knows one of these names with its password."""
    ask = HTTPBasic()
    pairs = [(name.encode(), password.encode()) for name, password in passwords.items() if password]

    def check(given: HTTPBasicCredentials = Depends(ask)) -> None:  # noqa: B008
        name, password = given.username.encode(), given.password.encode()
        # every pair to its end, so that the time taken tells nothing about any of them
        known = [secrets.compare_digest(name, n) & secrets.compare_digest(password, p) for n, p in pairs]
        if not any(known):
            raise HTTPException(401, "Incorrect name or password", {"WWW-Authenticate": "Basic"})

    return check


class _Json(JSONResponse):
    """Also what JSON has no signs for: half of a surrogate pair, as in names of files; numbers that are none."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except ValueError:
            return json.dumps(json.loads(json.dumps(content), parse_constant=lambda number: None)).encode("ascii")


def _make_route(is_allowed: Callable[[str], bool]) -> type[APIRoute]:
    """Routes that answer what a user can mend with its sentence, and no pages but those of this program and the allowed ones."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Any:
                if request.method not in ("GET", "HEAD"):
                    _check_sender(request, "multipart/form-data" if "/datasets/" in self.path else "application/json", is_allowed)
                try:
                    return await handle(request)
                except RequestValidationError as error:
                    wrong = error.errors()[0]
                    place = " ".join(str(part) for part in wrong["loc"])
                    raise HTTPException(422, printable(f"cannot read the request's {place}: {wrong['msg']}.")) from error
                except Exception as error:
                    sentence = explain(error)
                    if not sentence:
                        raise
                    raise HTTPException(400, sentence) from error

            return answer

    return Route


def _check_sender(request: Request, kind: str, is_allowed: Callable[[str], bool]) -> None:
    """A form on any page can send what is no JSON."""
    named = request.headers.get("x-forwarded-host")  # by proxies: no page can make a browser send this to another
    stranger = find_stranger(request.headers, request.method, lambda origin: is_allowed(origin) or is_same_place(origin, named))
    if stranger:
        raise HTTPException(403, printable(stranger))
    given = request.headers.get("content-type", kind).partition(";")[0].strip().lower()
    if given != kind:
        raise HTTPException(415, f"cannot read this: it is sent as {printable(given)}. Send it with the header Content-Type: {kind}.")


def build_router(studio: Studio, authorize: Callable | None, is_allowed: Callable[[str], bool] = lambda origin: False) -> APIRouter:
    """All routes of one studio.

    Args:
        authorize: a dependency that refuses whom it does not know; None lets everybody in.
        is_allowed: whether a page of another origin, such as ``https://my.site``, may change something here.
    """
    router = APIRouter(
        prefix="/hotlora/v1",
        tags=["HotLoRA"],
        dependencies=[Depends(authorize)] if authorize else [],
        route_class=_make_route(is_allowed),
        default_response_class=_Json,
        responses=_REFUSALS,
    )
    _add_runs(router, studio)
    add_grid(router, studio.jobs)  # before the actions, as which it would be taken
    _add_actions(router, studio)
    add_queue(router, studio.jobs)
    add_search(router, studio)
    _add_look_ahead(router, studio)
    add_data(router, studio)
    _add_recipes(router, studio)
    return router


# -- runs --------------------------------------------------------------------------------------------------------------


def _add_runs(router: APIRouter, studio: Studio) -> None:
    jobs = studio.jobs

    @router.get("/runs", summary="All runs, the one that was worked on last first")
    def list_runs() -> list:
        """Each as in the answer of ``POST /runs``."""
        return describe_all(jobs)

    @router.post("/runs", status_code=201, summary="Start a run")
    def start(options: dict = _OPTIONS) -> dict:
        """``output_name`` names the run. It trains at once, or waits until those before it are done.

        The answer: ``name``; ``status``, which is one of waiting, preparing, training, drawing, searching, paused, done, stopped, failed,
        interrupted, not started; ``step`` of ``total_steps``; ``seconds_left``; ``share_of_time``: how much of the
        last minute it had the model, 0 to 1; ``loss``, averaged; ``validation_loss``, the lowest;
        ``started_at`` in seconds since 1970; ``message``, where the status needs an explanation. What is not known yet is null.
        """
        return describe_run(jobs, jobs.start(dict(studio.settings()) | options).name)

    @router.get("/runs/{name}", summary="One run, with its options, files, samples and log")
    def show(name: str = _RUN) -> dict:
        """All of the list's answer, and ``options``, ``summary`` (what it trains on), ``files``, ``samples``, ``log``."""
        _find(studio, name)
        return describe_run(jobs, name) | describe_details(jobs, name)

    @router.get("/runs/{name}/events", summary="What has happened since event number N")
    def list_events(
        name: str = _RUN,
        since: int = Query(0, ge=0, description="Index of the first event wanted."),
        limit: int = Query(_MOST_EVENTS, ge=1, le=_MOST_EVENTS, description="At most so many."),
    ) -> dict:
        """Each event has its ``index`` and ``type``. Ask again with ``since`` set to the answer's ``next``; an index never
        comes to mean another event."""
        lines = read_lines(_find(studio, name) / "events.jsonl", since, limit)
        events = [{"index": since + place, **json.loads(line, parse_constant=lambda number: None)} for place, line in enumerate(lines)]
        return {"events": events, "next": since + len(events)}

    @router.delete("/runs/{name}", summary="Delete a run with everything in its folder")
    def delete(
        name: str = _RUN, copies: bool = Query(False, description="Also the copies of its LoRA in the program's own folder.")
    ) -> dict:
        """Refused while it trains or waits."""
        _find(studio, name)
        jobs.delete(name, copies=copies)
        return {"deleted": name}

    @router.get("/runs/{name}/samples/{file}", summary="A sample's picture or text, or the comparison", response_class=FileResponse)
    def show_sample(name: str = _RUN, file: str = InPath(..., description="As in the run's ``samples``, or its ``sheet``.")) -> Any:
        folder = _find(studio, name)
        paths = {path.name: path for path in (folder / "samples").glob("*")}
        sheet = find_sheet(jobs.history(name))
        if sheet:
            paths[sheet] = folder / sheet
        if file not in paths or not paths[file].is_file():
            raise HTTPException(404, f"cannot find the sample '{file}' of '{name}'.")
        return FileResponse(paths[file])


def _add_actions(router: APIRouter, studio: Studio) -> None:
    jobs = studio.jobs
    actions: dict[str, Callable[[str], None]] = {
        "pause": lambda name: jobs.control(name).pause(),
        "pause_and_free": lambda name: jobs.control(name).pause(free=True),
        "go_on": lambda name: jobs.control(name).go_on(),
        "stop": jobs.stop,
        "sample": lambda name: jobs.control(name).sample_now(),
        "save": lambda name: jobs.control(name).save_now(),
    }

    @router.post("/runs/{name}/resume", summary="Go on with a run that was stopped, has failed or was interrupted")
    def resume(
        name: str = _RUN,
        changes: dict = _CHANGES,
    ) -> dict:
        _find(studio, name)
        jobs.resume(name, changes)
        return describe_run(jobs, name)

    @router.post("/runs/{name}/{action}", summary="Pause, pause_and_free, go_on, stop, sample or save")
    def act(name: str = _RUN, action: str = InPath(..., description=f"One of {', '.join(actions)}.")) -> dict:
        """Each takes effect after the step that is under way. ``pause`` saves and leaves the model alone until ``go_on``;
        ``pause_and_free`` has the program unload it until then, also in a pause; ``stop`` saves and ends the run, or takes one that waits
        out of the line; ``sample`` and ``save`` are done at once."""
        _find(studio, name)
        if action not in actions:
            raise HTTPException(404, f"cannot {action} a run. The actions are: {', '.join(actions)}, resume.")
        actions[action](name)
        return describe_run(jobs, name)


# -- before a start ----------------------------------------------------------------------------------------------------


def _add_look_ahead(router: APIRouter, studio: Studio) -> None:
    jobs = studio.jobs

    @router.post("/check", status_code=202, summary="Find out what a run with these options would take")
    def look_ahead(options: dict = _OPTIONS) -> dict:
        """Reads the data and measures one training step; ``GET /check`` has the answer when it is there. Trains nothing."""
        return describe_outlook(jobs.look_ahead(dict(studio.settings()) | options))

    @router.get("/check", summary="What the run that was asked about last would take")
    def show_outlook() -> dict:
        """``busy`` until it is known; then ``estimate`` (steps, seconds, memory in bytes), ``summary`` and ``warnings``, or else
        ``cancelled`` or ``error``."""
        return describe_outlook(_find_look())

    @router.delete("/check", summary="Give up finding out what a run would take")
    def cancel_look() -> dict:
        """Takes effect at the next sign of progress; ``GET /check`` is ``busy`` until then. Refused where nothing is being looked
        at."""
        _find_look()
        return describe_outlook(jobs.cancel_look())

    def _find_look() -> Outlook:
        if jobs.outlook is None:
            raise HTTPException(404, "cannot tell: nobody has asked yet. POST the run's options to /check first.")
        return jobs.outlook


# -- recipes -----------------------------------------------------------------------------------------------------------


def _add_recipes(router: APIRouter, studio: Studio) -> None:
    config_class = studio.jobs.config_class

    @router.get("/options", summary="All options: default, choices, limits, what they do")
    def list_options() -> dict:
        defaults = as_plain(config_class()) | dict(studio.defaults)
        kept = ("doc", "minimum", "maximum", "advanced", "fixed")
        return {
            name: {
                "default": defaults.get(name),
                "choices": studio.choices[name]() if name in studio.choices else field.metadata["choices"],
                **{key: field.metadata[key] for key in kept},
            }
            for name, field in options_of(config_class).items()
        }

    @router.get("/presets", summary="Names of presets")
    def show_presets() -> list:
        return list_presets(studio)

    @router.get("/presets/{name}", summary="A preset's options")
    def show_preset(name: str) -> dict:
        if name not in list_presets(studio):
            raise HTTPException(404, f"cannot find a preset called '{name}'.")
        return read_preset(name, studio)


def _find(studio: Studio, name: str) -> Path:
    try:
        return studio.jobs.find_folder(name)
    except UserError as error:
        raise HTTPException(404, printable(str(error))) from error
