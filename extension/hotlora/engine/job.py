"""A run from start to end: borrows the model, drains the training loop into the run's event log, and never raises.

:meth:`Job.run` blocks; :meth:`Job.start` does the same in a thread, for hosts. Whatever happens, the last event says so.
"""

import errno
import threading
import time
import traceback
from collections.abc import Callable

from .config import RunConfig
from .control import Control
from .errors import ModelAway, UserError
from .events import Event, Failed, Finished, Paused, Preparing, Started, Step
from .files import disk_full
from .interfaces import Host
from .loop import train
from .run import Run

_LOOK_AGAIN_SECONDS = 1.0
_PHASES = {Preparing: "preparing", Started: "training", Step: "training", Paused: "paused"}


class Job:
    """One run on one host.

    Attributes:
        control: stop, pause, sample now, save now.
        outcome: the Finished or Failed event, once there is one.
    """

    def __init__(self, host: Host, config: RunConfig, run: Run):
        self._host, self.config, self.run_folder = host, config, run
        self.control = Control(host, run, config.slice_seconds)
        self.outcome: Finished | Failed | None = None
        self._step, self._phase = 0, "preparing"
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.run_folder.name

    @property
    def phase(self) -> str:
        """What it does now: preparing, training or paused."""
        return "paused" if self.control.paused else self._phase

    def subscribe(self, reader: Callable[[Event], None]) -> None:
        """Call ``reader`` with every event, in the job's thread."""
        self.run_folder.events.subscribe(reader)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name=f"hotlora {self.name}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a started job to end; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def run(self) -> Finished | Failed:
        """Train until done, stopped or failed. While the host holds another model, wait; then go on from the saved state."""
        try:
            while self.outcome is None:
                try:
                    self._train()
                except ModelAway as away:
                    self._take(Paused(str(away)))
                    self._wait_for_model()
        except UserError as error:
            self._fail(Failed(str(error), bug=False))
        except (Exception, SystemExit) as error:  # a library that ends the program must not end the run as if it were done
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of files that libraries write, such as TensorBoard's
                self._fail(Failed(str(disk_full(self.run_folder.folder)), bug=False))
                return self.outcome
            self._write_traceback()
            message = f"Training failed because of a bug ({type(error).__name__}: {error}). Details are in {self.run_folder.log_path}."
            self._fail(Failed(message, bug=True))
        return self.outcome

    def _train(self) -> None:
        self._phase = "preparing"
        trainee = self._host.borrow(self.config)
        self.run_folder.write_config(self.config)  # it names the base model now
        for event in train(trainee, self.config, self.control):
            self._take(event)

    def _take(self, event: Event) -> None:
        self.run_folder.events.append(event)
        self._phase = _PHASES.get(type(event), self._phase)
        if isinstance(event, (Started, Step)):
            self._step = event.step
        elif isinstance(event, Finished):
            self.outcome = event

    def _wait_for_model(self) -> None:
        while not self.control.stopping:
            time.sleep(_LOOK_AGAIN_SECONDS)
            if self._host.has_model(self.config):
                return
        self._take(Finished(step=self._step, reason="stopped", files={}))

    def _fail(self, event: Failed) -> None:
        self.outcome = event
        try:
            self.run_folder.events.append(event)
        except (UserError, OSError):  # the disk is full: the readers hear of it, the file cannot
            self.run_folder.events.tell(event)

    def _write_traceback(self) -> None:
        trace = traceback.format_exc()
        try:
            self.run_folder.log(trace)
        except OSError:
            print(trace)
