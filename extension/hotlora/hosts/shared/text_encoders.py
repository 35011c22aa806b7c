"""From captions to the conditioning of the U-Net, with transformers' CLIP classes.

The layers and the joining of long captions are those of kohya-ss/sd-scripts (``strategy_sd.py``, ``strategy_sdxl.py``);
the windows themselves are ``sd/tokens.py``'s.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...sd.model import Conditioning
from ...sd.tokens import SpecialIds, end_positions, first_rows, join_chunks, token_rows


def encode_captions(
    captions: Sequence[str], encoders: Sequence[Any], tokenizers: Sequence[Any], *, clip_skip: int | None, max_token_length: int
) -> Conditioning:
    """One encoder's output, or SDXL's two side by side with the second's pooled vector. fp32, on the encoders' device.

    SD 1.x and 2.x: the last layer through the final norm; with ``clip_skip`` n the n-th last. SDXL: of both encoders the
    layer before the last, without the norm; ``clip_skip`` means nothing there.
    """
    if len(encoders) == 1:
        rows = _tokenize(captions, tokenizers[0], max_token_length)
        hidden = _encode_one(encoders[0], rows, clip_skip or 1)
        return Conditioning(join_chunks(hidden, len(captions)).float())
    contexts, pooled = [], None
    for encoder, tokenizer in zip(encoders, tokenizers, strict=True):
        rows = _tokenize(captions, tokenizer, max_token_length).to(_device_of(encoder))
        output = encoder(rows, output_hidden_states=True)
        contexts.append(join_chunks(output.hidden_states[-2], len(captions)).float())
        if hasattr(encoder, "text_projection"):
            ends = end_positions(rows, tokenizer.eos_token_id)
            at_end = output.last_hidden_state[torch.arange(len(rows), device=rows.device), ends]
            pooled = first_rows(encoder.text_projection(at_end), len(captions)).float()
    return Conditioning(torch.cat(contexts, dim=-1), pooled)


def _encode_one(encoder: Any, rows: torch.Tensor, skip: int) -> torch.Tensor:
    output = encoder(rows.to(_device_of(encoder)), output_hidden_states=True)
    if skip == 1:
        return output.last_hidden_state
    return inner_of(encoder).final_layer_norm(output.hidden_states[-skip])


def inner_of(encoder: Any) -> Any:
    """Where transformers' text model keeps its layers, by version."""
    return getattr(encoder, "text_model", encoder)


def _tokenize(captions: Sequence[str], tokenizer: Any, max_token_length: int) -> torch.Tensor:
    """[batch * windows, 77] ids."""
    special = SpecialIds(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return token_rows(captions, lambda text: tokenizer(text, add_special_tokens=False, verbose=False).input_ids, special, max_token_length)


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
