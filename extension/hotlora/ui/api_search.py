"""The part of the HTTP API that is about searches for better settings."""

from fastapi import APIRouter, Body, HTTPException
from fastapi import Path as InPath

from ..engine.errors import UserError
from .answers import describe_run, describe_search
from .studio import Studio

_WISHES = Body(
    ...,
    example={
        "options": {"output_name": "mystyle", "train_data_dir": "data/mystyle", "max_steps": 300},
        "minutes": 120,
        "keep": ["scheduler"],
    },
    description="``options`` as for a run, and what is asked of the search.",
)


def add_search(router: APIRouter, studio: Studio) -> None:
    """Routes to search and to look at what was found."""
    jobs = studio.jobs

    @router.post("/searches", status_code=201, summary="Find better settings than these")
    def search(wishes: dict = _WISHES) -> dict:
        """``options``: of the run whose settings are to be beaten. ``minutes``: how long to search at most, 60 when not said; ``trials``:
        so many other settings at most; ``over``: a list of ``KEY=A,B,C`` or ``KEY=LOW..HIGH``; ``keep``: options that stay.
        ``pruner``: median or hyperband. It stands in line under the name of the run with ``-search`` behind it, and is paused, stopped,
        resumed and deleted like a run. The same again goes on. The answer: as of ``POST /runs``, with the status ``searching``."""
        options = wishes.pop("options", None)
        if not isinstance(options, dict):
            raise UserError("cannot find settings without options: they are of the run that is to be beaten. Give them as options.")
        return describe_run(jobs, jobs.search(dict(studio.settings()) | options, wishes).name)

    @router.get("/searches/{name}", summary="What a search has tried and found")
    def show(name: str = InPath(..., description="The search's name, such as mystyle-search.")) -> dict:
        """``plan``: what was asked. ``trials``: each with its ``number``, ``kind`` (as given, search, repeat), ``chosen`` settings,
        ``state`` (running, done, cut short, failed), kept-back ``loss``, trained ``parameters``, ``seconds``, ``seed``, and ``of``, the
        number of the trial that is repeated. ``verdict``: a sentence; ``proposal``: the options that it would change; ``best``: all
        options of the proposed run. They are null before the first end or stop."""
        try:
            found = describe_search(jobs, name)
        except UserError as error:
            raise HTTPException(404, str(error)) from error
        if found is None:
            raise HTTPException(404, f"cannot show what '{name}' has found: it is a run, and no search.")
        return found
