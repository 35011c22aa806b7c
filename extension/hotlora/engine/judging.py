"""What a run's losses have been like: smoothed for people, watched for a breakdown, and judged on examples that were kept back.

Values only; computes no loss and touches no model.
"""

from dataclasses import dataclass, field
from typing import Any, TypedDict

_SMOOTHING = 0.95  # of the loss that people see
_EXPLODED = 10.0  # smoothed loss this many times the run's mean so far: far beyond what noise does
_EXPLOSION_NEEDS_STEPS = 50


@dataclass
class LossRecord:
    """The training loss so far."""

    average: float = 0.0  # exponential, still drawn towards its start at zero
    mean_loss: float = 0.0
    rate_lowered: bool = False  # whether it has broken down once

    def add(self, loss: float, step: int) -> None:
        """Take note of the loss of a step; the first is step 1."""
        self.average = _SMOOTHING * self.average + (1 - _SMOOTHING) * loss
        usual = min(loss, 3 * self.mean_loss) if step > 1 else loss  # so that an explosion does not hide itself
        self.mean_loss += (usual - self.mean_loss) / step

    def smoothed(self, step: int) -> float:
        """The loss averaged over about the last 20 steps, without a bias towards zero at the start."""
        return self.average / (1 - _SMOOTHING**step) if step else 0.0

    def explodes(self, loss: float, step: int) -> bool:
        """Whether this loss, after so many steps, is far beyond what noise does."""
        return step >= _EXPLOSION_NEEDS_STEPS and min(self.smoothed(step), loss) > _EXPLODED * self.mean_loss


class Best(TypedDict):
    """The adapter that did best so far."""

    loss: float
    step: int
    tensors: dict[str, Any]


@dataclass
class Judgement:
    """How the adapter has done on what it was not trained on."""

    best: Best | None = None
    not_improved: int = 0  # validations in a row
    judged_step: int = 0
    graded_step: int = 0
    questions: int | None = None  # how many are asked each time; None before the first
    scores: dict[str, float] = field(default_factory=dict)  # of the last time
    stopped_early: bool = False

    def is_best(self, loss: float) -> bool:
        return self.best is None or loss < self.best["loss"]

    def add(self, loss: float, step: int, tensors: dict[str, Any] | None, patience: int) -> None:
        """Take note of a validation loss; ``tensors`` are the adapter's where it is the best so far. After ``patience`` validations
        without a better one the run is to stop; 0 never stops it."""
        self.judged_step = step
        if tensors is not None:
            self.best, self.not_improved = {"loss": loss, "step": step, "tensors": tensors}, 0
            return
        self.not_improved += 1
        self.stopped_early = bool(patience) and self.not_improved >= patience
