"""The part of the HTTP API that is about runs in line."""

from dataclasses import asdict

from fastapi import APIRouter

from ..engine.jobs import Jobs


def add_queue(router: APIRouter, jobs: Jobs) -> None:
    """Routes to the line, and to what was left of it when the program ended."""

    @router.get("/queue", summary="The run that trains and those that wait, in order; and those of before a restart")
    def show_line() -> dict:
        """``line`` has names. ``left``: runs that stood in line when the program ended, each with its ``name``, the ``step`` it had got
        to, and ``lost_steps``: so many of those came after the last saved state and will be trained again; of a search, how many ``trials``
        there were."""
        return {"line": jobs.list_line(), "left": [asdict(left) for left in jobs.list_left()]}

    @router.post("/queue", summary="Go on with the runs of before a restart, in their order")
    def go_on() -> dict:
        """The answer is as of ``GET /queue``, and ``refused``: a sentence for each that cannot be gone on with."""
        refused = jobs.go_on_with_left()
        return show_line() | {"refused": refused}

    @router.delete("/queue", summary="Forget the runs of before a restart")
    def forget() -> dict:
        """They stay among the other runs, and can be resumed one by one. The answer is as of ``GET /queue``."""
        jobs.forget_left()
        return show_line()
