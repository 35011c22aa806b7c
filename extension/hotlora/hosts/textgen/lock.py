"""text-generation-webui's generation lock, with a count of who waits for it; and who else must wait for it while a run trains."""

import functools
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


def watch_lock() -> WatchedLock:
    """The program's lock, watched from now on. It makes the lock late, so this is asked for at each use."""
    from modules import shared

    if not isinstance(shared.generation_lock, WatchedLock):
        shared.generation_lock = WatchedLock(shared.generation_lock)
    return shared.generation_lock


def queue_adapters() -> None:
    """Let the program's own Apply LoRAs wait for the lock, from now on. It takes none, so in the middle of a turn it would put its LoRA
    into layers that are gone after it."""
    from modules import LoRA

    apply = LoRA.add_lora_transformers
    if hasattr(apply, "hotlora_waits"):
        return

    @functools.wraps(apply)
    def wait_and_apply(names: list[str]) -> None:
        with watch_lock():
            apply(names)

    marked: Any = wait_and_apply
    marked.hotlora_waits = True
    LoRA.add_lora_transformers = marked
