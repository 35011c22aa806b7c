"""What a run will take, found out in the background before anybody starts it."""

import itertools
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from .beside import refuse_beside
from .config import RunConfig
from .errors import UserError
from .events import Preparing
from .interfaces import Host
from .probe import Estimate, NoRoom, look_ahead
from .proposals import Proposal

_numbers = itertools.count(1)


class Outlook:
    """A look at what a run would take, under way or done.

    Attributes:
        number: no other look of this program has it.
        progress: what is being done.
        estimate: the answer, once it is there.
        proposals: with which the run would fit, where it does not.
        cancelled: whether somebody gave it up before there was an answer.
        error: why there is no answer.
    """

    def __init__(self, host: Host, config: RunConfig):
        self.config, self.number = config, next(_numbers)
        self._began = time.monotonic()
        self.progress: Preparing | None = None
        self.estimate: Estimate | None = None
        self.proposals: tuple[Proposal, ...] = ()
        self.cancelled = False
        self.error = ""
        self._host, self._stopping = host, threading.Event()
        self._thread = threading.Thread(target=self._look, name="hotlora outlook", daemon=True)
        self._thread.start()

    @property
    def elapsed_seconds(self) -> float:
        """Since it was asked for."""
        return time.monotonic() - self._began

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the run would train on."""
        return self.estimate.summary if self.estimate else {}

    @property
    def warnings(self) -> Sequence[str]:
        """What people should know."""
        return self.estimate.notes if self.estimate else ()

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end, and has not yet."""
        return self._stopping.is_set() and self.busy

    def cancel(self) -> None:
        """Give up at the next sign of progress."""
        self._stopping.set()

    def _look(self) -> None:
        try:
            for event in look_ahead(self._host, self.config):
                if self._stopping.is_set():
                    break
                if isinstance(event, Estimate):
                    self.estimate, self.proposals = event, event.proposals
                else:
                    self.progress = event
        except NoRoom as error:
            self.error, self.proposals = error.said, error.proposals
        except UserError as error:
            self.error = str(error)
        except (Exception, SystemExit) as error:  # some libraries end the program where they should raise
            traceback.print_exc()
            self.error = f"Looking failed because of a bug ({type(error).__name__}: {error}). Details are in the console."
        if self._stopping.is_set() and self.estimate is None:
            self.cancelled, self.error = True, ""


class Looks:
    """The look of one program: one at a time.

    Attributes:
        outlook: the last one that was asked for.
    """

    def __init__(self) -> None:
        self.outlook: Outlook | None = None
        self._looking = threading.Lock()

    def begin_look(self, host: Host, config: RunConfig) -> Outlook:
        """Find out, in the background, what a run with these options would take. Raises UserError while another such look goes on."""
        refuse_beside(host, config, "see ahead what a run takes")
        with self._looking:
            if self.outlook and self.outlook.busy:
                raise UserError("cannot look at two runs at once. Wait until the first look is done, or cancel it.")
            self.outlook = Outlook(host, config)
            return self.outlook

    def cancel_look(self) -> Outlook:
        """Give up the look that goes on. Raises UserError where none does."""
        outlook = self.outlook
        if outlook is None or not outlook.busy:
            raise UserError("cannot cancel: nothing is being looked at. Ask what will happen first.")
        outlook.cancel()
        return outlook

    def drop_look(self) -> None:
        """Forget what was looked at: the run has started. A look that goes on ends, for it would take turns from the run."""
        if self.outlook:
            self.outlook.cancel()
        self.outlook = None
