"""Smoothed losses: what the chart draws over the raw ones. Plain numbers; knows nothing of drawing."""

import math
from collections.abc import Sequence

from ..engine.history import History

Curve = Sequence[tuple[float, float]]  # (step, loss)

_RECENT_STEPS = 20
_RECENT_SHARE = 0.8
_FENCES = 3.0  # in units of the middle half's height, as for box plots' far outliers


def smooth(curve: Curve, share: float) -> Curve:
    """An exponential average in which ``share`` is kept of what came before, from 0, the curve itself, to below 1.

    It starts from nothing, and is divided by how much of it has been filled (as Adam's moments are, arXiv 1412.6980): so it does not lag
    behind at the start of a run. Losses that are no numbers are passed over, and far outliers count as the nearest that are none.
    """
    low, high = find_fences([loss for _, loss in curve])
    total = weight = 0.0
    smoothed = []
    for step, loss in curve:
        if math.isfinite(loss):
            total = share * total + (1 - share) * min(max(loss, low), high)
            weight = share * weight + (1 - share)
        if weight:
            smoothed.append((step, total / weight))
    return smoothed


def find_fences(losses: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest loss, without far outliers; (0, 1) where there is none."""
    ordered = sorted(loss for loss in losses if math.isfinite(loss))
    if not ordered:
        return 0.0, 1.0
    lower, upper = ordered[len(ordered) // 4], ordered[(3 * len(ordered) - 1) // 4]
    margin = _FENCES * (upper - lower)
    inside = [loss for loss in ordered if lower - margin <= loss <= upper + margin]
    return inside[0], inside[-1]


def recent_loss(history: History) -> float:
    """What the last steps say, for a number beside the chart; nan where none of them is a number."""
    smoothed = smooth([(step.step, step.loss) for step in history.steps[-_RECENT_STEPS:]], _RECENT_SHARE)
    return smoothed[-1][1] if smoothed else math.nan
