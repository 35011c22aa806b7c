"""The language loss: cross-entropy of learned tokens, summed, in chunks so that logits never exist whole."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 128  # of 4 bytes times the vocabulary each, three times over

_ROOM = 1024.0  # by which gradients are held larger: the logits' would be lost below 6e-8 in half precision

_Head = Callable[[torch.Tensor], torch.Tensor]


def sum_cross_entropy(hidden: torch.Tensor, head: _Head, labels: torch.Tensor, chunk_tokens: int = CHUNK_TOKENS) -> torch.Tensor:
    """Sum over n positions of -log softmax(head(hidden))[label], in fp32.

    Logits of a chunk are computed, turned into its loss, and forgotten. Where only ``hidden`` wants a gradient, it is computed on the way;
    where the head itself learns, the backward pass computes the logits again.

    Args:
        hidden: [n, width], the model's last hidden state where a token is learned next.
        head: [m, width] -> [m, vocabulary].
        labels: [n], the tokens to come.

    Returns:
        A scalar; zero, still with a gradient, for n = 0.
    """
    if torch.is_grad_enabled() and head(hidden[:0].detach()).requires_grad:
        total = hidden.sum() * 0.0
        for part in _chunks(len(labels), chunk_tokens):
            total = total + checkpoint(_sum_of_chunk, hidden[part], head, labels[part], use_reentrant=False)
        return total.float()
    wanted = hidden.requires_grad and torch.is_grad_enabled()
    return _SumCrossEntropy.apply(hidden, head, labels, chunk_tokens, wanted)


class _SumCrossEntropy(torch.autograd.Function):
    """With the gradient by ``hidden`` already computed on the way forward; the head gets none."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: _Head, labels: torch.Tensor, chunk_tokens: int, wanted: bool) -> torch.Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.zeros_like(hidden) if wanted else None
        for part in _chunks(len(labels), chunk_tokens):
            with torch.set_grad_enabled(wanted):
                rows = hidden[part].detach().requires_grad_(wanted)
                logits = head(rows)
            loss, by_logits = _loss_and_gradient(logits.detach(), labels[part])
            total += loss
            if gradient is not None:
                (gradient[part],) = torch.autograd.grad(logits, rows, by_logits)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple:
        (gradient,) = ctx.saved_tensors
        return (gradient.float() * (outer[0] / _ROOM)).to(gradient.dtype), None, None, None, None


def _loss_and_gradient(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, summed, and its gradient by the logits, softmax - onehot, times _ROOM: with one exponential for both."""
    right = labels[:, None]
    differences = logits.float() - logits.amax(-1, keepdim=True)
    of_right = differences.gather(1, right)
    powers = differences.exp_()
    sums = powers.sum(-1, keepdim=True)
    gradient = powers.mul_(_ROOM / sums).scatter_add_(1, right, torch.full_like(sums, -_ROOM))
    return (sums.log() - of_right).sum(), gradient.to(logits.dtype)


def _chunks(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]


def _sum_of_chunk(hidden: torch.Tensor, head: _Head, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(head(hidden).float(), labels, reduction="sum")
