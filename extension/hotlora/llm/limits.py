"""What a model cannot read: tokens that it has no embedding of, and texts that are longer than it has places for."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..engine.errors import UserError
from .conversation import TokenizedExample

_PLACES = ("wpe", "embed_positions", "position_embeddings", "position_embedding", "pos_embed", "positional_embedding", "embed_position")


def check_limits(examples: Sequence[TokenizedExample], net: Any, tokenizer: Any) -> list[str]:
    """What people should know where texts are longer than the model was made for.

    Raises:
        UserError: where one has a token without an embedding, or more tokens than there are learned positions.
    """
    rows = net.get_input_embeddings().weight.shape[0]
    for example in examples:
        if max(example.tokens, default=0) >= rows:
            token = next(token for token in example.tokens if token >= rows)
            raise UserError(
                f"cannot train on {example.source}: the tokenizer makes token {token} ({tokenizer.decode([token])}) of it, and the model "
                f"has embeddings for {rows:,} tokens only. Use the tokenizer that belongs to the model, or leave that word out."
            )
    longest = max(examples, key=lambda example: len(example.tokens), default=None)
    length, places = len(longest.tokens) if longest else 0, find_learned_positions(net)
    if longest is not None and places is not None and length > places:
        raise UserError(
            f"cannot train on {longest.source}: it has {length:,} tokens, and the model has learned {places:,} positions. "
            f"Set max_tokens: {places} or lower."
        )
    made_for = _read_length(net)
    if made_for and length > made_for:
        return [f"The longest example has {length:,} tokens, and the model is made for {made_for:,}: it may not follow beyond."]
    return []


def find_learned_positions(net: Any) -> int | None:
    """How many places the model has learned, where it has learned each for itself (GPT-2, OPT); None where positions are computed."""
    if not hasattr(net, "get_input_embeddings"):
        return None
    words = net.get_input_embeddings()
    learned = (
        module
        for name, module in net.named_modules()
        if name.rpartition(".")[2] in _PLACES and isinstance(module, nn.Embedding) and module is not words and not _sees(name)
    )
    module = next(learned, None)
    return None if module is None else module.num_embeddings - int(getattr(module, "offset", 0) or 0)


def _sees(name: str) -> bool:
    return any(part in name for part in ("vision", "visual", "image", "audio", "speech"))


def _read_length(net: nn.Module) -> int | None:
    config = getattr(net, "config", None)
    config = getattr(config, "text_config", None) or config
    length = getattr(config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None
