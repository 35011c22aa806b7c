"""Ranks and alphas of a LoRA's layers as metadata tell them: one number where all have it, else how many have which."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..engine.interfaces import Adapters
from .config import ImageConfig
from .names import is_spatial


class Sizes(NamedTuple):
    """(rank, alpha) of layers -> how many have it: of wide convolutions, and of all others."""

    plain: Mapping[tuple[int, float], int]
    conv: Mapping[tuple[int, float], int]

    @classmethod
    def of(cls, adapters: Adapters | None, config: ImageConfig) -> "Sizes":
        """Those of the adapters, or those that the options give all layers."""
        if adapters is None:
            conv = {(config.conv_rank, config.conv_alpha_value): 1} if config.conv_rank else {}
            return cls({(config.lora_rank, config.alpha): 1}, conv)
        counts: tuple[Counter, Counter] = (Counter(), Counter())
        for target in adapters.targets.values():
            counts[is_spatial(target.layer)][target.rank, target.alpha] += 1
        return cls(*counts)

    @property
    def rank_and_alpha(self) -> tuple[Any, Any]:
        """Of the layers that are no wide convolutions; sd-scripts' word "Dynamic" in place of numbers that differ."""
        return _join(self.plain or self.conv)

    def arguments(self) -> dict[str, str]:
        """For ``ss_network_args``: the convolutions' size, and ranks by layer where they differ."""
        said: dict[str, str] = {}
        if self.conv:
            rank, alpha = _join(self.conv)
            said.update(conv_dim=f"{rank}", conv_alpha=alpha if isinstance(alpha, str) else f"{alpha:g}")
        for key, sizes in (("layers_by_rank", self.plain), ("convolutions_by_rank", self.conv)):
            if len(sizes) > 1:
                said[key] = _count_ranks(sizes)
        return said

    def describe(self) -> str:
        """For people."""
        rank, alpha = self.rank_and_alpha
        if isinstance(rank, str):
            ranks = [rank for rank, _ in self.plain or self.conv]
            return f"ranks {min(ranks)} to {max(ranks)}"
        return f"rank {rank}" if isinstance(alpha, str) else f"rank {rank}, alpha {alpha:g}"


def _join(sizes: Mapping[tuple[int, float], int]) -> tuple[Any, Any]:
    return _only(rank for rank, _ in sizes), _only(alpha for _, alpha in sizes)


def _only(values: Iterable[Any]) -> Any:
    different = set(values)
    return different.pop() if len(different) == 1 else "Dynamic"


def _count_ranks(sizes: Mapping[tuple[int, float], int]) -> str:
    """``4: 180, 16: 12``: how many layers have which rank."""
    ranks: Counter = Counter()
    for (rank, _), count in sizes.items():
        ranks[rank] += count
    return ", ".join(f"{rank}: {count}" for rank, count in sorted(ranks.items()))
