"""The WebUI's queue lock, in which every picture stands (``modules/call_queue.py``)."""

from typing import Any

from ..shared.watched_lock import WatchedLock


class QueueLock:
    """The lock, as :class:`~hotlora.hosts.shared.turns.Turns` asks for it.

    It takes who is next out of its queue and wakes them, and they may find that somebody else was quicker. They wait on then, in no queue,
    and would do so for a whole turn if nobody else came: so the lock within is watched too.
    """

    def __init__(self, lock: Any):
        self._lock = lock
        if not isinstance(lock._lock, WatchedLock):
            lock._lock = WatchedLock(lock._lock)

    @property
    def waiting(self) -> int:
        """How many pictures, or other things that need the model, wait."""
        return len(self._lock._pending_threads) + self._lock._lock.waiting

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock._lock.locked()

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


def find_queue_lock() -> QueueLock:
    """The one lock of this WebUI."""
    from modules import call_queue

    return QueueLock(call_queue.queue_lock)
