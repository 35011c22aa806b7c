"""AUTOMATIC1111's WebUI as a host: trains on the checkpoint that is loaded there, between other people's pictures.

This file and its ``a1111_*`` siblings are the only ones that know the WebUI; its ``modules`` are imported where they are
used, so that importing these files works anywhere. Written against v1.10.1.
"""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.files import write_bytes
from ..sd.config import ImageConfig
from .a1111_model import A1111Model, find_text_embedders
from .a1111_turn import plain_model

_YIELD_SECONDS = 0.01
_HANDOVER_SECONDS = 0.1
_FOLDER = "hotlora"  # below the WebUI's LoRA folder, so that a LoRA of the same name from elsewhere is never overwritten
_NUMBERED = re.compile(r"(.+)-step\d{8}")
_CARD_SUFFIXES = (".json", ".png", ".safetensors")  # the LoRA last: what belongs to it is there when it is found


class A1111Host:
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def __init__(self) -> None:
        self._loaded: Any = None  # the WebUI's model object
        self._checkpoint: Any = None  # what was loaded into it
        self._somebody_waited = False
        self._holder: int | None = None  # the thread that has the turn

    def borrow(self, config: ImageConfig) -> Any:
        """The checkpoint that is loaded.

        Raises:
            UserError: when there is none, it is not the one that the config names, or it cannot be trained as it is
                loaded now.
        """
        from modules import call_queue, devices, sd_models, shared

        from ..sd.trainee import ImageTrainee

        with call_queue.queue_lock:
            loaded = sd_models.model_data.sd_model  # shared.sd_model would start to load one
            check_usable(loaded)
            check_wanted(loaded.sd_checkpoint_info, config)
            zero_snr = shared.opts.sd_noise_schedule == "Zero Terminal SNR"
            model = A1111Model(loaded, config, device=devices.device, sampled_at_zero_snr=zero_snr)
            trainee = ImageTrainee(model, config)
        self._loaded, self._checkpoint = loaded, loaded.sd_checkpoint_info
        return trainee

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The WebUI's queue lock, and its model without anything that shapes pictures.

        Raises:
            UserError: when another checkpoint is loaded now.
        """
        from modules import call_queue

        lock = call_queue.queue_lock
        self._let_others_go_first(lock)
        with lock:
            try:
                self._check_still_loaded()
                self._holder = threading.get_ident()
                with plain_model(self._loaded):
                    yield
            finally:
                self._holder = None
                self._somebody_waited = self.wanted()

    def _let_others_go_first(self, lock: Any) -> None:
        """The lock wakes whoever waits, but may be taken again before they are awake (``modules/fifo_lock.py``): so let
        them take it. The short sleep is for those whom that happened to through others; they stand in no queue."""
        time.sleep(_YIELD_SECONDS)
        until = time.monotonic() + _HANDOVER_SECONDS
        while self._somebody_waited and not lock._lock.locked() and time.monotonic() < until:
            time.sleep(0.001)

    def wanted(self) -> bool:
        """Whether a picture, or anything else that needs the model, waits in the WebUI's queue."""
        from modules import call_queue

        return bool(call_queue.queue_lock._pending_threads)

    def _check_still_loaded(self) -> None:
        from modules import devices, sd_models

        loaded, wanted = sd_models.model_data.sd_model, self._checkpoint
        if loaded is None:
            raise UserError(f"cannot go on training: the WebUI has no checkpoint loaded any more. Load '{wanted.name}' and resume the run.")
        if loaded.sd_checkpoint_info.filename != wanted.filename:
            other = loaded.sd_checkpoint_info.name
            raise UserError(
                f"cannot go on training on '{other}', which the WebUI has loaded meanwhile. Load '{wanted.name}' and resume the run."
            )
        if loaded is not self._loaded:
            raise UserError(f"cannot go on training: the WebUI has loaded '{wanted.name}' anew meanwhile. Resume the run.")
        if not loaded.lowvram and next(loaded.model.parameters()).device.type != devices.device.type:
            raise UserError(f"cannot go on training: '{wanted.name}' was unloaded. Load it again and resume the run.")

    def publish(self, path: Path) -> None:
        """Make the file what ``<lora:name:1>`` means from now on: in a folder that the WebUI searches, in its list, and
        with nothing left of an older file of that name. Only within a turn, when no layer has anything of it."""
        from modules import shared

        if self._holder != threading.get_ident():
            raise RuntimeError("publish outside a turn")
        root = Path(shared.cmd_opts.lora_dir)
        if root.resolve() not in path.resolve().parents:
            copy_with_card(path, root / _FOLDER)
        networks = find_lora_extension()
        if networks:
            networks.networks_in_memory.clear()
            networks.list_available_networks()
        forget_encoded_prompts()


