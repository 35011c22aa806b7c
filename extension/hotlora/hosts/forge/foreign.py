"""Which of the hooks in Forge's model are its own, and what is said of those that are not."""

import contextlib
from typing import Any

from torch import nn

from ..shared.foreign import LIBRARIES, find_irremovable, foreign_hooks_off, name_foreign

_FORGE = {"modules", "modules_forge", "backend", "huggingface_guess", "networks", "network", "lib_hypertile"}
_MODELS = {"diffusers", "k_diffusion", "comfy_kitchen", "pytorch_lightning"}
_OWN = LIBRARIES | _FORGE | _MODELS


def plain_of_others(loaded: Any) -> contextlib.AbstractContextManager[None]:
    """The model without what extensions keep hooked into it from their last picture."""
    return foreign_hooks_off(_list_modules(loaded), _OWN)


def explain_irremovable(loaded: Any) -> str | None:
    """Why the model is not the checkpoint's, where an extension has changed it for good; None where none has."""
    try:
        owner = find_irremovable(_list_modules(loaded), _OWN, {})
    except RuntimeError:  # it changes while it is looked at, outside the queue; the turn looks again
        return None
    return f"{owner} has changed the weights of the loaded model" if owner else None


def warn_of_others(loaded: Any) -> list[str]:
    """What people should know about it."""
    return [
        f"{owner} has hooked something into the loaded model. It is off while this run trains, and there for pictures."
        for owner in name_foreign(_list_modules(loaded), _OWN)
    ]


def _list_modules(loaded: Any) -> list[nn.Module]:
    held = loaded.forge_objects_original
    trees = [held.unet.model, held.clip.cond_stage_model if held.clip is not None else None, held.vae.first_stage_model]
    return list(dict.fromkeys(module for tree in trees if isinstance(tree, nn.Module) for module in tree.modules()))
