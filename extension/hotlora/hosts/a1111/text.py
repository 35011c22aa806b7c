"""From captions to the conditioning of the U-Net, with the text encoders that the WebUI holds.

A caption means what it says: the encoders below the WebUI's wrappers get plain token rows, so that no bracket is
emphasis, no word is swapped for a textual inversion, and nothing is prompt editing. Which layer is taken is as in the
stand-alone host (``shared/text_encoders.py``).
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ...sd.model import Conditioning
from ...sd.tokens import SpecialIds, end_positions, first_rows, join_chunks, token_rows
from ..shared.text_encoders import inner_of


def encode_captions(
    captions: Sequence[str], embedders: Sequence[Any], *, clip_skip: int | None, max_token_length: int, device: torch.device
) -> Conditioning:
    """One encoder's output, or SDXL's two side by side with the second's pooled vector. fp32, on the device.

    Args:
        embedders: the WebUI's wrappers (``modules/sd_hijack_clip.py``, ``sd_hijack_open_clip.py``).
    """
    rows = [_tokenize(captions, embedder, max_token_length).to(device) for embedder in embedders]
    count = len(captions)
    if len(embedders) == 1:
        encode = _encode_transformers if is_transformers(embedders[0]) else _encode_open_clip
        return Conditioning(join_chunks(encode(embedders[0].wrapped, rows[0], clip_skip or 1), count).float())
    first = embedders[0].wrapped.transformer(input_ids=rows[0], output_hidden_states=True).hidden_states[-2]
    second = embedders[1].wrapped.encode_with_transformer(rows[1])
    context = torch.cat([join_chunks(first, count).float(), join_chunks(second["penultimate"], count).float()], dim=-1)
    return Conditioning(context, first_rows(_pool(embedders[1], second, rows[1]), count).float())


def is_transformers(embedder: Any) -> bool:
    """Whether the wrapper holds transformers' CLIP rather than open_clip's."""
    return hasattr(embedder.wrapped, "transformer")


def encoder_of(embedder: Any) -> nn.Module:
    """The encoder's own module tree."""
    return embedder.wrapped.transformer if is_transformers(embedder) else embedder.wrapped.model


def _tokenize(captions: Sequence[str], embedder: Any, max_token_length: int) -> torch.Tensor:
    special = SpecialIds(embedder.id_start, embedder.id_end, embedder.id_pad)
    return token_rows(captions, lambda text: embedder.tokenize([text])[0], special, max_token_length)


def _encode_transformers(wrapped: Any, rows: torch.Tensor, skip: int) -> torch.Tensor:
    output = wrapped.transformer(input_ids=rows, output_hidden_states=True)
    if skip == 1:
        return output.last_hidden_state
    return inner_of(wrapped.transformer).final_layer_norm(output.hidden_states[-skip])


def _encode_open_clip(wrapped: Any, rows: torch.Tensor, skip: int) -> torch.Tensor:
    """SD 2.x was trained on the layer before the last, so skipping counts from there."""
    with _setting(wrapped, "layer_idx", wrapped.layer_idx + skip - 1):
        return wrapped.encode_with_transformer(rows)


def _pool(embedder: Any, output: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """Where the caption ends; open_clip's own pooling looks for the largest id."""
    model = embedder.wrapped.model
    ends = end_positions(rows, embedder.id_end)
    return model.ln_final(output["last"])[torch.arange(len(rows), device=rows.device), ends] @ model.text_projection


@contextlib.contextmanager
def _setting(owner: Any, name: str, value: Any) -> Iterator[None]:
    found = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, found)
