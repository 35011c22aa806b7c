"""Which pictures go together in an epoch, and in what order. Pure; must not import torch, PIL or any host."""

import random
from collections.abc import Sequence

from .buckets import Fit
from .dataset import Example


def plan_batches(examples: Sequence[Example], fits: Sequence[Fit], batch_size: int, *, epoch: int, seed: int) -> list[list[int]]:
    """The epoch's batches as indices into ``examples``, each example as often as it repeats.

    A batch never mixes buckets, so the last of a bucket may be short. Pictures are shuffled within their bucket and
    batches across buckets, as sd-scripts does. A function of its arguments alone: a resumed run plans the same epoch.
    """
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, (example, fit) in enumerate(zip(examples, fits, strict=True)):
        buckets.setdefault(fit.bucket, []).extend([index] * example.repeats)
    rng = random.Random(f"{seed} {epoch}")  # text, so that seed 42's second epoch is not seed 43's first
    batches = []
    for bucket in sorted(buckets):
        members = buckets[bucket]
        rng.shuffle(members)
        batches += [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
    rng.shuffle(batches)
    return batches
