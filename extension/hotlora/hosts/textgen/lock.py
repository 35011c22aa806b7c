"""text-generation-webui's generation lock, with a count of who waits for it; and who else must wait for it while a run trains."""

import functools
from typing import Any

from ..shared.watched_lock import WatchedLock


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
