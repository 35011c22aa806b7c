"""Which layers get an adapter, of what rank, and how fast each learns.

Must not import a model library: works on exported names and plain layers.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..engine.errors import UserError
from ..engine.interfaces import Target
from .config import ImageConfig
from .names import block_of, is_spatial, is_transformer_layer, list_blocks


def choose_targets(unet_layers: Mapping[str, nn.Module], text_layers: Mapping[str, nn.Module], config: ImageConfig) -> dict[str, Target]:
    """Exported name -> layer, rank, alpha and learning rate of every adapter.

    Without ``conv_rank`` exactly the layers that kohya's plain LoRA trains: transformer blocks and their projections.
    With it also residual blocks, downsamplers and upsamplers; then 3x3 convolutions have the rank and alpha of
    convolutions, and 1x1 ones and linear layers those of the rest. ``block_ranks`` sets the rest's rank and keeps
    alpha / rank; a rank or rate of 0 leaves the block out, also its convolutions.

    Args:
        unet_layers, text_layers: every layer an adapter may go on, by exported name.
    Raises:
        UserError: for a block there is not, a number that is none, a malformed regular expression, a text encoder that
            cannot be trained here, and when nothing is left to train.
    """
    ranks = read_blocks("block_ranks", config.block_ranks, int, unet_layers)
    rates = read_blocks("block_lrs", config.block_lrs, float, unet_layers)
    targets = {}
    if config.train_unet:
        for name, layer in unet_layers.items():
            targets[name] = _unet_target(name, layer, config, (ranks, rates))
    if config.train_text_encoder:
        if not text_layers:
            raise UserError("cannot train the text encoder: this one has no layers that a LoRA fits. Set train_text_encoder: false.")
        rate = config.learning_rate if config.text_encoder_lr is None else config.text_encoder_lr
        for name, layer in text_layers.items():
            targets[name] = Target(layer, config.lora_rank, config.alpha, rate) if config.text_encoder_lr != 0 else None
    wanted = name_filter(config)
    chosen = {name: target for name, target in targets.items() if target is not None and wanted(name)}
    if not chosen:
        raise UserError(
            "cannot train nothing: include, exclude, block_ranks, block_lrs and text_encoder_lr leave no layer out of "
            f"{len(targets)}. Names look like '{next(iter({**unet_layers, **text_layers}), '')}'."
        )
    return chosen


def _unet_target(name: str, layer: nn.Module, config: ImageConfig, blocks: tuple[Mapping[str, int], Mapping[str, float]]) -> Target | None:
    ranks, rates = blocks
    block = block_of(name) or ""
    if not is_transformer_layer(name) and not config.conv_rank:
        return None
    rank = ranks.get(block, config.lora_rank)
    rate = rates.get(block, config.learning_rate)
    if rank == 0 or rates.get(block) == 0:
        return None
    alpha = config.alpha * rank / config.lora_rank
    if is_spatial(layer):
        rank, alpha = config.conv_rank, config.conv_alpha_value
    return Target(layer, rank, alpha, rate)


def read_blocks(option: str, values: Mapping[Any, Any], number: type, unet_layers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """An option's numbers by block, checked. Raises UserError as :func:`choose_targets` does."""
    known = list_blocks(unet_layers)
    checked = {}
    for block, value in values.items():
        if block not in known:
            raise UserError(f"cannot use '{block}' in {option}: this model has no such block. Its blocks are {', '.join(known)}.")
        try:
            checked[block] = number(value)
        except (TypeError, ValueError, OverflowError):
            checked[block] = -1
        if checked[block] < 0 or checked[block] != float(value):
            kind = "a whole number" if number is int else "a number"
            raise UserError(f"cannot use {value!r} for {block} in {option}: it takes {kind} that is not negative. Correct it.")
    return checked


def name_filter(config: ImageConfig) -> Callable[[str], bool]:
    """Whether ``include`` and ``exclude`` leave a layer in. Raises UserError for what is no regular expression."""
    patterns = {}
    for option in ("include", "exclude"):
        text = getattr(config, option)
        try:
            patterns[option] = re.compile(text)
        except re.error as error:
            reason = f"it is not a regular expression ({error})"
            raise UserError(f"cannot use '{text}' for {option}: {reason}. Mend it or leave it out.") from None
    include, exclude = patterns["include"], patterns["exclude"]
    return lambda name: bool(include.search(name)) and not (config.exclude and exclude.search(name))
