"""Which texts go together in an epoch, and in what order. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .conversation import TokenizedExample


@dataclass(frozen=True)
class TextBatch:
    """Examples by their index among the run's; ``count`` is how many of their tokens are learned."""

    items: tuple[int, ...]
    counts: tuple[float, ...]  # of each

    @property
    def count(self) -> float:
        return sum(self.counts)

    def __len__(self) -> int:
        return len(self.items)

    def halves(self) -> tuple["TextBatch", "TextBatch"]:
        middle = len(self.items) // 2
        return (
            TextBatch(self.items[:middle], self.counts[:middle]),
            TextBatch(self.items[middle:], self.counts[middle:]),
        )


def make_batch(examples: Sequence[TokenizedExample], items: Sequence[int]) -> TextBatch:
    """A batch of those examples."""
    return TextBatch(tuple(items), tuple(examples[index].count for index in items))


def plan_text_batches(
    examples: Sequence[TokenizedExample], batch_size: int, *, group_by_length: bool, epoch: int, seed: int
) -> list[TextBatch]:
    """The epoch's batches, each example once.

    A function of its arguments alone: a resumed run plans the same epoch. With ``group_by_length`` those of about the same
    length go together, which wastes little on padding; the order of the batches stays random.
    """
    rng = random.Random(f"{seed} {epoch}")  # text, so that seed 42's second epoch is not seed 43's first
    order = list(range(len(examples)))
    rng.shuffle(order)
    if group_by_length:
        order.sort(key=lambda index: len(examples[index].tokens))  # stable: those of one length stay shuffled
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if group_by_length:
        rng.shuffle(groups)
    return [make_batch(examples, group) for group in groups]
