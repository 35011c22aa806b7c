"""When VAE and text encoders of the WebUI's model wait on the CPU. Not with ``--medvram``, which moves modules by itself."""

import contextlib
from collections.abc import Iterator

import torch

from ..shared.spare import SpareModules, is_short


class WebuiSpare(SpareModules):
    """Away, they are out of reach for live previews too."""

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """On the CPU."""
        from modules import shared

        found = shared.parallel_processing_allowed
        shared.parallel_processing_allowed = False  # as the WebUI's own training does
        try:
            with super().away():
                yield
        finally:
            shared.parallel_processing_allowed = found


def needs_room(device: torch.device) -> bool:
    """Whether they are in the way: where the WebUI is set to "Move VAE and CLIP to RAM when training", or little of the device's memory is
    free. Never where the CPU has the same memory."""
    if device.type in ("cpu", "mps"):
        return False
    from modules import shared

    return shared.opts.unload_models_when_training or is_short(device)
