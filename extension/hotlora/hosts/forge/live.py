"""The live LoRA (see :mod:`hotlora.hosts.webui.live`) on Forge's model."""

from collections.abc import Iterable

from ...engine.job import Job
from ...engine.jobs import Jobs
from ..webui import live
from .checkpoint import find_loaded
from .turn import take_loras_out


def update_live(jobs: Jobs, prompts: Iterable[str]) -> None:
    """Bring the running training's live LoRA up to date where one of the prompts asks for it."""
    live.update_live(jobs, prompts, _take_loras_out)


def remove_live(job: Job) -> None:
    """The run has ended: its live LoRA is gone."""
    live.remove_live(job, _take_loras_out)


def _take_loras_out() -> None:
    take_loras_out(find_loaded())
