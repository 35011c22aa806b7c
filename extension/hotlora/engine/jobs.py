"""All runs of one program: those that lie in its folder, the one that trains, and the line of those that wait for it.

One object per program, made once; pages, HTTP requests and reloads come and go around it.
"""

import os
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .beside import make_job
from .config import RunConfig
from .control import Control
from .entries import Entry, name_status, tell_share
from .errors import UserError
from .grid_job import draw_in_turn
from .history import History
from .housekeeping import delete_folder, remove, rename_folder
from .interfaces import Host, Library
from .job import Job
from .kept_runs import KeptRuns
from .left_runs import find_left, go_on_with
from .line import Left, LineFile
from .optimizers import try_optimizer
from .options import build
from .outlook import Looks, Outlook
from .run import Run, check_unchanged, has_trained, read_run_config
from .search_job import ENDING, begin_search, open_search, read_kept_search
from .search_plan import is_search, read_search_plan, with_judge
from .tensorboard import work_with_tensorboard


class Jobs(KeptRuns, Looks):
    """One run trains at a time; others wait in order.

    Args:
        make_host: the program that holds the model; called once per run.
        folder: where runs lie, a folder each.
        config_class: the options of its runs.
        check_access: raises UserError for options that this program may not be asked for.
        check_start: raises UserError for what can be seen in a moment to be wrong with them, data and files above all.
        library: where the program keeps adapters.
        on_end: called with every job that has ended, in its thread.

    Attributes:
        library: as given.
    """

    def __init__(
        self,
        make_host: Callable[[], Host],
        folder: Path,
        config_class: type[RunConfig],
        *,
        check_access: Callable[[RunConfig], None] = lambda config: None,
        check_start: Callable[[RunConfig], None] = lambda config: None,
        library: Library | None = None,
        on_end: Callable[[Job], None] = lambda job: None,
    ):
        KeptRuns.__init__(self, folder)
        Looks.__init__(self)
        self._make_host, self.config_class = make_host, config_class
        self._check_access, self._check_start, self._on_end = check_access, check_start, on_end
        self.library = library
        self._lock = threading.Lock()
        self._line: list[Job] = []  # the first one trains
        self._worker: threading.Thread | None = None
        self._line_file = LineFile(folder)
        self._left = self._line_file.read()  # of the program's last time; those of them that are still to be gone on with

    # -- starting ------------------------------------------------------------------------------------------------------

    def build_config(self, values: Mapping[str, Any]) -> RunConfig:
        """Checked options. ``output_name`` (or the last part of ``output_dir``) names the run and its folder.

        Raises:
            UserError: for options that are wrong, contradictory or not allowed here.
        """
        values = dict(values)
        named = values.get("output_name") or Path(str(values.get("output_dir") or "")).name
        name = str(named).strip().removesuffix(self.config_class.FILE_SUFFIX)
        if not name:
            raise UserError("cannot start a run without a name. Give the LoRA a name.")
        named = name if isinstance(named, (str, int, float)) else named  # which is no name
        values |= {"output_name": named, "output_dir": str(self.folder / name)}
        config = build(self.config_class, values)
        self._check_access(config)
        try_optimizer(config)
        return config

    def start(self, values: Mapping[str, Any]) -> Job:
        """A new run: it trains at once, or when those before it are done.

        Raises:
            UserError: for options that are wrong, and for a name that is taken.
        """
        config = self.build_config(values)
        self._check_start(config)
        with self._lock:
            if self.find_job(config.name) or has_trained(self.folder / config.name, config):
                raise UserError(
                    f"cannot start a run called '{config.name}': there is one already. Resume or delete it, or choose another name."
                )
            bearer = self._archive.find_bearer(config.name)
            if bearer:
                raise UserError(f"cannot start a run called '{config.name}': the files of '{bearer}' are called so. Choose another name.")
            if self.library:
                self.library.check_name(config.name)
            self._archive.forget(config.name)
            return self._stand_in_line(make_job(self._make_host(), config, Run.start(config)))

    def resume(self, name: str, changes: Mapping[str, Any] | None = None) -> Job:
        """Go on with a run that was stopped, has failed, or was interrupted by the program's end.

        Raises:
            UserError: when there is none of that name, it trains already, or ``changes`` contradict what it has learned.
        """
        folder = self.find_folder(name)
        if is_search(folder):
            config, plan = read_kept_search(self.config_class, folder, changes or {})
            self._check_access(config)
            self._check_start(config)
            with self._lock:
                self._check_idle(name)
                return self._stand_in_line(begin_search(self._make_host(), config, plan, folder))
        old = build(self.config_class, read_run_config(folder))
        same = {"output_dir": str(folder), "output_name": old.name}
        config = build(self.config_class, read_run_config(folder) | dict(changes or {}) | same)
        self._check_access(config)
        check_unchanged(old, config)
        self._check_start(config)
        config.given = frozenset()  # what init_lora may take over was settled when the run started
        with self._lock:
            self._check_idle(name)
            return self._stand_in_line(make_job(self._make_host(), config, Run.reopen(config)))

    def search(self, values: Mapping[str, Any], wishes: Mapping[str, Any]) -> Job:
        """Find better settings than these, see SearchJob; goes on with the same search where there is one. ``wishes``: see SearchPlan.

        Raises:
            UserError: for options or wishes that are wrong, where Optuna is missing, and where there is another search of that name.
        """
        plan, config = read_search_plan(wishes), with_judge(self.build_config(values))
        self._check_start(config)
        with self._lock:
            self._check_idle(f"{config.name}{ENDING}")
            return self._stand_in_line(open_search(self._make_host(), config, plan, self.folder))

    def draw(self, name: str, values: Mapping[str, Any]) -> int:
        """Have a grid of a run drawn, see draw_in_turn. Raises UserError for ``values`` that make none."""
        config = build(self.config_class, self.values(name) | {"output_dir": str(self.find_folder(name))})
        self._check_access(config)
        with self._lock:
            return draw_in_turn(self.find_job(name), config, values, self._make_host, self._stand_in_line)

    def _check_idle(self, name: str) -> None:
        if self.find_job(name):
            raise UserError(f"cannot resume '{name}': it is training or waiting already. Wait for it, or stop it first.")

    def enter(self, name: str, make: Callable[[Host], Job]) -> Job:
        """Have other work than a run done when those before it are done.

        Args:
            name: that the work is going to have.
            make: makes it; what it raises is handed on.

        Raises:
            UserError: where something of that name trains, waits or lies among the runs.
        """
        with self._lock:
            if self.find_job(name) or (self.folder / name).exists():
                raise UserError(f"cannot start '{name}': there is one of that name already. Wait for it, or choose another name.")
            return self._stand_in_line(make(self._make_host()))

    def _stand_in_line(self, job: Job) -> Job:
        self._line.append(job)
        self._left = [name for name in self._left if name != job.run.name]
        self._keep_line()
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="hotlora", daemon=True)
            self._worker.start()
        return job

    def _keep_line(self) -> None:
        self._line_file.write(list(dict.fromkeys([*(job.run.name for job in self._line if job.IS_RUN), *self._left])))

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._line:
                    self._worker = None
                    return
                job = self._line[0]
            try:
                work_with_tensorboard(job)
            except Exception:  # whatever it was, those that wait are not to wait for ever
                traceback.print_exc()
            with self._lock:
                self._line.remove(job)
                self._keep_line()
            try:
                self._on_end(job)
            except Exception:
                traceback.print_exc()

    # -- the line of the program's last time -----------------------------------------------------------------------------

    def list_left(self) -> list[Left]:
        """The runs that stood in line when the program ended, in their order; without those that somebody has gone on with since."""
        return find_left(self, list(self._left))

    def go_on_with_left(self) -> list[str]:
        """Put them in line again, in their order; returns why for those that cannot be gone on with."""
        return go_on_with(self)

    def forget_left(self) -> None:
        """Leave them as they are, among the other runs."""
        with self._lock:
            self._left = []
            self._keep_line()

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Job | None:
        """The run that has the model now."""
        return next(iter(self._line), None)

    def list_line(self) -> list[str]:
        """The run that has the model, and those that wait for it, in their order."""
        return [job.run.name for job in list(self._line)]

    def find_job(self, name: str) -> Job | None:
        """The run that trains or waits under this name."""
        wanted = os.path.normcase(name)
        return next((job for job in list(self._line) if os.path.normcase(job.run.name) == wanted), None)

    def control(self, name: str) -> Control:
        """To stop, pause, sample and save. Raises UserError where the run does not train."""
        job = self.find_job(name)
        if job is None:
            self.find_folder(name)
            raise UserError(f"cannot reach '{name}': it is not training now. Resume it first.")
        return job.control

    def stop(self, name: str) -> None:
        """Save and end the run; one that only waits leaves the line. Raises UserError where it does neither."""
        control = self.control(name)
        with self._lock:
            waiting = next((job for job in self._line[1:] if job.control is control), None)
            if waiting:
                self._line.remove(waiting)
                self._keep_line()
                waiting.run.close()
                return
        control.stop()

    def move(self, name: str, by: int) -> None:
        """Let a run that waits change places with its neighbour: by -1 forward, by 1 back. Raises UserError where it does not wait."""
        with self._lock:
            names = [job.run.name for job in self._line]
            if name not in names[1:]:
                raise UserError(f"cannot move '{name}': it does not wait. Only runs that wait have a place in line.")
            place = names.index(name)
            self._line.insert(min(max(place + by, 1), len(names) - 1), self._line.pop(place))
            self._keep_line()

    def status(self, name: str) -> str:
        """One of STATUSES."""
        current, job = self.current, self.find_job(name)  # before its events, which then have the end of a run that is gone by now
        return name_status(job, self.outline(name), is_current=job is current)

    def look_up(self, name: str) -> Entry:
        """One run, as in the list of all. Raises UserError where there is none, or it cannot be read."""
        return Entry(name, self.status(name), self.outline(name), share=tell_share(self.find_job(name)))

    def list_all(self) -> list[Entry]:
        """Every run, the one that was worked on last first. Takes time in proportion to their number."""
        current, line = self.current, {os.path.normcase(job.run.name): job for job in list(self._line)}
        entries = []
        for name, outline in self._archive.look().items():
            if isinstance(outline, UserError):
                entries.append(Entry(name, "", History(), str(outline)))
            else:
                job = line.get(os.path.normcase(name))
                status = name_status(job, outline, is_current=job is current)
                entries.append(Entry(name, status, outline, share=tell_share(job), marks=self._archive.marks(name)))
        return entries

    def explain_wait(self) -> str:
        """What keeps those in line waiting although nothing trains; empty where nothing does."""
        job = self.current
        if job is None or job.phase != "paused":
            return ""
        away = getattr(self.outline(job.run.name).latest, "message", "")
        return away or f"'{job.name}' is paused and stands before it. Go on with it, or stop it."

    def delete(self, name: str, *, copies: bool = False) -> None:
        """Remove a run's folder with all that is in it. Raises UserError while it trains or waits.

        Args:
            copies: also those of its adapters that are in the program's library.
        """
        folder = self.find_folder(name)
        with self._lock:
            if self.find_job(name):
                raise UserError(f"cannot delete '{name}': it is training or waiting. Stop it first.")
            if copies and self.library and not is_search(folder):  # which has none: the name is its run's
                self.library.remove_copies(str(self.values(name).get("output_name") or name))
            doomed = delete_folder(folder)
            self._archive.forget(name)
            remove(doomed)

    def rename(self, name: str, new: str) -> None:
        """Another name for a run and its folder; the files in it, and published ones, keep theirs. Raises UserError."""
        folder, new = self.find_folder(name), new.strip()
        with self._lock:
            if self.find_job(name):
                raise UserError(f"cannot rename '{name}': it is training or waiting. Wait until it has ended, or stop it.")
            self._check_unused(name, folder)
            rename_folder(folder, new, self._archive.marks(name))
            self._left = [new if left == name else left for left in self._left]
            self._keep_line()
            self._archive.forget(name)
            self._archive.forget(new)

    def _check_unused(self, name: str, folder: Path) -> None:
        """Nothing in line reads files of this run."""
        for job in self._line:
            source = str(getattr(job.config, "init_lora", "") or "")
            if source and folder.resolve() in Path(source).expanduser().resolve().parents:
                raise UserError(f"cannot rename '{name}': '{job.run.name}' goes on from a file in it. Wait until that has ended.")

    # -- before a start ------------------------------------------------------------------------------------------------

    def look_ahead(self, values: Mapping[str, Any]) -> Outlook:
        """Find out, in the background, what a run with these options would take.

        Raises:
            UserError: for options that are wrong, and while another such look goes on.
        """
        values = dict(values)
        values["output_name"] = values.get("output_name") or "unnamed"
        config = self.build_config(values)
        self._check_start(config)
        return self.begin_look(self._make_host(), config)
