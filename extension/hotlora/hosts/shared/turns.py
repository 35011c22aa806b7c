"""Taking a program's own lock again and again, such that people who wait for the model have it in between. Must not know the program."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

_PAUSE_SECONDS = 0.01
_HAND_OVER_SECONDS = 0.1


class CountedLock(AbstractContextManager[Any], Protocol):
    """A lock that knows how many threads wait for it."""

    @property
    def waiting(self) -> int: ...

    def locked(self) -> bool: ...


class Turns:
    """A run's turns at the model.

    Args:
        find_lock: the program's lock; asked for at each use, because a program may make it late or anew.
    """

    def __init__(self, find_lock: Callable[[], CountedLock]):
        self._find_lock = find_lock
        self._somebody_waited = False
        self._holder: int | None = None  # the thread that has the turn

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """The lock, once those have had it who waited for it when the turn before ended."""
        lock = self._find_lock()
        self._let_others_go_first(lock)
        with lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None
                self._somebody_waited = lock.waiting > 0

    def _let_others_go_first(self, lock: CountedLock) -> None:
        """A lock's release wakes whoever waits, but it may be taken again before they are awake: so let them take it. The short sleep is
        for those whom that happened to through others; they stand in no queue."""
        time.sleep(_PAUSE_SECONDS)
        until = time.monotonic() + _HAND_OVER_SECONDS
        while self._somebody_waited and not lock.locked() and time.monotonic() < until:
            time.sleep(0.001)

    def somebody_waits(self) -> bool:
        """Whether anybody waits for the lock now."""
        return self._find_lock().waiting > 0

    def check_is_mine(self) -> None:
        """Raise RuntimeError where this thread does not have the turn."""
        if self._holder != threading.get_ident():
            raise RuntimeError("this is only for the length of a turn")
