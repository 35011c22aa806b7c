"""Whether a LoRA file's layers are a model's, and what to say where they are not: for which family the file was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

from ..engine.errors import UserError
from .lora_families import TITLES, guess_family
from .lora_files import LoraFile
from .model import ImageModel


def check_size(source: Path, file: LoraFile, place: tuple[str, nn.Module], model: ImageModel) -> None:
    """Raise UserError where a layer's tensors are for a layer of another size.

    Args:
        place: the layer as the file spells it, and the model's.
    """
    spelled, layer = place
    weight = layer.get_parameter("weight")
    theirs, ours = size_of(file.tensors[spelled]), (weight[0].numel(), weight.shape[0])
    if theirs != ours:
        _refuse_family(source, file, model)
        raise UserError(
            f"cannot go on from '{source}': its layer {spelled} is for {theirs[0]} inputs and {theirs[1]} outputs, and that of "
            f"{model.name} has {ours[0]} and {ours[1]}. Choose the base_model it was made for, or another LoRA."
        )


def refuse_misfit(source: Path, file: LoraFile, spelled: str, model: ImageModel) -> NoReturn:
    """Say why a layer has no place in the model."""
    _refuse_family(source, file, model)
    raise UserError(
        f"cannot go on from '{source}': its layer {spelled} is none that a LoRA can be trained on in {model.name} "
        f"({TITLES[model.family]}). Choose a LoRA for {TITLES[model.family]}, or the base_model it was made for."
    )


def _refuse_family(source: Path, file: LoraFile, model: ImageModel) -> None:
    """Raise UserError where the file tells that it was made for another family."""
    ours = TITLES[model.family]
    theirs = guess_family({name: size_of(parts)[0] for name, parts in file.tensors.items()}, file.metadata)
    if theirs and theirs != ours:
        raise UserError(
            f"cannot go on from '{source}': it was made for {theirs}, and the base model {model.name} is {ours}. "
            f"Choose a LoRA for {ours}, or a base_model that is {theirs}."
        )


def size_of(parts: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """(inputs, outputs) of the layer that a LoRA's, LoHa's or LoKr's tensors are for; a convolution's kernel counts as inputs."""
    if "lora_A" in parts:
        return parts["lora_A"][0].numel(), parts["lora_B"].shape[0]
    if "hada_w1_a" in parts:
        return _size_of_product(parts, "hada_w1_a", "hada_w1_b", "hada_t1")
    left = _size_of_factor(parts, "lokr_w1", "lokr_t1")
    right = _size_of_factor(parts, "lokr_w2", "lokr_t2")
    return left[0] * right[0], left[1] * right[1]


def _size_of_factor(parts: Mapping[str, torch.Tensor], name: str, core: str) -> tuple[int, int]:
    if name in parts:
        return parts[name][0].numel(), parts[name].shape[0]
    return _size_of_product(parts, f"{name}_a", f"{name}_b", core)


def _size_of_product(parts: Mapping[str, torch.Tensor], up: str, down: str, core: str) -> tuple[int, int]:
    """Of up . down, or of Tucker's form, where both have the rank first and the kernel lies between them."""
    if core in parts:
        return parts[down].shape[1] * parts[core][0, 0].numel(), parts[up].shape[1]
    return parts[down][0].numel(), parts[up].shape[0]
