"""The WebUI's queue lock, in which every picture stands (``modules/call_queue.py``)."""

from typing import Any


class QueueLock:
    """The lock, as :class:`~hotlora.hosts.shared.turns.Turns` asks for it."""

    def __init__(self, lock: Any):
        self._lock = lock

    @property
    def waiting(self) -> int:
        """How many pictures, or other things that need the model, wait."""
        return len(self._lock._pending_threads)

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
