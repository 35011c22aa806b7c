"""Room on the device: modules that the U-Net does not need to be trained wait on the CPU, and are fetched when they are needed."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

_AMPLE_BYTES = 6 * 2**30  # a step at 512 pixels without gradient checkpointing


class SpareModules:
    """VAE and text encoders. Copying back and forth keeps every bit."""

    def __init__(self, modules: Sequence[nn.Module]):
        self._homes = [(module, next(module.parameters()).device) for module in modules]
        self._are_away = False
        self._at_hand: list[nn.Module] = []  # of those that are away

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """On the CPU."""
        try:
            self._are_away = True
            for module, _ in self._homes:
                module.to("cpu")
            yield
        finally:
            self._are_away = False
            for module, home in self._homes:
                module.to(home)

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


def is_short(device: torch.device) -> bool:
    """Whether little of a card's memory is free: then it is worth a few tenths of a second per turn. What PyTorch holds and does not use
    counts as free."""
    if device.type != "cuda":
        return False
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free < _AMPLE_BYTES
