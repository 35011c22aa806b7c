"""All runs of one program: those that lie in its folder, the one that trains, and the line of those that wait for it.

One object per program, made once; pages, HTTP requests and reloads come and go around it.
"""

import os
import shutil
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .config import RunConfig
from .control import Control
from .errors import UserError
from .events import Failed, Preparing
from .history import History
from .interfaces import Host
from .job import Job
from .optimizers import try_optimizer
from .options import build
from .probe import Estimate, look_ahead
from .run import Run, check_unchanged, has_trained, read_run_config
from .tensorboard import add_tensorboard

STATUSES = ("waiting", "preparing", "training", "paused", "done", "stopped", "failed", "interrupted", "not started")


class Jobs:
    """One run trains at a time; others wait in order.

    Args:
        make_host: the program that holds the model; called once per run.
        folder: where runs lie, a folder each.
        config_class: the options of its runs.
        check_access: raises UserError for options that this program may not be asked for.
        on_end: called with every job that has ended, in its thread.
    """

    def __init__(
        self,
        make_host: Callable[[], Host],
        folder: Path,
        config_class: type[RunConfig],
        *,
        check_access: Callable[[RunConfig], None] = lambda config: None,
        on_end: Callable[[Job], None] = lambda job: None,
    ):
        self._make_host, self.folder, self.config_class = make_host, folder, config_class
        self._check_access, self._on_end = check_access, on_end
        self._lock = threading.Lock()
        self._line: list[Job] = []  # the first one trains
        self._worker: threading.Thread | None = None
        self._histories: dict[Path, History] = {}
        self.outlook: Outlook | None = None

    # -- starting ------------------------------------------------------------------------------------------------------

    def build_config(self, values: Mapping[str, Any]) -> RunConfig:
        """Checked options. ``output_name`` (or the last part of ``output_dir``) names the run and its folder.

        Raises:
            UserError: for options that are wrong, contradictory or not allowed here.
        """
        values = dict(values)
        name = str(values.get("output_name") or Path(str(values.get("output_dir") or "")).name).strip()
        if not name:
            raise UserError("cannot start a run without a name. Give the LoRA a name.")
        values |= {"output_name": name, "output_dir": str(self.folder / name)}
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
        with self._lock:
            if self.find_job(config.name) or has_trained(self.folder / config.name, config):
                raise UserError(
                    f"cannot start a run called '{config.name}': there is one already. Resume or delete it, or choose another name."
                )
            self._histories.pop(self.folder / config.name, None)
            return self._stand_in_line(config, Run.start(config))

    def resume(self, name: str, changes: Mapping[str, Any] | None = None) -> Job:
        """Go on with a run that was stopped, has failed, or was interrupted by the program's end.

        Raises:
            UserError: when there is none of that name, it trains already, or ``changes`` contradict what it has learned.
        """
        folder = self.find_folder(name)
        old = build(self.config_class, read_run_config(folder))
        same = {"output_dir": str(folder), "output_name": old.name}
        config = build(self.config_class, read_run_config(folder) | dict(changes or {}) | same)
        self._check_access(config)
        check_unchanged(old, config)
        config.given = frozenset()  # what init_lora may take over was settled when the run started
        with self._lock:
            if self.find_job(name):
                raise UserError(f"cannot resume '{name}': it is training or waiting already.")
            return self._stand_in_line(config, Run.reopen(config))

    def _stand_in_line(self, config: RunConfig, run: Run) -> Job:
        job = Job(self._make_host(), config, run)
        self._line.append(job)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="hotlora", daemon=True)
            self._worker.start()
        return job

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._line:
                    self._worker = None
                    return
                job = self._line[0]
            try:
                _run(job)
            except Exception:  # whatever it was, those that wait are not to wait for ever
                traceback.print_exc()
            with self._lock:
                self._line.remove(job)
            try:
                self._on_end(job)
            except Exception:
                traceback.print_exc()

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Job | None:
        """The run that has the model now."""
        return next(iter(self._line), None)

    def find_job(self, name: str) -> Job | None:
        """The run that trains or waits under this name."""
        wanted = os.path.normcase(name)
        return next((job for job in list(self._line) if os.path.normcase(job.run_folder.folder.name) == wanted), None)

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
                return
        control.stop()

    def names(self) -> list[str]:
        """Every run, the one that was worked on last first."""
        folders = [path.parent for path in self.folder.glob("*/config.yaml")]
        return [folder.name for folder in sorted(folders, key=_last_change, reverse=True)]

    def find_folder(self, name: str) -> Path:
        """The folder of a run. Raises UserError where there is none of that name."""
        if name not in self.names():
            known = ", ".join(self.names()[:10]) or "none yet"
            raise UserError(f"cannot find a run called '{name}'. There are: {known}.")
        return self.folder / name

    def history(self, name: str) -> History:
        """What has happened in a run so far."""
        folder = self.find_folder(name)
        with self._lock:
            return self._histories.setdefault(folder, History()).read_on(folder / "events.jsonl")

    def status(self, name: str) -> str:
        """One of STATUSES."""
        current, job = self.current, self.find_job(name)  # before the history, which then has the end of a run that is gone by now
        history = self.history(name)
        if job is not None:
            return job.phase if job is current else "waiting"
        if history.outcome is None:
            return "interrupted" if history.latest else "not started"
        if isinstance(history.outcome, Failed):
            return "failed"
        return "stopped" if history.outcome.reason == "stopped" else "done"

    def explain_wait(self) -> str:
        """What keeps those in line waiting although nothing trains; empty where nothing does."""
        job = self.current
        if job is None or job.phase != "paused":
            return ""
        away = getattr(self.history(job.run_folder.folder.name).latest, "message", "")
        return away or f"'{job.name}' is paused and stands before it. Go on with it, or stop it."

    def values(self, name: str) -> dict[str, Any]:
        """The options of a run."""
        return read_run_config(self.find_folder(name))

    def delete(self, name: str) -> None:
        """Remove a run's folder with all that is in it. Raises UserError while it trains or waits."""
        folder = self.find_folder(name)
        with self._lock:
            if self.find_job(name):
                raise UserError(f"cannot delete '{name}': it is training or waiting. Stop it first.")
            doomed = folder.with_name(f".{uuid.uuid4().hex}.deleted")
            try:
                folder.rename(doomed)  # all or nothing: Windows refuses while a file in it is open
            except OSError as error:
                reason = f"{error.strerror}. Close what uses its folder (TensorBoard, a viewer) and try again."
                raise UserError(f"cannot delete '{name}': {reason}") from error
            self._histories.pop(folder, None)
            (doomed / "config.yaml").unlink()  # now it is no run
            shutil.rmtree(doomed)

    # -- before a start ------------------------------------------------------------------------------------------------

    def look_ahead(self, values: Mapping[str, Any]) -> "Outlook":
        """Find out, in the background, what a run with these options would take.

        Raises:
            UserError: for options that are wrong, and while another such look goes on.
        """
        if self.outlook and self.outlook.busy:
            raise UserError("cannot look at two runs at once. Wait until the first look is done.")
        values = dict(values)
        values["output_name"] = values.get("output_name") or "unnamed"
        config = self.build_config(values)
        self.outlook = Outlook(self._make_host(), config)
        return self.outlook


