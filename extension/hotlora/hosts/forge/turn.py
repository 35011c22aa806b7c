"""What a turn at Forge's model leaves out, because it belongs to somebody's last picture.

Tiling, FreeU, token merging, Hypertile and LoRAs are patches of a clone, of which the original has none; a LoRA's are merged into the
weights for as long as that clone is the loaded one.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from .foreign import plain_of_others
from .memory import check_is_whole, fetch, load


@contextlib.contextmanager
def plain_model(loaded: Any) -> Iterator[None]:
    """The model as its checkpoint says, on the device, in tensors that autograd takes, without other extensions' hooks. What a picture
    puts on it Forge applies anew for each prompt.

    Raises:
        UserError: where it does not fit.
    """
    held = loaded.forge_objects_original
    take_loras_out(loaded)
    load([held.unet, held.clip.patcher])
    check_is_whole(held.unet, loaded.sd_checkpoint_info.name)
    with plain_of_others(loaded):
        yield


def take_loras_out(loaded: Any) -> None:
    """Nothing of the last prompt's LoRAs in the weights, nor in what Forge takes to be in them. Forge restores the weights when it fetches
    what has no patches."""
    networks = sys.modules.get("networks")
    if networks is not None:
        networks.loaded_networks.clear()
    if loaded is None:
        return
    original = loaded.forge_objects_original
    loaded.current_lora_hash = str([])
    loaded.forge_objects = original.shallow_copy()
    loaded.forge_objects_after_applying_lora = original.shallow_copy()
    fetch([original.unet, original.clip.patcher])
