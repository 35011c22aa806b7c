"""What commands that draw have in common: a job is carried out, and each picture is told."""

import sys

from ..engine.events import Drawn, Event, Failed, Finished, Warned
from ..engine.job import Job
from .train import stop_on_signals


def carry_out(job: Job) -> Finished | int:
    """What the job ended with; where it failed, the exit code, after saying why."""
    job.subscribe(_tell)
    stop_on_signals(job)
    outcome = job.work()
    if not isinstance(outcome, Failed):
        return outcome
    print(f"error: {outcome.message}", file=sys.stderr)
    return 1 if outcome.bug else 2


def _tell(event: Event) -> None:
    if isinstance(event, Drawn):
        print(f"{event.done} of {event.total}, {event.seconds:.1f} s: {event.path}", flush=True)
    elif isinstance(event, Warned):
        print(f"note: {event.message}", flush=True)