class Outlook:
    """A look at what a run would take, under way or done.

    Attributes:
        progress: what is being done.
        estimate: the answer, once it is there.
        summary: what the run would train on.
        warnings: what people should know.
        error: why there is no answer.
    """

    def __init__(self, host: Host, config: RunConfig):
        self.config = config
        self.progress: Preparing | None = None
        self.estimate: Estimate | None = None
        self.summary: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.error = ""
        self._host, self._stopping = host, threading.Event()
        self._thread = threading.Thread(target=self._look, name="hotlora outlook", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Give up."""
        self._stopping.set()

    def _look(self) -> None:
        try:
            trainee = self._host.borrow(self.config)
            for event in look_ahead(trainee, self.config, self._host):
                if self._stopping.is_set():
                    self.error = "Cancelled."
                    return
                if isinstance(event, Estimate):
                    self.summary, self.warnings, self.estimate = trainee.summary(), list(trainee.warnings()), event
                else:
                    self.progress = event
        except UserError as error:
            self.error = str(error)
        except Exception as error:
            traceback.print_exc()
            self.error = f"Looking failed because of a bug ({type(error).__name__}: {error}). Details are in the console."


def _run(job: Job) -> None:
    tensorboard = add_tensorboard(job)
    try:
        job.run()
    finally:
        if tensorboard:
            tensorboard.close()


def _last_change(folder: Path) -> float:
    for name in ("events.jsonl", "config.yaml"):
        try:
            return (folder / name).stat().st_mtime
        except FileNotFoundError:  # not there yet, or the run is being deleted
            continue
    return 0.0
