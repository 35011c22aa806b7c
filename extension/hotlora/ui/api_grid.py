"""The part of the HTTP API that is about grids of a run's checkpoints."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Body, HTTPException
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from ..engine.errors import UserError
from ..engine.grid import Grid, read_grid
from ..engine.jobs import Jobs
from ..engine.tidying import keep_only

_RUN = InPath(..., description="The run's name.")
_PLAN = Body({}, example={"rows": "weight", "weights": [0.5, 1], "prompts": ["a cat"]}, description="Nothing need be said.")


def add_grid(router: APIRouter, jobs: Jobs) -> None:
    """Routes to draw a grid and to look at it."""

    @router.post("/runs/{name}/grid", status_code=202, summary="Draw the run's checkpoints side by side")
    def draw(name: str = _RUN, plan: dict = _PLAN) -> dict:
        """``rows`` and ``columns``: two of checkpoint, weight, prompt, seed and cfg; ``checkpoints``, ``weights``, ``prompts``, ``seeds``,
        ``cfgs`` (not of texts): lists of their values, of what is no axis one. ``questions``, of texts: how many of the run's data are
        asked too. A run that trains draws after its step; another one stands in line and is
        ``drawing``. What is drawn already is not drawn again; ``stop`` ends it. The answer: how many pictures there are at ``most``."""
        _find(name)
        return {"most": jobs.draw(name, plan)}

    @router.get("/runs/{name}/grid", summary="The run's last grid")
    def show(name: str = _RUN) -> dict:
        """``rows`` and ``columns``; ``cells`` row by row, each with what it is drawn from, ``adapter`` as tags call it, ``wanted``, the
        right answer where one is known, and its ``file``, null where it is not there yet; ``drawn`` of ``total``."""
        grid = _open(name)
        files = {stem: path.name for stem, path in grid.paths().items()}
        cells = [[{**asdict(cell), "file": files.get(cell.name)} for cell in row] for row in grid.cells]
        drawn, total = grid.count()
        return {"rows": grid.rows, "columns": grid.columns, "cells": cells, "drawn": drawn, "total": total}

    @router.get("/runs/{name}/grid/{file}", summary="A picture or answer of the grid, or grid.html", response_class=FileResponse)
    def show_picture(name: str = _RUN, file: str = InPath(..., description="As in the grid's ``cells``.")) -> Any:
        grid = _open(name)
        paths = {path.name: path for path in [*grid.paths().values(), grid.folder / "grid.html", grid.folder / "grid.md"]}
        if file not in paths or not paths[file].is_file():
            raise HTTPException(404, f"cannot find the picture '{file}' in the grid of '{name}'.")
        return FileResponse(paths[file])

    @router.post("/runs/{name}/keep", summary="Remove the run's other checkpoints")
    def keep(name: str = _RUN, checkpoint: str = Body(..., embed=True, description="As the grid calls it, such as ``step 250``.")) -> dict:
        """The finished LoRA stays too. Refused while the run trains or waits. The answer: the files that were ``removed``."""
        _find(name)
        return {"removed": keep_only(jobs, name, checkpoint)}

    def _open(name: str) -> Grid:
        grid = read_grid(_find(name))
        if grid is None:
            raise HTTPException(404, f"cannot show a grid of '{name}': none was drawn. POST to the same address first.")
        return grid

    def _find(name: str) -> Any:
        try:
            return jobs.find_folder(name)
        except UserError as error:
            raise HTTPException(404, str(error)) from error
