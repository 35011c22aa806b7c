"""Which checkpoint the WebUI holds: whether it is there, is the one that a run wants, and can be trained."""

from typing import Any

from ...engine.errors import UserError
from ...sd.config import ImageConfig
from ..webui.checkpoints import is_wanted
from .foreign import explain_irremovable
from .model import find_text_embedders


def find_loaded() -> Any:
    """The WebUI's model, or None while it has none; ``shared.sd_model`` would start to load one."""
    from modules import sd_models

    return sd_models.model_data.sd_model


def name_loaded() -> str:
    """The loaded checkpoint; empty where there is none."""
    loaded = find_loaded()
    return loaded.sd_checkpoint_info.name if loaded is not None else ""


def own_device() -> Any:
    """Where the WebUI computes."""
    from modules import devices

    return devices.device


def explain_absence(config: ImageConfig) -> str | None:
    """Why the checkpoint that ``base_model`` names (or any, where it is empty) cannot be had now, and what to do about it; None
    where it can. Cheap, and takes no lock."""
    from modules import sd_models

    loaded, wanted = find_loaded(), config.base_model
    remedy = f"Load '{wanted}' and it goes on by itself." if wanted else "Choose one at the top of the page, and it goes on by itself."
    if sd_models.model_data.lock.locked():  # the first one is loaded in a thread of its own, outside the queue
        reason, remedy = "the WebUI is still loading its checkpoint", "It goes on by itself."
    elif loaded is None:
        reason = "the WebUI has no checkpoint loaded"
    elif not is_wanted(loaded.sd_checkpoint_info, wanted):
        reason = f"the WebUI has '{loaded.sd_checkpoint_info.name}' loaded"
    elif not is_on_device(loaded):
        reason, remedy = f"'{loaded.sd_checkpoint_info.name}' was unloaded", "Load it again and training goes on by itself."
    elif changed := explain_irremovable(loaded):
        reason, remedy = changed, "Switch it off and make a picture without it; training goes on by itself."
    else:
        return None
    return f"cannot train '{config.name}' now: {reason}. {remedy}"


def is_on_device(loaded: Any) -> bool:
    """Whether it is where it computes; with ``--medvram`` that is wherever the WebUI moves it to."""
    from modules import devices

    return loaded.lowvram or next(loaded.model.parameters()).device.type == devices.device.type


def check_usable(loaded: Any) -> None:
    """Raise UserError where the WebUI's model is none that can be trained, or not as it is loaded."""
    from modules import devices, sd_unet, shared

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
