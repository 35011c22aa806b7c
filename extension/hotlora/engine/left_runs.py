"""What becomes of the runs that stood in line when the program ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import UserError
from .line import Left
from .run import find_state_step

if TYPE_CHECKING:
    from .jobs import Jobs

_CUT_SHORT = ("interrupted", "not started")  # by the program's end


def find_left(jobs: "Jobs", names: Sequence[str]) -> list[Left]:
    """Those of the named runs that are still cut short, in their order."""
    found = []
    for name in names:
        try:
            if jobs.status(name) in _CUT_SHORT:
                outline = jobs.outline(name)
                lost = max(outline.step - find_state_step(jobs.find_folder(name)), 0)
                found.append(Left(name, outline.step, lost, len(outline.trials)))
        except UserError:
            continue
    return found


def go_on_with(jobs: "Jobs") -> list[str]:
    """Put them in line again; returns why for those that cannot be gone on with."""
    refused = []
    for left in jobs.list_left():
        try:
            jobs.resume(left.name)
        except UserError as error:
            refused.append(str(error))
    jobs.forget_left()
    return refused
