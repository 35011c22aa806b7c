"""Captions longer than one text encoder window: cut into windows of 75 tokens, and joined again behind the encoder.

The rows and the joined length are those of kohya-ss/sd-scripts (raw windows, not cut at commas as AUTOMATIC1111 does).
Knows no tokenizer and no encoder: hosts bring theirs. Must not import anything of ours.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

WINDOW_TOKENS = 75
ROW_TOKENS = WINDOW_TOKENS + 2


class SpecialIds(NamedTuple):
    """Ids of a tokenizer's special tokens. Padding is the end token in SD 1.x and SDXL's first encoder, 0 in SD 2.x and
    SDXL's second."""

    bos: int
    eos: int
    pad: int


def chunk_ids(ids: Sequence[int], special: SpecialIds, max_token_length: int) -> list[list[int]]:
    """One row of 77 ids per window: begin, up to 75 tokens, end, padding.

    Every row is a caption of its own to the encoder, also one without a token left. sd-scripts cuts the padded whole and
    then mends each row's ends; the result is the same, save that it takes a caption's own "!" (id 0) for padding where
    padding is 0.

    Args:
        ids: the caption's tokens without special ones; what does not fit is cut off.
        max_token_length: 75, 150 or 225.
    """
    rows = []
    for start in range(0, max_token_length, WINDOW_TOKENS):
        window = list(ids[:max_token_length][start : start + WINDOW_TOKENS])
        rows.append([special.bos, *window, special.eos, *[special.pad] * (WINDOW_TOKENS - len(window))])
    return rows


def token_rows(captions: Sequence[str], encode: Callable[[str], Sequence[int]], special: SpecialIds, max_token_length: int) -> torch.Tensor:
    """Ids for the encoder, [batch * chunks, 77] int64: all rows of the first caption, then the second's.

    Args:
        encode: ids of a text without special tokens.
    """
    return torch.tensor([row for caption in captions for row in chunk_ids(encode(caption), special, max_token_length)])


def join_chunks(hidden: torch.Tensor, batch: int) -> torch.Tensor:
    """Hidden states of all rows -> one sequence per caption: begin, the windows' 75 each, and the last row's end.

    Args:
        hidden: [batch * chunks, 77, width].
    Returns:
        [batch, 75 * chunks + 2, width]: 77, 152 or 227 tokens.
    """
    chunks = hidden.reshape(batch, -1, ROW_TOKENS, hidden.shape[-1])
    windows = chunks[:, :, 1:-1].flatten(1, 2)
    return torch.cat([chunks[:, 0, :1], windows, chunks[:, -1, -1:]], dim=1)


def first_rows(pooled: torch.Tensor, batch: int) -> torch.Tensor:
    """SDXL's pooled vector comes from each caption's first row. [batch * chunks, width] -> [batch, width]."""
    return pooled[:: len(pooled) // batch]


def end_positions(rows: torch.Tensor, eos: int) -> torch.Tensor:
    """Index of each row's first end token, where CLIP pools. [rows, 77] -> [rows] int64.

    CLIP itself pools at the largest id, which is another token's once a textual inversion has added some.
    """
    return (rows == eos).int().argmax(dim=1)
