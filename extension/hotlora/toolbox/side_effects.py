"""What a LoRA does that nobody asked for: samples of one prompt that are all alike, and pictures that change without its trigger word."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .samples import Samples

_PROMPTS, _SEEDS = 2, 3
_SEED_STEP = 1000  # the first seed of a prompt is that of its other samples
_NO_DISTANCE = 1e-3  # of latents: nothing can be measured against it
COLLAPSED = 0.5  # of the model's own variety: below it samples are alike
LEAKS = 0.5  # of the change with the trigger word: above it the LoRA works unasked


@dataclass(frozen=True)
class SideEffects:
    """Of one checkpoint at weight 1; None where there is nothing to measure.

    Attributes:
        variety: how far samples of one prompt are from each other, where 1 is how far they are without the LoRA.
        leak: how much pictures by captions without the trigger word change, where 1 is how much those with it do.
    """

    variety: float | None = None
    leak: float | None = None


class Untouched:
    """What the model draws without the LoRA, to hold against what it draws with it.

    Args:
        samples: of the model alone.
        captions: of training pictures.
        triggers: the run's trigger words.
    """

    def __init__(self, samples: Samples, captions: Sequence[str], triggers: Sequence[str]):
        self._samples, self._captions = samples, captions[:_PROMPTS]
        self._pairs = [(caption, plain) for caption in self._captions if (plain := _without(caption, triggers)) != caption]

    def compare(self, samples: Samples) -> SideEffects:
        """``samples``: of the model with the LoRA."""
        before, after = self._measure_variety(self._samples), self._measure_variety(samples)
        asked = statistics.fmean(self._measure_change(samples, caption) for caption, _ in self._pairs) if self._pairs else 0.0
        unasked = statistics.fmean(self._measure_change(samples, plain) for _, plain in self._pairs) if self._pairs else 0.0
        return SideEffects(after / before if before > _NO_DISTANCE else None, unasked / asked if asked > _NO_DISTANCE else None)

    def _measure_variety(self, samples: Samples) -> float:
        distances = []
        for caption in self._captions:
            drawn = [samples.latent(caption, number * _SEED_STEP) for number in range(_SEEDS)]
            distances += [(one - other).norm().item() for one, other in itertools.combinations(drawn, 2)]
        return statistics.fmean(distances) if distances else 0.0

    def _measure_change(self, samples: Samples, prompt: str) -> float:
        return (samples.latent(prompt, 0) - self._samples.latent(prompt, 0)).norm().item()


def _without(caption: str, triggers: Sequence[str]) -> str:
    """The caption with no trigger word in it."""
    for word in triggers:
        caption = caption.replace(word, "")
    return ", ".join(filter(None, (" ".join(part.split()) for part in caption.split(","))))
