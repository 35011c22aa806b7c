"""A run in the list of all runs: what it does now, in a word."""

from dataclasses import dataclass

from .events import Failed
from .history import History
from .job import Job
from .marks import Marks

STATUSES = (
    *("waiting", "preparing", "training", "drawing", "searching", "paused", "stopping"),
    *("done", "stopped", "failed", "interrupted", "not started"),
)


@dataclass(frozen=True)
class Entry:
    """A run in the list of all runs."""

    name: str
    status: str  # one of STATUSES; empty where its events cannot be read
    outline: History
    problem: str = ""  # why they cannot
    share: float | None = None  # of the last minute, how much it had the model; of a run that trains
    marks: Marks = Marks()


def tell_share(job: Job | None) -> float | None:
    """As in an entry. ``job``: where the run trains or waits."""
    return job.control.share_of_time() if job is not None and job.phase == "training" else None


def name_status(job: Job | None, outline: History, *, is_current: bool) -> str:
    """One of STATUSES. ``job``: where the run trains or waits."""
    if job is not None:
        return job.phase if is_current else "waiting"
    if outline.outcome is None:
        return "interrupted" if outline.latest else "not started"
    if isinstance(outline.outcome, Failed):
        return "failed"
    return "stopped" if outline.outcome.reason == "stopped" else "done"
