"""A run's work on a host: borrows the model, drains the training loop into the run's event log, and never raises.

:meth:`Job.work` blocks; :meth:`Job.start` does the same in a thread, for hosts. Whatever happens, the last event says so.
"""

import errno
import gc
import threading
import time
import traceback
from collections.abc import Callable

from .config import RunConfig
from .control import Control
from .errors import HandedBack, ModelAway, UserError
from .events import Event, Failed, Finished, Paused, Preparing, Searching, Started, Step, Tried
from .files import disk_full
from .freeing import Freeing
from .interfaces import Host, Progress
from .libraries import wait_for_libraries
from .loop import train
from .memory import is_out_of_memory, release_all_cached_memory
from .processes import ALONE, Processes
from .run import Run

_LOOK_AGAIN_SECONDS = 1.0
_IN_THE_WAY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
_PHASES = {Preparing: "preparing", Started: "training", Step: "training", Searching: "searching", Tried: "searching", Paused: "paused"}


class Job:
    """One run on one host.

    Attributes:
        run: its folder.
        control: stop, pause, sample now, save now.
        outcome: the Finished or Failed event, once there is one.
        progress: how far it is, where its events are not kept.
    """

    WORK = "Training"  # what fails, where it does
    IS_RUN = True  # whether its folder is a run, which is listed and can be gone on with

    def __init__(self, host: Host, config: RunConfig, run: Run, processes: Processes = ALONE):
        self._host, self.config, self.run, self._processes = host, config, run, processes
        self.control = Control(host, run, config.slice_seconds, config.training_share, lambda: host.has_model(config))
        processes.on_stop(self.control.stop)
        self.outcome: Finished | Failed | None = None
        self.progress: Progress | None = None
        self._step, self._phase = 0, "preparing"
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def phase(self) -> str:
        """What it does now: preparing, training, paused or stopping."""
        return "stopping" if self.control.stopping else "paused" if self.control.paused else self._phase

    def subscribe(self, reader: Callable[[Event], None]) -> None:
        """Call ``reader`` with every event, in the job's thread."""
        self.run.events.subscribe(reader)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.work, name=f"hotlora {self.name}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a started job to end; whether it has."""
        if self._thread is None:
            raise RuntimeError("the job was not started")
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def work(self) -> Finished | Failed:
        """Train until done, stopped or failed. While the host holds another model, wait; then go on from the saved state."""
        outcome: Finished | Failed | None = None
        wait_for_libraries()
        try:
            while outcome is None:
                outcome = self._train_while_there() or self._wait_for_model()
        except (Exception, SystemExit) as error:  # some libraries end the program where they should raise
            outcome = failed = self._explain(error)
            self._tell(failed)
        finally:
            self.run.close()
        gc.collect()  # what belongs together in a circle would keep the host's model until somebody looks
        self.outcome = outcome
        return outcome

    def _train_while_there(self) -> Finished | Failed | None:
        """None where the model has gone away, or is to go. Then nothing of it is kept: its memory may be wanted for something else."""
        handed_back = ""
        try:
            return self._train()
        except HandedBack as wish:
            handed_back = str(wish)
        except ModelAway as away:
            self._take(Paused(str(away)))
        gc.collect()
        if handed_back:
            self._leave_the_device(handed_back)
        return None

    def _leave_the_device(self, why: str) -> None:
        """Have the host unload the model for as long as the pause lasts; also a run that is stopped leaves it loaded."""
        host = self._host if isinstance(self._host, Freeing) else None
        if host:
            host.unload(self.config)
        release_all_cached_memory()
        self._take(Paused(why, freed=True))
        self.control.wait_for_end_of_pause()
        if host:
            host.load_again(self.config)

    def _explain(self, error: BaseException) -> Failed:
        """What a person is told about it."""
        if isinstance(error, UserError):
            return Failed(str(error), bug=False)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of files that libraries write, such as TensorBoard's
            return Failed(str(disk_full(self.run.folder)), bug=False)
        if isinstance(error, OSError) and not self.run.folder.is_dir():
            return Failed(f"cannot go on: the run's folder '{self.run.folder}' was deleted. Start a new run.", bug=False)
        if isinstance(error, OSError) and error.errno in _IN_THE_WAY and error.filename:
            place = error.filename2 or error.filename  # of a file that was to take another's place, that place
            said = f"cannot write '{place}': {error.strerror}. Move what is there away, or mend its rights, and resume"
            return Failed(f"{said}; what was saved before is whole.", bug=False)
        self._write_traceback()
        if is_out_of_memory(error):
            message = (
                "cannot go on: memory has run out, outside of a training step. Close what else uses it, or lower batch sizes, resolution "
                f"or rank, and resume; what was saved before is whole. Details are in {self.run.log_path}."
            )
            return Failed(message, bug=False)
        message = f"{self.WORK} failed because of a bug ({type(error).__name__}: {error}). Details are in {self.run.log_path}."
        return Failed(message, bug=True)

    def _train(self) -> Finished | Failed | None:
        self._phase = "preparing"
        trainee = self._host.borrow(self.config)
        self.run.write_config(self.config)  # it names the base model now
        finished = None
        for event in train(trainee, self.config, self.control, self._processes):
            self._take(event)
            finished = event if isinstance(event, Finished) else None
        return finished

    def _take(self, event: Event) -> None:
        self.run.events.append(event)
        self._note(event)

    def _note(self, event: Event) -> None:
        """What the run does now."""
        if not (isinstance(event, Preparing) and self._phase == "training"):  # judging is counted like preparing
            self._phase = _PHASES.get(type(event), self._phase)
        if isinstance(event, (Started, Step)):
            self._step = event.step

    def _wait_for_model(self) -> Finished | None:
        """None when it is there again."""
        while not self.control.stopping:
            time.sleep(_LOOK_AGAIN_SECONDS)
            if self._host.has_model(self.config):
                return None
        stopped = Finished(step=self._step, reason="stopped", files={})
        self._take(stopped)
        return stopped

    def _tell(self, event: Failed) -> None:
        try:
            self.run.events.append(event)
        except (UserError, OSError):  # the disk is full or the folder gone: the readers hear of it, the file cannot
            self.run.events.tell(event)

    def _write_traceback(self) -> None:
        trace = traceback.format_exc()
        try:
            self.run.log(trace)
        except OSError:
            print(trace)
