"""Letting a run go on as an adapter was trained: its ranks, start and layers become the run's options, checked against the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..engine.errors import UserError
from ..engine.interfaces import AdapterChoice, Target
from ..engine.redrawing import Opened
from .config import TextConfig
from .layers import find_layers
from .peft_reading import PeftFile, read_peft_folder
from .targets import choose_text_targets, find_linear_layers, shorten_names


def adopt_peft_folder(path: Path, config: TextConfig, net: nn.Module) -> PeftFile:
    """Read it, and let the run go on as it was trained.

    Raises:
        UserError: where the user asked for something else, naming both; where it does not fit the model.
    """
    file = read_peft_folder(path)
    if config.lora_start != "default" and not file.starts_at_pissa:
        raise UserError("cannot use lora_start pissa with init_lora: the adapter has a start already. Leave one of them out.")
    config.adopt("lora_rank", file.rank)
    if config.alpha != file.alpha:
        config.adopt("lora_alpha", file.alpha)
    config.adopt("use_rslora", file.use_rslora)
    config.adopt("use_dora", file.use_dora)
    if file.starts_at_pissa:
        config.adopt("lora_start", "pissa")
    _check_layers(path, file, net)
    config.adopt("rank_pattern", _list_others(file.ranks, file.rank))
    config.adopt("alpha_pattern", _list_others(file.alphas, config.alpha))
    _adopt_layers(path, file, config, net)
    return file


def open_peft_folder(path: Path, net: nn.Module) -> Opened:
    """A finished adapter as peft applies it to the model: each layer's rank and strength are the folder's.

    Raises:
        UserError: where it is none, or does not fit the model.
    """
    try:
        file = read_peft_folder(path)
        _check_layers(path, file, net)
    except UserError as error:
        raise UserError(str(error).replace("cannot go on from", "cannot use", 1)) from error
    layers = find_linear_layers(net)
    targets = {}
    for name, rank in file.ranks.items():
        alpha = file.alphas[name] * (rank**0.5 if file.use_rslora else 1)  # rsLoRA's strength is alpha / sqrt(rank)
        targets[name] = Target(layers[name], rank, alpha, 0.0, frozen=True)
    return Opened(AdapterChoice(dora_axis="output"), targets, file.tensors, file.use_dora, file.notes)


def _list_others(values: Mapping[str, float], usual: float) -> dict[str, float]:
    """The layers with another value than the usual one."""
    return {name: value for name, value in values.items() if value != usual}


def _check_layers(path: Path, file: PeftFile, net: nn.Module) -> None:
    """Every layer of the adapter is one of the model's, of its size."""
    layers, trained_on = find_linear_layers(net), f" It was trained on {file.base}." if file.base else ""
    for name, parts in file.tensors.items():
        if name not in layers:
            kind = next((kind for kind, names in find_layers(net).left.items() if name in names), None)
            reason = f"which is one of the {kind} and gets no adapter here" if kind else "which this model does not have"
            raise UserError(
                f"cannot go on from '{path}': it has the layer {name}, {reason}.{trained_on} Choose another adapter or base_model."
            )
        sizes = _sizes_of(layers[name])
        theirs = (parts["lora_A"].shape[1], parts["lora_B"].shape[0])
        if sizes and theirs != sizes:
            raise UserError(
                f"cannot go on from '{path}': its layer {name} is for {theirs[0]} inputs and {theirs[1]} outputs, and this model's has "
                f"{sizes[0]} and {sizes[1]}.{trained_on} Choose the base_model it was trained on."
            )


def _sizes_of(layer: Any) -> tuple[int, int] | None:
    """(inputs, outputs); None where the layer does not say."""
    if hasattr(layer, "in_features"):
        return layer.in_features, layer.out_features
    return tuple(layer.weight.shape) if type(layer).__name__ == "Conv1D" else None


def _adopt_layers(path: Path, file: PeftFile, config: TextConfig, net: nn.Module) -> None:
    """``target_modules`` for just the adapter's layers, however it named them; or the user's, where they mean the same."""
    wanted = set(file.tensors)
    if "target_modules" in config.given:
        chosen = set(choose_text_targets(net, config))
        if chosen != wanted:
            name = sorted(chosen ^ wanted)[0]
            has = "has" if name in wanted else "lacks"
            raise UserError(
                f"cannot go on from '{path}' with target_modules {config.target_modules}: it {has} the layer {name}. "
                "Leave target_modules out: the adapter says its layers itself."
            )
        return
    config.target_modules = ", ".join(shorten_names(wanted, list(find_linear_layers(net))))
