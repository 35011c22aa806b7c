"""Whether steps have suddenly become several times slower while the device is full: where a driver takes the computer's memory instead of
saying that the device has none left (Windows' "shared GPU memory"), nothing fails, and everything crawls."""

import statistics
from collections import deque

import torch

from .memory import is_nearly_full

_RECENT, _BEFORE, _LEAST_BEFORE = 5, 100, 20  # steps
_TIMES_SLOWER = 3.0


class Pace:
    """Steps' durations, compared with those before. Medians, because a step may have had a reason of its own.

    Args:
        device: that computes them.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._before: deque[float] = deque(maxlen=_BEFORE)
        self._told = False

    def note(self, seconds: float) -> str:
        """Take in a step; what a person should know, once, else nothing."""
        if len(self._recent) == _RECENT:
            self._before.append(self._recent[0])
        self._recent.append(seconds)
        if self._told or len(self._before) < _LEAST_BEFORE:
            return ""
        now, before = statistics.median(self._recent), statistics.median(self._before)
        self._told = now > _TIMES_SLOWER * before and is_nearly_full(self._device)
        return _explain(now, before) if self._told else ""


def _explain(now: float, before: float) -> str:
    return (
        f"Steps take {now / before:.1f} times as long as before ({now:.2f} s, {before:.2f} s before), and the GPU's memory is nearly full: "
        "the driver seems to use the computer's memory in its place. Close what else uses the GPU; or stop and resume with "
        "gradient_checkpointing: true, or start anew with a smaller batch_size."
    )
