"""A search for better settings as an entry of the line: its trials train in turns like any run, and its folder is a run's beside others."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .beside import refuse_beside
from .config import RunConfig
from .errors import UserError
from .events import Concluded, Finished, Searching, Tried, Warned
from .interfaces import Host
from .job import Job
from .loop import prepare, through_turns
from .options import build
from .processes import ALONE
from .run import Run
from .search_plan import SearchPlan, check_optuna, is_search, read_search, read_search_plan, settled_options, write_search
from .search_space import make_space
from .searching import BEST_NAME, TABLE_NAME, Search
from .trials import Limits

ENDING = "-search"


class SearchJob(Job):
    """Searches until its time is over or it is told to stop; another one in the same folder goes on.

    Args:
        config: of the run whose settings are searched, with something to judge by.
    """

    WORK = "Searching"

    def __init__(self, host: Host, config: RunConfig, run: Run, plan: SearchPlan):
        super().__init__(host, config, run)
        self._plan, self._seconds_left = plan, plan.minutes * 60
        self._notes = list(config.notes)  # that were not told yet

    def _train(self) -> Finished | None:
        self._phase = "preparing"
        trainee = self._host.borrow(self.config)
        self.run.write_config(self.config)  # it names the base model now
        write_search(self.run.folder, self._plan, self.config)
        for event in through_turns(self.control, prepare(trainee, ALONE), contextlib.nullcontext):
            self._take(event)
            if self.control.stopping:
                return self._finish({})
        while self._notes:
            self._take(Warned(self._notes.pop(0)))
        space = make_space(self.config, self._plan.over, self._plan.keep)
        search = Search(self.config, self.run.folder, space, pruner=self._plan.pruner, tell=self._take)
        with self.control.turn():
            search.begin(self._host, trainee)
        self._work(search)
        search.report(plot=False)
        verdict, proposal = search.conclude()
        self._take(Concluded(verdict.words, proposal))
        return self._finish({"best": str(self.run.folder / BEST_NAME), "table": str(self.run.folder / TABLE_NAME)})

    def _work(self, search: Search) -> None:
        """Trials, in the time that is left. Raises ModelAway; what time is left then is kept."""
        search.mend()
        for row in search.rows():
            self._take(Tried(dataclasses.asdict(row)))
        self._take(Searching(self._seconds_left))
        limits = Limits(time.monotonic() + self._seconds_left, self._plan.trials or math.inf)
        try:
            search.work(limits, self.control)
        finally:
            self._seconds_left = max(limits.seconds_left, 0.0)

    def _finish(self, files: dict[str, str]) -> Finished:
        finished = Finished(0, "stopped" if self.control.stopping else "done", files)
        self._take(finished)
        return finished


def open_search(host: Host, config: RunConfig, plan: SearchPlan, runs: Path) -> SearchJob:
    """A search for better settings of a run, to be carried out; it goes on where it has begun.

    Args:
        config: with something to judge by.
        runs: the folder of all runs.

    Raises:
        UserError: where a run, or a search for something else, lies in its folder, and for a plan that fits no such run.
    """
    folder = runs / f"{config.name}{ENDING}"
    make_space(config, plan.over, plan.keep)
    if is_search(folder):
        before, options = read_search(folder)
        known = settled_options(build(type(config), options))
        if known != settled_options(config) or (before.over, before.keep) != (plan.over, plan.keep):
            raise UserError(
                f"cannot go on with '{folder.name}': it is a search over other options or values. Delete it, or choose another name."
            )
    elif (folder / "config.yaml").exists():
        raise UserError(f"cannot find settings for '{config.name}': a run is called '{folder.name}'. Rename it, or choose another name.")
    return begin_search(host, config, plan, folder)


def read_kept_search(config_class: type[RunConfig], folder: Path, changes: Mapping[str, Any]) -> tuple[RunConfig, SearchPlan]:
    """What :func:`begin_search` needs for the search that lies there. ``changes``: of its plan, such as ``minutes``. Raises UserError."""
    plan, options = read_search(folder)
    config, plan = build(config_class, options), read_search_plan({**dataclasses.asdict(plan), **changes})
    make_space(config, plan.over, plan.keep)
    return config, plan


def begin_search(host: Host, config: RunConfig, plan: SearchPlan, folder: Path) -> SearchJob:
    """The search in this folder, to be carried out. Raises UserError where Optuna is missing."""
    refuse_beside(host, config, "search settings")
    check_optuna()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder '{folder}': {error.strerror}. Choose another name.") from error
    run = Run(folder, folder.name, config.FILE_SUFFIX)
    run.take()
    run.write_config(config)
    write_search(folder, plan, config)
    return SearchJob(host, config, run, plan)
