"""A lock that knows how many threads wait for it. Must not know whose it is."""

import threading
from typing import Any


class WatchedLock:
    """Stands in for a lock, which it takes and releases: whoever holds the one holds the other, so it may be put before the lock
    at any time."""

    def __init__(self, inner: Any):
        self._inner, self._counting = inner, threading.Lock()
        self.waiting = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``. Who only tries does not wait."""
        if not blocking:
            return self._inner.acquire(blocking, timeout)
        with self._counting:
            self.waiting += 1
        try:
            return self._inner.acquire(blocking, timeout)
        finally:
            with self._counting:
                self.waiting -= 1

    def release(self) -> None:
        """As ``threading.Lock.release``."""
        self._inner.release()

    def locked(self) -> bool:
        """As ``threading.Lock.locked``."""
        return self._inner.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: Any) -> None:
        self.release()
