"""A grid that is drawn (of texts: written) while its run does not train: an entry of the line like any run, under its run's name."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import RunConfig
from .drawing import draw_grid
from .errors import UserError
from .events import Drawn, Event, Failed, Finished, Paused, Warned
from .grid import GridPlan, lay_out, read_plan
from .interfaces import Host
from .job import Job
from .loop import through_turns
from .run import Run
from .tidying import list_checkpoints

if TYPE_CHECKING:
    from .jobs import Jobs


class GridJob(Job):
    """Draws, and leaves what is known of the run's training as it is: of its events only pictures and warnings are kept.

    Args:
        config: the run's own; what it began from is in its files by now.
    """

    WORK = "Drawing"

    def __init__(self, host: Host, config: RunConfig, run: Run, plan: GridPlan):
        began_anew: dict[str, Any] = {"init_lora": "", "tensorboard": False}
        super().__init__(host, dataclasses.replace(config, **began_anew), run)
        self._plan, self._phase = plan, "drawing"

    def _train(self) -> Finished | None:
        trainee = self._host.borrow(self.config)
        work = draw_grid(trainee, self.config, self.control, self._plan)
        for event in through_turns(self.control, work, contextlib.nullcontext):
            self._take(event)
        return Finished(0, "stopped" if self.control.stopping else "done", {})

    def _take(self, event: Event) -> None:
        if isinstance(event, Paused) and event.message:
            event = Warned(event.message)
        if isinstance(event, (Drawn, Warned)):
            self.run.events.append(event)

    def _tell(self, event: Failed) -> None:
        self._take(Warned(event.message))


def draw_in_turn(
    job: Job | None, config: RunConfig, values: Mapping[str, Any], make_host: Callable[[], Host], stand_in_line: Callable[[Job], Any]
) -> int:
    """Have a run's grid drawn: by ``job``, the run where it trains or waits, else in line. Returns how many pictures it has.

    Args:
        values: see read_plan; the run's own prompts where they have none.

    Raises:
        UserError: for values that make no grid, and while one of this run is drawn.
    """
    if isinstance(job, GridJob):
        raise UserError(f"cannot draw another grid of '{job.name}': one is drawn or waits. Wait for it, or stop it.")
    prompts = values.get("prompts") or [str(prompt) for prompt in config.sample_prompts]
    plan = read_plan({**values, "prompts": prompts})
    run = job.run if job else Run(Path(config.output_dir), config.name, config.FILE_SUFFIX)
    count = sum(map(len, lay_out(plan.with_places(), run.list_adapters())))
    if job:
        job.control.draw(plan)
    else:
        run.take()
        stand_in_line(GridJob(make_host(), config, run, plan))
    return count


def foresee_grid(jobs: "Jobs", name: str, values: Mapping[str, Any]) -> tuple[int, float | None]:
    """Of a grid that is not asked for yet: how many samples it has, and about how many seconds they take. None before the run has made any.

    Args:
        values: see draw_in_turn.

    Raises:
        UserError: for values that make no grid.
    """
    prompts = values.get("prompts") or [str(prompt) for prompt in jobs.values(name).get("sample_prompts") or []]
    plan = read_plan({**values, "prompts": prompts}).with_places()
    count, each = sum(map(len, lay_out(plan, list_checkpoints(jobs, name)))), jobs.outline(name).sample_seconds
    return count, None if each is None else count * each
