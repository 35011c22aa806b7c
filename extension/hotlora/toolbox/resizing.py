"""A LoRA at another rank: the nearest one by singular values, at one rank for all layers or at one that each layer chooses."""

from dataclasses import dataclass, replace

from ..engine.errors import UserError
from ..engine.low_rank import choose_rank, share_kept
from .adapters import Adapter, Layer

ANY_RANK = 100_000  # more than a layer has


@dataclass(frozen=True)
class Size:
    """How large layers become.

    Attributes:
        rank: at most.
        conv_rank: the same of wide convolutions; None for ``rank``.
        criterion: one of ``low_rank.CRITERIA``, by which each layer chooses its own; empty for one rank.
        target: the criterion's number.
    """

    rank: int
    conv_rank: int | None = None
    criterion: str = ""
    target: float = 0.0

    def check(self) -> None:
        """Raise UserError for numbers that mean nothing."""
        if self.rank < 1 or (self.conv_rank is not None and self.conv_rank < 1):
            raise UserError("cannot make a LoRA of rank 0: nothing would be left. Give --rank and --conv-rank of 1 or more.")
        if self.criterion == "sv_ratio" and self.target < 1:
            raise UserError(f"cannot keep values down to 1/{self.target:g} of the largest: it must be 1 or more. Give --sv-ratio 10, say.")
        if self.criterion in ("sv_fro", "sv_cumulative") and not 0 < self.target <= 1:
            option = f"--{self.criterion.replace('_', '-')}"
            raise UserError(f"cannot keep a share of {self.target:g}: it lies between 0 and 1. Give {option} 0.9, say.")

    def most(self, layer: Layer) -> int:
        return self.conv_rank or self.rank if layer.is_spatial else self.rank

    def describe(self) -> str:
        """As kohya notes it down."""
        conv = f" (conv {self.conv_rank})" if self.conv_rank and self.conv_rank != self.rank else ""
        if not self.criterion:
            return f"rank {self.rank}{conv}"
        most = f", at most rank {self.rank}{conv}" if self.rank < ANY_RANK else conv
        return f"{self.criterion} {self.target:g}{most}"


@dataclass(frozen=True)
class Resized:
    """What became of a LoRA: the share of each layer's Frobenius norm that is left, by name."""

    adapter: Adapter
    kept: dict[str, float]


def resize(adapter: Adapter, size: Size) -> Resized:
    """The LoRA nearest to this one. Where a size is one rank, alpha / rank stays what it was; a LoHa or LoKr becomes a LoRA.

    Raises:
        UserError: for a size that is none.
    """
    size.check()
    layers, kept = {}, {}
    for name, layer in adapter.layers.items():
        most = size.most(layer)
        found = layer.take_apart(most)
        rank = choose_rank(found.values, most, size.criterion, size.target)
        scale = layer.scale if adapter.kind == "lora" and layer.scale > 0 else 1.0
        made = found._replace(values=found.values / scale).cut(rank, layer.shape_inputs())._replace(scale=scale)
        layers[name] = Layer.of(made, layer.magnitude)
        kept[name] = share_kept(found.values, made.rank)
    return Resized(replace(adapter, layers=layers, kind="lora"), kept)
