"""Which checkpoint Forge holds: whether it is there, is the one that a run wants, and can be trained.

Forge loads nothing until a picture needs it; what people choose at the top of the page is only noted down. So a chosen checkpoint is loaded
when a run borrows it, as a picture would have it loaded, and a loaded one is trained on until another has taken its place.
"""

import re
from typing import Any

import torch

from ...engine.errors import UserError
from ...sd.config import ImageConfig
from ..webui.checkpoints import is_wanted
from .foreign import explain_irremovable
from .memory import is_on_device

_PLAIN = (torch.float32, torch.float16, torch.bfloat16)
_TRAINED = ("epsilon", "v_prediction")


def find_loaded() -> Any:
    """Forge's model object, or None: before the first picture it has a placeholder, while it loads nothing."""
    from modules import sd_models

    loaded = sd_models.model_data.sd_model
    return loaded if hasattr(loaded, "forge_objects_original") else None


def find_chosen() -> Any:
    """What Forge calls the checkpoint that the next picture is made with, or None."""
    from modules import sd_models

    return (sd_models.model_data.forge_loading_parameters or {}).get("checkpoint_info")


def find_checkpoint(wanted: str) -> Any:
    """What Forge calls the checkpoint that ``base_model`` would be now: the loaded one, or else the chosen one; None where neither is."""
    loaded = find_loaded()
    held = [loaded.sd_checkpoint_info] if loaded is not None else []
    return next((info for info in (*held, find_chosen()) if info is not None and is_wanted(info, wanted)), None)


def name_chosen() -> str:
    """The checkpoint that a run would be started on: the chosen one, as pictures are."""
    loaded, chosen = find_loaded(), find_chosen()
    info = chosen if chosen is not None else loaded.sd_checkpoint_info if loaded is not None else None
    return info.name if info is not None else ""


def explain_absence(config: ImageConfig) -> str | None:
    """Why the checkpoint that ``base_model`` names (or any, where it is empty) cannot be had now, and what to do about it; None
    where it can. Cheap, and takes no lock."""
    loaded, wanted = find_loaded(), config.base_model
    remedy = f"Choose '{wanted}' at the top of the page, and it goes on by itself."
    if find_checkpoint(wanted) is None:
        info = loaded.sd_checkpoint_info if loaded is not None else find_chosen()
        if info is None:
            remedy = "Choose one at the top of the page, and it goes on by itself."
            return f"cannot train '{config.name}' now: the WebUI has no checkpoint. {remedy}"
        return f"cannot train '{config.name}' now: the WebUI has '{info.name}' loaded. {remedy}"
    if loaded is not None and (changed := explain_irremovable(loaded)):
        return f"cannot train '{config.name}' now: {changed}. Switch it off and make a picture without it; training goes on by itself."
    return None


def explain_unload(config: ImageConfig) -> str | None:
    """Why the U-Net could not be used to the end of a turn: somebody has had it unloaded. The next turn loads it again."""
    loaded = find_loaded()
    if loaded is None:
        return f"cannot train '{config.name}' now: the WebUI has unloaded its checkpoint. It goes on by itself."
    if not is_on_device(loaded.forge_objects_original.unet):
        name = loaded.sd_checkpoint_info.name
        return f"cannot train '{config.name}' now: '{name}' was unloaded. Training goes on by itself."
    return None


def load_chosen(wanted: str) -> None:
    """Have Forge load the chosen checkpoint, as the next picture would. Only under the queue lock.

    Raises:
        UserError: where it cannot.
    """
    from modules import sd_models

    loaded = find_loaded()
    if loaded is not None and is_wanted(loaded.sd_checkpoint_info, wanted):
        return
    try:
        sd_models.forge_model_reload()
    except Exception as error:  # whatever is wrong with a file
        reason = re.sub(r"\s+", " ", str(error)).strip().rstrip(".")
        raise UserError(f"cannot train on '{name_chosen()}': the WebUI cannot load it ({reason}). Choose another checkpoint.") from error


def check_usable(loaded: Any) -> None:
    """Raise UserError where Forge's model is none that can be trained, or not as it is loaded."""
    name = loaded.sd_checkpoint_info.name
    reason = _find_foreign_kind(loaded)
    if reason:
        raise UserError(f"cannot train on '{name}': {reason}. Choose a plain text-to-image checkpoint of SD 1.x, SD 2.x or SDXL.")
    storage = loaded.forge_objects_original.unet.model.storage_dtype
    if storage not in _PLAIN:
        raise UserError(
            f"cannot train on '{name}' while its weights are stored in {_spell(storage)}. Set Diffusion in Low Bits to Automatic, at "
            "the top of the page (the choice UI: all shows it), and choose a checkpoint that is not stored so itself."
        )


def _find_foreign_kind(loaded: Any) -> str | None:
    """What the model is, where it is nothing that a LoRA can be trained for here."""
    kind = type(loaded).__name__
    if not (loaded.is_sd1 or getattr(loaded, "is_sd2", False) or loaded.is_sdxl):
        return f"it is a {_spell_family(kind)} model, which is not trained here yet"
    unet = loaded.forge_objects_original.unet.model.diffusion_model
    if getattr(loaded, "is_inpaint", False) or unet.in_channels != 4:
        return "it is an inpainting, depth or instruct-pix2pix model"
    if unet.num_classes is not None and not loaded.is_sdxl:
        return "it is a Stable Diffusion 2.1 unCLIP model"
    if loaded.is_sdxl and not hasattr(loaded, "text_processing_engine_l"):
        return "it is an SDXL refiner"
    predictor = loaded.forge_objects_original.unet.model.predictor
    if predictor.prediction_type not in _TRAINED or not hasattr(predictor, "alphas_cumprod"):
        return f"it predicts neither noise nor velocity ({type(predictor).__name__}, {predictor.prediction_type})"
    return None


def _spell_family(kind: str) -> str:
    """``StableDiffusion3`` as people write it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", kind)


def _spell(storage: Any) -> str:
    return str(storage).removeprefix("torch.")
