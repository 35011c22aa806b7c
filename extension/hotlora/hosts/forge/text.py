"""Forge's text encoders, which are transformers' CLIP, read with plain token rows: no bracket is emphasis, no word is swapped for a textual
inversion, and nothing is prompt editing."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...sd.model import Conditioning
from ..shared.text_encoders import encode_captions, inner_of


def find_engines(loaded: Any) -> list[Any]:
    """Forge's wrappers around the text encoders: one, or SDXL's two."""
    if loaded.is_sdxl:
        return [loaded.text_processing_engine_l, loaded.text_processing_engine_g]
    return [loaded.text_processing_engine]


def encoder_of(engine: Any) -> Any:
    """The encoder's own module tree."""
    return engine.text_encoder.transformer


def encode(captions: Sequence[str], engines: Sequence[Any], *, clip_skip: int | None, max_token_length: int) -> Conditioning:
    """fp32, on the encoders' device."""
    for engine in engines:
        engine.embeddings.fixes = None  # of the last picture's textual inversions
        _prepare(inner_of(encoder_of(engine)).embeddings)
    encoders, tokenizers = [encoder_of(engine) for engine in engines], [_Tokenizer(engine) for engine in engines]
    return encode_captions(captions, encoders, tokenizers, clip_skip=clip_skip, max_token_length=max_token_length)


def _prepare(embeddings: Any) -> None:
    """As Forge does at the first prompt (``backend/text_processing/classic_engine.py``, encode_with_transformers)."""
    device = embeddings.position_embedding.weight.device
    embeddings.position_ids = embeddings.position_ids.to(device)
    embeddings.position_embedding = embeddings.position_embedding.to(dtype=torch.float32)
    embeddings.token_embedding = embeddings.token_embedding.to(dtype=torch.float32)


class _Tokenizer:
    """A wrapper's tokenizer with the special tokens that the wrapper uses."""

    def __init__(self, engine: Any):
        self._tokenizer: Callable[..., Any] = engine.tokenizer
        self.bos_token_id, self.eos_token_id, self.pad_token_id = engine.id_start, engine.id_end, engine.id_pad

    def __call__(self, text: str, **options: Any) -> Any:
        return self._tokenizer(text, **options)
