"""Work for a page that takes minutes: one piece at a time in a thread of its own, told how far it is, and stopped between two pieces of it.

Knows neither the page nor what is done.
"""

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..engine.errors import UserError

Tell = Callable[[int, int], None]  # how many pieces are done, of how many


@dataclass(frozen=True)
class ErrandStatus:
    """How far the last one is.

    Attributes:
        number: of the errand, since the program started; 0 where there was none.
        total: pieces; 0 where there is no telling.
        lines: what it costs while it is under way, then what came of it.
        bad: it has failed.
    """

    number: int = 0
    busy: bool = False
    done: int = 0
    total: int = 0
    lines: tuple[str, ...] = ()
    bad: bool = False


class _StoppedError(Exception):
    """Somebody does not want it any more."""


class Errands:
    """Does them, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.status = ErrandStatus()

    def start(self, cost: Sequence[str], work: Callable[[Tell], Sequence[str]]) -> None:
        """Begin. ``cost``: sentences on what it takes; ``work``: tells how far it is and returns what people should know.

        Raises:
            UserError: while another one is under way.
        """
        with self._lock:
            if self.status.busy:
                raise UserError("cannot begin that: something else is being written. Wait for it, or stop it.")
            self.status = ErrandStatus(self.status.number + 1, busy=True, lines=tuple(cost))
            self._stopping.clear()
        threading.Thread(target=self._work, args=(work,), name="hotlora tool", daemon=True).start()

    def stop(self) -> None:
        """After the piece that is worked on now; nothing of it is left. Raises UserError where nothing is under way."""
        if not self.status.busy:
            raise UserError("cannot stop: nothing is being written. Begin something first.")
        self._stopping.set()

    def _work(self, work: Callable[[Tell], Sequence[str]]) -> None:
        bad = False
        try:
            lines = list(work(self._tell))
        except _StoppedError:
            lines = ["Stopped; nothing was written."]
        except UserError as error:
            lines, bad = [str(error)], True
        except Exception as error:
            traceback.print_exc()
            lines, bad = [f"This failed because of a bug ({type(error).__name__}: {error}). Details are in the console."], True
        now = self.status
        self.status = ErrandStatus(now.number, False, now.done, now.total, tuple(lines), bad)

    def _tell(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        now = self.status
        self.status = ErrandStatus(now.number, True, done, total, now.lines)
