"""One line of what goes on, which stays in sight while the page is scrolled. Reads runs; starts nothing."""

import time

from ..engine.errors import UserError
from ..engine.events import Preparing
from ..engine.history import History
from ..engine.jobs import Jobs
from .draw import duration, escape
from .search_views import share_of_search

_ENDED_SECONDS = 30  # so long after its end a run is still news; the line lies over what is below it


def show_now(jobs: Jobs) -> str:
    """The run that has the model, or has just ended; empty where there is none."""
    line, outlook = jobs.list_line(), jobs.outlook
    if outlook and outlook.busy:
        return _draw("preparing", "<span>What will happen?</span>", 0.0, "")
    job = jobs.current
    if job and not job.IS_RUN:
        done, total = (job.progress.done, job.progress.total) if job.progress else (0, 0)
        return _draw(job.phase, f"<b>{escape(job.name)}</b>", done / max(total, 1), f" {done} / {total}" if total else "")
    name = line[0] if line else next(iter(jobs.names()), None)
    if name is None:
        return ""
    try:
        status, history = jobs.status(name), jobs.outline(name)
    except UserError:  # it cannot be read, or has just been deleted
        return ""
    ended = history.latest.time if history.latest else 0.0
    if not line and time.time() - ended > _ENDED_SECONDS:
        return ""
    waiting = f" · <span>waiting</span> <b>{len(line) - 1}</b>" if len(line) > 1 else ""
    return _draw(status, f"<b>{escape(name)}</b>", _share(status, history), _describe(status, history) + waiting)


def _describe(status: str, history: History) -> str:
    total = history.started.total_steps if history.started else 0
    if status == "preparing" and isinstance(history.latest, Preparing):
        return f" <span>{escape(history.latest.what)}</span> {history.latest.done} / {history.latest.total}"
    left = history.seconds_left if status in ("training", "searching") else None
    steps = f" {history.step:,} / {total:,}" if total else f" <span>trials</span> {len(history.trials)}" if history.search else ""
    return steps + (f" · <span>time left</span> {duration(left)}" if left is not None else "")


def _share(status: str, history: History) -> float:
    if status == "preparing" and isinstance(history.latest, Preparing):
        return history.latest.done / max(history.latest.total, 1)
    if history.search:
        return share_of_search(history, status)
    return history.step / history.started.total_steps if history.started else 0.0


def _draw(status: str, called: str, share: float, rest: str) -> str:
    badge = f'<em class="hotlora-badge hotlora-{escape(status.replace(" ", "-"))}">{escape(status)}</em>'
    return (
        f'<div class="hotlora-now" data-line="{escape(called)} {escape(status)}"><button type="button" class="hotlora-go">'
        f'<i style="width:{share:.1%}"></i><span class="hotlora-line">{called} {badge}{rest}</span></button>'
        '<button type="button" class="hotlora-dismiss" title="Hide this line"></button></div>'
    )
