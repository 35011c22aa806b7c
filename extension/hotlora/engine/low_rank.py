"""Weight changes of low rank: taken apart by singular values, cut to a rank, put side by side. Values only; knows no model and no file.

A layer's weight [out, in, ...] changes by ``scale * up @ down``; whatever dimensions follow ``in`` are counted as inputs here.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

CRITERIA = ("sv_ratio", "sv_fro", "sv_cumulative")
_EXACT_SIZE = 2048  # of a matrix's shorter side, up to which its singular values are computed in full
_LEAST = 1e-6  # largest singular value of what counts as no change


class LowRank(NamedTuple):
    """A change of one layer's weight."""

    up: torch.Tensor  # [out, rank]
    down: torch.Tensor  # [rank, in, ...]
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def dense(self) -> torch.Tensor:
        """[out, in, ...] fp32"""
        return self.scale * (self.up.float() @ self.down.float().flatten(1)).view(self.up.shape[0], *self.down.shape[1:])


class Singular(NamedTuple):
    """A change taken apart: left @ diag(values) @ right, values falling."""

    left: torch.Tensor  # [out, count]
    values: torch.Tensor  # [count]
    right: torch.Tensor  # [count, inputs]

    def cut(self, rank: int, shape: Sequence[int]) -> LowRank:
        """The nearest change of that rank (Eckart-Young); what two factors of a half precision file hold best is each the root of the
        values. ``shape``: of the layer's inputs, [in, ...]."""
        rank = max(1, min(rank, len(self.values)))
        roots = self.values[:rank].sqrt()
        return LowRank(
            (self.left[:, :rank] * roots).contiguous(), (roots[:, None] * self.right[:rank]).reshape(rank, *shape).contiguous(), 1.0
        )


def take_apart(change: LowRank) -> Singular:
    """Singular values of a product without making it: of the small matrix between both factors' orthogonal parts."""
    up, down = change.up.double(), change.down.double().flatten(1)
    if min(up.shape[0], down.shape[1]) <= change.rank:
        return take_apart_dense(change.scale * up @ down, 0)
    up_basis, up_rest = torch.linalg.qr(up)
    down_basis, down_rest = torch.linalg.qr(down.T)
    left, values, right = torch.linalg.svd(change.scale * up_rest @ down_rest.T, full_matrices=False)
    return Singular((up_basis @ left).float(), values.float(), (right @ down_basis.T).float())


def take_apart_dense(matrix: torch.Tensor, most: int) -> Singular:
    """Of a whole matrix [out, inputs]. Large ones only up to the rank ``most``, by a random start of its own seed (arXiv 0909.4061), as
    many more and four rounds; 0 for all."""
    matrix = matrix.flatten(1)
    if most and min(matrix.shape) > _EXACT_SIZE:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(matrix.float(), q=min(2 * most + 8, *matrix.shape), niter=4)
        return Singular(left, values, right.T)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return Singular(left.float(), values.float(), right.float())


def choose_rank(values: torch.Tensor, most: int, criterion: str = "", target: float = 0.0) -> int:
    """How many singular values to keep.

    The criteria are those of kohya-ss/sd-scripts' ``resize_lora.py``: ``sv_ratio`` keeps what is larger than the largest / target;
    ``sv_cumulative`` as many as have that share of the values' sum; ``sv_fro`` as many as have that share of the Frobenius norm, which
    is the root of the sum of their squares.

    Args:
        values: [count], falling.
        most: at most so many.
        criterion: one of ``CRITERIA``, or empty for ``most``.
    """
    if not len(values) or values[0] <= _LEAST:
        return 1
    values = values.double()
    if criterion == "sv_ratio":
        count = int((values > values[0] / target).sum())
    elif criterion:
        power, share = (2, target**2) if criterion == "sv_fro" else (1, target)
        reached = values.pow(power).cumsum(0) / values.pow(power).sum()
        count = int((reached < share).sum()) + 1
    else:
        count = most
    return max(1, min(count, most, len(values)))


def share_kept(values: torch.Tensor, rank: int) -> float:
    """Of the change's Frobenius norm, by the largest ``rank`` values."""
    squares = values.double().square()
    whole = squares.sum().item()
    return math.sqrt(squares[:rank].sum().item() / whole) if whole else 1.0


def put_together(changes: Sequence[tuple[LowRank, float]]) -> LowRank:
    """The sum of changes, each at its weight: factors side by side, so nothing is lost and ranks add up.

    All scales are equal afterwards, as each factor takes the root of its own; a negative one goes to the first.
    """
    ups, downs = [], []
    for change, weight in changes:
        factor = change.scale * weight
        root = math.sqrt(abs(factor))
        ups.append(change.up.float() * math.copysign(root, factor))
        downs.append(change.down.float() * root)
    return LowRank(torch.cat(ups, 1), torch.cat(downs), 1.0)
