"""Which of the hooks in the WebUI's model are its own, and what is said of those that are not."""

import contextlib
from typing import Any

from torch import nn

from ..shared.foreign import LIBRARIES, find_irremovable, foreign_hooks_off, name_foreign

# The WebUI's own and those of its built-in extensions: low-VRAM hooks, LoRA, Hypertile.
_WEBUI = {"modules", "networks", "network", "lora", "lora_patches", "hypertile"}
_MODELS = {"ldm", "sgm", "open_clip", "clip", "k_diffusion", "tomesd", "pytorch_lightning", "lightning", "lightning_fabric"}
_OWN = LIBRARIES | _WEBUI | _MODELS
_MERGED = {"_lora_org_weights": "the extension sd-webui-additional-networks"}  # its way with SD 2's attention
_TREES = ("model", "first_stage_model", "cond_stage_model", "conditioner")


def plain_of_others(loaded: Any) -> contextlib.AbstractContextManager[None]:
    """The model without what extensions keep hooked into it from their last picture."""
    return foreign_hooks_off(_list_modules(loaded), _OWN)


def explain_irremovable(loaded: Any) -> str | None:
    """Why the model is not the checkpoint's, where an extension has changed it for good; None where none has."""
    try:
        owner = find_irremovable(_list_modules(loaded), _OWN, _MERGED)
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
    trees = [getattr(loaded, name, None) for name in _TREES]
    return list(dict.fromkeys(module for tree in trees if isinstance(tree, nn.Module) for module in tree.modules()))
