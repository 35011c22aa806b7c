"""The difference of two models as a LoRA: what a finetune has learned, as near as a rank allows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..engine.errors import UserError
from ..engine.low_rank import choose_rank, share_kept, take_apart_dense
from ..hosts.shared.tensor_file import TensorFile, list_weight_files, open_tensor_files
from ..sd.lora_families import TITLES
from .adapters import Adapter, Layer
from .checkpoints import Layers, list_different
from .errands import Tell
from .resizing import Size

_NOTHING = 1e-6  # largest difference of weights that counts as none
_NO_LAYERS = ("embed", "lm_head", "wte", "wpe", "norm", "bias")


@dataclass
class Extracted:
    """What was found.

    Attributes:
        kept: layer -> share of the difference's Frobenius norm that the rank holds.
        left_out: tensors that differ too and that no LoRA can hold, such as norms and biases.
    """

    adapter: Adapter
    kept: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def extract(base: Path, tuned: Path, size: Size, *, tell: Tell = lambda done, total: None) -> Extracted:
    """The LoRA that makes ``tuned`` of ``base``: of two checkpoints in single files, or of two folders of a language model.

    Args:
        tell: told how many layers are done, of how many; what it raises ends it.

    Raises:
        UserError: where the two are not of one shape, or do not differ.
    """
    size.check()
    found = _extract_text(base, tuned, size, tell) if base.expanduser().is_dir() else _extract_image(base, tuned, size, tell)
    if not found.adapter.layers:
        raise UserError(
            f"cannot extract a LoRA from '{tuned}': no layer of it differs from '{base}'. Give a model that was trained further."
        )
    return found


def _extract_image(base: Path, tuned: Path, size: Size, tell: Tell) -> Extracted:
    first, second = Layers(base), Layers(tuned)
    if first.family != second.family:
        raise UserError(
            f"cannot extract a LoRA from '{tuned}': it is {TITLES[second.family]}, and '{base}' is {TITLES[first.family]}. "
            "Give two models of one family."
        )
    _refuse_other_shapes(base, tuned, first.file, second.file, [slot.key for slot in first.slots.values()])
    metadata = {"modelspec.description": f"the difference of {tuned.stem} and {base.stem}", "ss_sd_model_name": base.name}
    adapter = Adapter(tuned, "lora", {}, first.family, "kohya", "fp16", metadata)
    found = Extracted(adapter)
    by_key = first.by_key()
    for place, (key, layers) in enumerate(by_key.items()):
        tell(place, len(by_key))
        difference = second.file.get(key).float() - first.file.get(key).float()
        for name, slot in layers:
            _take(found, name, slot.take(difference), size)
    found.left_out = _list_other(first.file, second.file, {slot.key for slot in first.slots.values()})
    return found


def _extract_text(base: Path, tuned: Path, size: Size, tell: Tell) -> Extracted:
    for folder in (base, tuned):
        if not (folder.expanduser() / "config.json").is_file():
            raise UserError(f"cannot use '{folder}': there is no config.json, so it is no folder of a language model. Check the path.")
    first, second = (open_tensor_files(list_weight_files(folder.expanduser())) for folder in (base, tuned))
    keys = [name for name, shape in first.shapes.items() if _is_text_layer(name, shape)]
    _refuse_other_shapes(base, tuned, first, second, keys)
    found = Extracted(Adapter(tuned, "lora", {}, "", "peft", "fp16", settings={"base_model_name_or_path": str(base)}))
    for place, key in enumerate(keys):
        tell(place, len(keys))
        _take(found, key.removesuffix(".weight"), second.get(key).float() - first.get(key).float(), size)
    found.left_out = _list_other(first, second, set(keys))
    found.adapter.settings["target_modules"] = _name_targets([key.removesuffix(".weight") for key in keys], found.adapter.layers)
    return found


def _name_targets(every: Iterable[str], chosen: Iterable[str]) -> list[str]:
    """The ends of the layers' names, as people write them, where those mean just these layers; else the names."""
    names = list(chosen)
    ends = {name.rpartition(".")[2] for name in names}
    meant = [name for name in every if name.rpartition(".")[2] in ends]
    return sorted(ends) if len(meant) == len(names) else names


def _is_text_layer(name: str, shape: tuple[int, ...]) -> bool:
    """A linear layer of a block, by its name: whether a class reads it as one nothing here can tell."""
    return name.endswith(".weight") and len(shape) == 2 and not any(part in name for part in _NO_LAYERS)


def _refuse_other_shapes(base: Path, tuned: Path, first: TensorFile, second: TensorFile, keys: Iterable[str]) -> None:
    faults = list_different(first, second)
    wrong = [key for key in keys if key in faults]
    if wrong:
        raise UserError(
            f"cannot extract a LoRA from '{tuned}': of '{base}' and it the tensor {wrong[0]} {faults[wrong[0]]}. "
            "Give two models of one architecture."
        )


def _take(found: Extracted, name: str, difference: torch.Tensor, size: Size) -> None:
    """Add a layer's difference [out, in, ...], unless there is none."""
    if difference.abs().max() <= _NOTHING:
        return
    kernel = tuple(difference.shape[2:])
    most = (size.conv_rank or size.rank) if kernel not in ((), (1, 1)) else size.rank
    parts = take_apart_dense(difference, most)
    change = parts.cut(choose_rank(parts.values, most, size.criterion, size.target), tuple(difference.shape[1:]))
    found.adapter.layers[name] = Layer.of(change)
    whole = torch.linalg.vector_norm(difference.double()).item()
    found.kept[name] = min(1.0, share_kept(parts.values, change.rank) * torch.linalg.vector_norm(parts.values.double()).item() / whole)


def _list_other(first: TensorFile, second: TensorFile, layers: set[str]) -> list[str]:
    """What differs beside the layers."""
    others = [name for name in first.shapes if name not in layers and name in second.shapes]
    return [name for name in others if first.shapes[name] != second.shapes[name] or _differ(first.get(name), second.get(name))]


def _differ(first: torch.Tensor, second: torch.Tensor) -> bool:
    if not first.is_floating_point():
        return not torch.equal(first, second)
    return bool(first.numel()) and (first.float() - second.float()).abs().max().item() > _NOTHING
