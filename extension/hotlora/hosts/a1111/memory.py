"""Room on the device: what the U-Net does not need to be trained waits on the CPU, and is fetched when it is needed.

Not with ``--medvram``, which moves modules by itself.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

_AMPLE_BYTES = 6 * 2**30  # a step at 512 pixels without gradient checkpointing


class SpareModules:
    """VAE and text encoders of the WebUI's model. Copying back and forth keeps every bit."""

    def __init__(self, modules: Sequence[nn.Module]):
        self._homes = [(module, next(module.parameters()).device) for module in modules]
        self._are_away = False
        self._at_hand: list[nn.Module] = []  # of those that are away

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """On the CPU, and so out of reach for live previews too."""
        from modules import shared

        found = shared.parallel_processing_allowed
        shared.parallel_processing_allowed = False  # as the WebUI's own training does
        try:
            self._are_away = True
            for module, _ in self._homes:
                module.to("cpu")
            yield
        finally:
            self._are_away = False
            for module, home in self._homes:
                module.to(home)
            shared.parallel_processing_allowed = found

    @contextlib.contextmanager
    def at_hand(self, *needed: nn.Module) -> Iterator[None]:
        """Those of them that are needed, or all, where they were found, even within :meth:`away`."""
        homes = [(module, home) for module, home in self._homes if not needed or any(module is one for one in needed)]
        fetched = [pair for pair in homes if self._are_away and not any(pair[0] is one for one in self._at_hand)]
        found = self._at_hand
        try:
            self._at_hand = [*found, *(module for module, _ in fetched)]
            for module, home in fetched:
                module.to(home)
            yield
        finally:
            self._at_hand = found
            for module, _ in fetched:
                module.to("cpu")


def needs_room(device: torch.device) -> bool:
    """Whether it is worth a few tenths of a second per turn: where the WebUI is set to "Move VAE and CLIP to RAM when training",
    or little of the device's memory is free. Never where the CPU has the same memory."""
    if device.type in ("cpu", "mps"):
        return False
    from modules import shared

    return shared.opts.unload_models_when_training or (device.type == "cuda" and _free_bytes(device) < _AMPLE_BYTES)


def _free_bytes(device: torch.device) -> int:
    """What PyTorch holds and does not use counts as free."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
