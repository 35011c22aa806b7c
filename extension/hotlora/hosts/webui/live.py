"""The newest state of the running training as a LoRA of the WebUI: ``<lora:NAME-live:0.8>``, for as long as the run lasts.

It is a file that is brought up to date when somebody's prompt asks for it. All under the WebUI's queue lock, so between the
run's turns. How the loaded model is freed of a LoRA is the host's to say: ``take_loras_out``.
"""

import contextlib
import gc
import re
import sys
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...engine.control import Newest
from ...engine.job import Job
from ...engine.jobs import Jobs
from .loras import find_lora_extension, forget_encoded_prompts, forget_files, own_folder
from .queue import find_queue_lock

_FOLDER = "live"  # of its own, so that no LoRA that happens to be called so is overwritten or removed
_written: dict[Path, tuple["weakref.ref[Newest]", int]] = {}  # what the files hold: of which session, and at which step


def update_live(jobs: Jobs, prompts: Iterable[str], take_loras_out: Callable[[], None]) -> None:
    """Bring the running training's live LoRA up to date where one of the prompts asks for it.

    To be called before a picture's LoRAs are looked up, under the queue lock that its maker holds.

    Args:
        prompts: all of the picture from which the WebUI takes LoRAs; also those of its hires pass.
        take_loras_out: leaves nothing of a LoRA in the loaded model.
    """
    job, networks = jobs.current, find_lora_extension()
    if job is None or networks is None:
        return
    newest = job.control.newest
    if newest is None or not _asks_for(f"{job.run.adapter_name}-live", prompts):
        return
    path, state = _live_path(job.run.adapter_name), (weakref.ref(newest), newest.step())
    if _written.get(path) == state and path.exists():
        return
    _let_go(networks, take_loras_out)
    newest.write(path)
    _written[path] = state
    entry = sys.modules["network"].NetworkOnDisk(path.stem, str(path))
    networks.available_networks[path.stem] = networks.available_network_aliases[path.stem] = entry


def remove_live(job: Job, take_loras_out: Callable[[], None]) -> None:
    """The run has ended: its live LoRA is gone, from the disk and from the WebUI. Takes the queue lock."""
    path, networks = _live_path(job.run.adapter_name), find_lora_extension()
    with find_queue_lock():
        if _written.pop(path, None) is None:
            return
        _let_go(networks, take_loras_out)
        for file in path.parent.iterdir():
            if file.name.startswith(f"{path.stem}."):
                file.unlink()
        networks.list_available_networks()


def remove_leftover_lives() -> None:
    """Remove what an earlier WebUI, killed during a run, has left. Does nothing to runs of this one."""
    folder, networks = own_folder() / _FOLDER, find_lora_extension()
    leftover = [file for file in folder.glob("*") if not any(file.name.startswith(f"{path.stem}.") for path in _written)]
    for file in leftover:
        with contextlib.suppress(PermissionError):  # a second WebUI with the same folder has it open
            file.unlink()
    if leftover and networks:
        networks.list_available_networks()


def _live_path(name: str) -> Path:
    return own_folder() / _FOLDER / f"{name}-live.safetensors"


def _asks_for(name: str, prompts: Iterable[str]) -> bool:
    """Whether a prompt has a tag with this name, or the WebUI's settings add one to all of them."""
    from modules import shared

    tag = re.compile(rf"<\w+:{re.escape(name)}[:>]")
    return shared.opts.sd_lora == name or any(tag.search(prompt) for prompt in prompts)


def _let_go(networks: Any, take_loras_out: Callable[[], None]) -> None:
    """Leave nothing of LoRA files in the WebUI: not in the weights, in its memory, or in encoded prompts. It would go on with
    what it has, because it tells LoRAs by name and weight. Nor a mapping of the file, which Windows would not replace."""
    take_loras_out()
    forget_files(networks)
    forget_encoded_prompts()
    gc.collect()
