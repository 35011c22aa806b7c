"""``hotlora grid``: a run's checkpoints side by side, drawn or answered by the stand-alone host. Exit codes as of ``hotlora train``."""

import argparse
from pathlib import Path

from ..engine.config import RunConfig
from ..engine.events import Drawn, read_events
from ..engine.grid import FOLDER, GridPlan, lay_out, read_grid, read_plan
from ..engine.grid_job import GridJob
from ..engine.recipe import read_options
from ..engine.run import Run
from ..tasks import TASKS
from .drawing import carry_out

_QUESTIONS = 5  # of a text run without prompts


def run(options: argparse.Namespace) -> int:
    """Draw what is missing; returns the exit code. Raises UserError for what is wrong before drawing starts."""
    config = read_options({name: task.config_class for name, task in TASKS.items()}, resume=options.folder)
    folder = Run(Path(config.output_dir), config.name, config.FILE_SUFFIX)
    plan = _read_plan(options, config)
    count = sum(len(row) for row in lay_out(plan.with_places(), folder.list_adapters()))
    what = "pictures" if TASKS[config.TASK].draws_pictures else "answers"
    print(f"{count} {what} at most, without those that are there already{_tell_time(folder, count)}.", flush=True)
    if options.count:
        return 0
    TASKS[config.TASK].check_model(config)
    folder.take()
    job = GridJob(TASKS[config.TASK].make_host(), config, folder, plan)
    outcome = carry_out(job)
    if isinstance(outcome, int):
        return outcome
    grid = read_grid(folder.folder)
    if grid:
        drawn, total = grid.count()
        print(f"{drawn} of {total} {what}: {folder.folder / FOLDER / 'grid.html'}")
    return 0


def _read_plan(options: argparse.Namespace, config: RunConfig) -> GridPlan:
    prompts = tuple(options.prompt or (str(prompt) for prompt in config.sample_prompts))
    usual = 0 if prompts or TASKS[config.TASK].draws_pictures else _QUESTIONS
    wishes = {
        "questions": usual if options.questions is None else options.questions,
        "rows": options.rows,
        "columns": options.columns,
        "checkpoints": options.checkpoint,
        "weights": options.weight,
        "prompts": prompts,
        "seeds": options.seed,
        "cfgs": options.cfg,
    }
    return read_plan(wishes)


def _tell_time(folder: Run, count: int) -> str:
    """By how long the last pictures of this run's grids took."""
    seconds = [event.seconds for event in read_events(folder.events.path) if isinstance(event, Drawn)][-20:]
    if not seconds:
        return "; how long one takes is known after the first"
    return f", about {count * sum(seconds) / len(seconds) / 60:.1f} minutes"
