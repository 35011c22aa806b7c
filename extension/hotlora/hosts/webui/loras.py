"""What the WebUI knows of LoRA files: its folder, its list, and what it keeps of them in memory."""

import re
import sys
from pathlib import Path
from typing import Any

from ...engine.files import write_bytes

_FOLDER = "hotlora"  # below the WebUI's LoRA folder, so that a LoRA of the same name from elsewhere is never overwritten
_NUMBERED = re.compile(r"(.+)-step\d{8}")
_CARD_SUFFIXES = (".json", ".png", ".safetensors")  # the LoRA last: what belongs to it is there when it is found


def lora_root() -> Path:
    """The folder that the WebUI searches for LoRAs."""
    from modules import shared

    return Path(shared.cmd_opts.lora_dir)


def own_folder() -> Path:
    """Where copies of ours go."""
    return lora_root() / _FOLDER


def copy_with_card(path: Path, folder: Path) -> None:
    """Copy a LoRA with its card's files; copies of its run's numbered checkpoints go where the run has deleted those."""
    for suffix in _CARD_SUFFIXES:
        source = path.with_suffix(suffix)
        if source.is_file():
            write_bytes(folder / source.name, source.read_bytes())
    numbered = numbered_stem(path.stem)
    name, originals = (numbered, path.parent) if numbered else (path.stem, path.parent / "checkpoints")
    for copy in folder.iterdir():
        if numbered_stem(copy.stem) == name and not (originals / f"{copy.stem}.safetensors").exists():
            copy.unlink()


def numbered_stem(stem: str) -> str:
    """``cat`` of ``cat-step00000100``; empty for what is no numbered checkpoint."""
    found = _NUMBERED.fullmatch(stem)
    return found[1] if found else ""


def publish_lora(path: Path) -> None:
    """Make the file what ``<lora:name:1>`` means from now on: in a folder that the WebUI searches, in its list, and with nothing left of an
    older file of that name. Only under the queue lock, while no layer has anything of it."""
    networks = find_lora_extension()
    if networks:
        forget_files(networks)
    if lora_root().resolve() not in path.resolve().parents:
        copy_with_card(path, own_folder())
    if networks:
        networks.list_available_networks()
    forget_encoded_prompts()


def find_lora_extension() -> Any:
    """The WebUI's built-in Lora extension, or None where it is switched off."""
    return sys.modules.get("networks")


def forget_files(networks: Any) -> None:
    """What the extension has read of LoRA files: A1111 in a dictionary, Forge in a function's cache, Neo not at all."""
    getattr(networks, "networks_in_memory", {}).clear()
    read: Any = getattr(networks, "load_lora_state_dict", None)
    if hasattr(read, "cache_clear"):
        read.cache_clear()


def forget_encoded_prompts() -> None:
    """The WebUI keeps the last prompt's encoding by the LoRA's name, which means another text encoder now. Emptied in place,
    because a picture under way has taken the lists over."""
    from modules import processing

    for kind in (
        processing.StableDiffusionProcessing,
        processing.StableDiffusionProcessingTxt2Img,
        processing.StableDiffusionProcessingImg2Img,
    ):
        for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc"):
            if hasattr(kind, name):
                getattr(kind, name)[:] = [None, None]