def check_usable(loaded: Any) -> None:
    """Raise UserError where the WebUI's model is none that can be trained, or not as it is loaded."""
    from modules import devices, sd_unet, shared

    if loaded is None:
        raise UserError("cannot train: the WebUI has no checkpoint loaded. Choose one at the top of the page and wait until it is loaded.")
    name = loaded.sd_checkpoint_info.name
    reason = _find_foreign_kind(loaded)
    if reason:
        raise UserError(f"cannot train on '{name}': {reason}. Load a plain text-to-image checkpoint of SD 1.x, SD 2.x or SDXL.")
    if shared.cmd_opts.lowvram:
        raise UserError(f"cannot train on '{name}' with --lowvram, which takes the U-Net apart. Start the WebUI with --medvram instead.")
    if sd_unet.current_unet is not None:
        label = sd_unet.current_unet.option.label
        raise UserError(f"cannot train on '{name}' while the U-Net is replaced by '{label}'. Set SD Unet to None in the settings.")
    if devices.fp8:
        raise UserError(
            f"cannot train on '{name}' while its weights are stored in fp8. Set FP8 weight to Disable in Settings > Optimizations."
        )


def _find_foreign_kind(loaded: Any) -> str | None:
    """What the model is, where it is nothing that a LoRA can be trained for here."""
    if getattr(loaded, "is_sd3", False) or not hasattr(loaded.model, "diffusion_model"):
        return "it is a Stable Diffusion 3 model"
    if loaded.model.diffusion_model.in_channels != 4 or getattr(loaded, "is_sdxl_inpaint", False):
        return "it is an inpainting, depth or instruct-pix2pix model"
    if loaded.model.conditioning_key != "crossattn":
        return "it is a Stable Diffusion 2.1 unCLIP model"
    embedders = find_text_embedders(loaded)
    if loaded.is_sdxl and len(embedders) != 2:
        return "it is an SDXL refiner"
    if not all(hasattr(embedder, "id_end") for embedder in embedders):
        return "its text encoder is not CLIP"
    return None


def check_wanted(info: Any, config: ImageConfig) -> None:
    """Raise UserError where ``base_model`` names another checkpoint than the loaded one. By its file's name: weights are
    told apart by the fingerprint when a run is resumed."""
    wanted = config.base_model
    if wanted and wanted not in info.ids and Path(wanted).name != Path(info.filename).name:
        raise UserError(f"cannot train '{config.name}' on '{info.name}', which is loaded: its base_model is '{wanted}'. Load that one.")


def copy_with_card(path: Path, folder: Path) -> None:
    """Copy a LoRA with its card's files; copies of its run's numbered checkpoints go where the run has deleted those."""
    for suffix in _CARD_SUFFIXES:
        source = path.with_suffix(suffix)
        if source.is_file():
            write_bytes(folder / source.name, source.read_bytes())
    numbered = _NUMBERED.fullmatch(path.stem)
    name, originals = (numbered[1], path.parent) if numbered else (path.stem, path.parent / "checkpoints")
    for copy in folder.iterdir():
        found = _NUMBERED.fullmatch(copy.stem)
        if found and found[1] == name and not (originals / f"{copy.stem}.safetensors").exists():
            copy.unlink()


def find_lora_extension() -> Any:
    """The WebUI's built-in Lora extension, or None where it is switched off."""
    return sys.modules.get("networks")


def forget_encoded_prompts() -> None:
    """The WebUI keeps the last prompt's encoding by the LoRA's name, which means another text encoder now."""
    from modules import processing

    for kind in (
        processing.StableDiffusionProcessing,
        processing.StableDiffusionProcessingTxt2Img,
        processing.StableDiffusionProcessingImg2Img,
    ):
        for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc"):
            if name in vars(kind):
                setattr(kind, name, [None, None])
