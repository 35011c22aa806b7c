"""Where Forge's weights lie: it loads, streams and unloads by itself, and is asked for what a turn needs."""

from collections.abc import Sequence
from typing import Any

import torch

from ...engine.errors import UserError
from .ordinary import make_ordinary

_STEP_BYTES = 6 * 2**30  # a step at 512 pixels without gradient checkpointing


def load(patchers: Sequence[Any]) -> None:
    """All of them on the device at once, with room for a step besides; and as autograd takes them.

    Args:
        patchers: Forge's ``ModelPatcher``. What else lies there may have to go.
    """
    fetch(patchers)
    make_ordinary(patcher.model for patcher in patchers)


def fetch(patchers: Sequence[Any]) -> None:
    """All of them on the device at once, as they are without a LoRA. Forge says on the console what it makes room by, so it is asked only
    where something is to do."""
    from backend import memory_management

    there = [entry.model for entry in memory_management.current_loaded_models]
    others = any(all(model is not patcher for patcher in patchers) for model in there)
    missing = any(all(model is not patcher for model in there) for patcher in patchers)
    if missing or (others and _is_short_of_room(memory_management)):
        memory_management.load_models_gpu(list(patchers), memory_required=_STEP_BYTES)


def _is_short_of_room(memory_management: Any) -> bool:
    device = memory_management.get_torch_device()
    return device.type != "cpu" and memory_management.get_free_memory(device) < _STEP_BYTES


def own_device() -> torch.device:
    """Where Forge computes."""
    from backend import memory_management

    return memory_management.get_torch_device()


def is_on_device(patcher: Any) -> bool:
    """Whether all weights lie where Forge computes with them."""
    return all(parameter.device.type == torch.device(patcher.load_device).type for parameter in patcher.model.parameters())


def check_is_whole(patcher: Any, name: str) -> None:
    """Raise UserError where Forge keeps a part of the weights in the CPU's memory and streams it: each copy would be kept for the
    backward pass, and adapters would lie elsewhere than their layers' answers.

    Args:
        name: the checkpoint's.
    """
    if not is_on_device(patcher):
        raise UserError(
            f"cannot train on '{name}': it does not fit into the part of the GPU's memory that is set aside for weights, so the WebUI "
            "streams it. Raise GPU Weights at the top of the page (the choice UI: all shows it), and start again."
        )
