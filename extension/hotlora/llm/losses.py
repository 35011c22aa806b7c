"""The language loss: cross-entropy of learned tokens, summed, in chunks so that logits never exist whole."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 128  # of 4 bytes times the vocabulary each, three times over


def sum_cross_entropy(
    hidden: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor, chunk_tokens: int = CHUNK_TOKENS
) -> torch.Tensor:
    """Sum over n positions of -log softmax(head(hidden))[label], in fp32.

    Logits of a chunk are computed, turned into its loss and forgotten; the backward pass computes them again.

    Args:
        hidden: [n, width], the model's last hidden state where a token is learned next.
        head: [m, width] -> [m, vocabulary].
        labels: [n], the tokens to come.

    Returns:
        A scalar; zero, still with a gradient, for n = 0.
    """
    total = hidden.sum() * 0.0
    for start in range(0, len(labels), chunk_tokens):
        part = slice(start, start + chunk_tokens)
        total = total + checkpoint(_sum_of_chunk, hidden[part], head, labels[part], use_reentrant=False)
    return total.float()


def _sum_of_chunk(hidden: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(head(hidden).float(), labels, reduction="sum")
