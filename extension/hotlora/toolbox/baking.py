"""LoRAs put into a checkpoint's weights, for good: a new file, one tensor in memory at a time."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .. import __version__
from ..engine.errors import UserError
from ..engine.files import replacing, write_bytes
from ..hosts.shared.tensor_file import write_tensor_file
from ..hosts.standalone.merging import merge_adapter
from ..sd.lora_families import TITLES
from ..sd.lora_files import read_lora
from ..sd.updates import decompose_magnitude
from .adapters import DTYPES, Adapter, Layer
from .checkpoints import Layers, Slot
from .errands import Tell
from .image_files import read_image_lora

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def bake(
    base: Path, loras: Sequence[Path], weights: Sequence[float], output: Path, precision: str = "", *, tell: Tell = lambda done, total: None
) -> list[str]:
    """Write ``base`` with LoRAs in it: each is added as a program would at that weight, in fp32, and stored as before or in another
    precision.

    Args:
        tell: told how many tensors are done, of how many; what it raises ends it, and nothing is written.

    Returns:
        What people should know.

    Raises:
        UserError: where something does not fit, or the disk is full.
    """
    if output.suffix.lower() != ".safetensors":
        raise UserError(f"cannot write '{output}': the name of a checkpoint ends in .safetensors here. Give such a name.")
    if base.expanduser().resolve() == output.expanduser().resolve():
        raise UserError(f"cannot write '{output}': that is the base itself, which is read while it is written. Choose another name.")
    if len(weights) != len(loras):
        raise UserError(f"cannot bake {len(loras)} LoRAs at {len(weights)} weights: each needs one. Give as many --weights as files.")
    model = Layers(base)
    adapters = [_read_fitting(path, model) for path in loras]
    notes = list(_warn(adapters))
    change = " and ".join(f"{path.stem} at {weight:g}" for path, weight in zip(loras, weights, strict=True))
    file = replace(model.file, metadata={**model.file.metadata, "hotlora_tool": f"HotLoRA {__version__}: {change} baked into {base.stem}"})
    by_key = model.by_key()
    dtypes = {name: DTYPES[precision] if precision and dtype in _FLOATS else dtype for name, dtype in file.dtypes.items()}
    pairs = list(zip(adapters, weights, strict=True))
    with replacing(output) as temporary, torch.no_grad():
        make = _adding(file.get, by_key, pairs, (dtypes, output))
        write_tensor_file(temporary, file, _telling(make, len(file.shapes), tell), dtypes)
    return [*notes, *_copy_settings(base.expanduser().with_suffix(".yaml"), output.expanduser().with_suffix(".yaml"))]


def _copy_settings(source: Path, target: Path) -> Iterator[str]:
    """What says beside a checkpoint how programs are to read it, such as v-prediction; another file is never written over."""
    if not source.is_file() or (target.exists() and target.samefile(source)):
        return
    told = f"'{source.name}' beside the base says how programs are to read it"
    try:
        if target.exists() and target.read_bytes() != source.read_bytes():
            yield f"{told}, and '{target.name}' beside the new file says something else: it was left as it is. Look whether it is right."
            return
        write_bytes(target, source.read_bytes())
        yield f"{told}: it was copied as '{target.name}' beside the new file."
    except OSError as error:
        yield f"{told}, and could not be copied ({error.strerror or error}): copy it as '{target.name}' beside the new file."


def bake_text(base: Path, loras: Sequence[Path], output: Path, *, plain: bool) -> list[str]:
    """A language model's folder with an adapter in it, as peft merges it.

    Args:
        plain: whether nothing but that was asked for.

    Returns:
        What people should know.

    Raises:
        UserError: for more than that, and as :func:`merge_adapter` does.
    """
    if len(loras) > 1 or not plain:
        raise UserError(
            "cannot bake several text LoRAs, or one at another weight or precision: peft merges one as it is. Make one LoRA of them first, "
            "with hotlora tool merge, and leave --weights, --precision and --overwrite out."
        )
    told = merge_adapter(loras[0], base, output)
    return [told] if told else []


def _read_fitting(path: Path, model: Layers) -> Adapter:
    """A LoRA whose every layer is in this model. Raises UserError where one is not, or has another size."""
    names = {spelled: model.names.resolve(spelled) for spelled in read_lora(path).tensors}
    strange = [spelled for spelled, name in names.items() if name not in model.slots]
    if strange:
        raise UserError(
            f"cannot bake '{path}' into '{model.file.path}': that {TITLES[model.family]} has no layer like its {strange[0]} "
            f"({len(strange)} of {len(names)} have no place). Choose a LoRA for this model."
        )
    adapter = read_image_lora(path, model.family, model.names)
    for name, layer in adapter.layers.items():
        slot = model.slots[name]
        shape = model.file.shapes[slot.key]
        rows = shape[0] // 3 if slot.third is not None else shape[0]
        if layer.matrix().shape != (rows, torch.Size(shape[1:]).numel()):
            raise UserError(
                f"cannot bake '{path}' into '{model.file.path}': its layer {name} is for a weight of another size than {list(shape)}. "
                "Choose a LoRA for this model."
            )
    return adapter


def _warn(adapters: Sequence[Adapter]) -> Iterator[str]:
    for adapter in adapters:
        yield from adapter.notes
        if adapter.kept:
            yield f"The embeddings in '{adapter.path.name}' are left out: a checkpoint has no place for them."
    if sum(adapter.is_dora for adapter in adapters) and len(adapters) > 1:
        yield "DoRA depends on the weights that it is put on: each change was taken from the checkpoint as it was, as programs do."


def _telling(make: Callable[[str], torch.Tensor], total: int, tell: Tell) -> Callable[[str], torch.Tensor]:
    count = itertools.count()

    def make_and_tell(name: str) -> torch.Tensor:
        tell(next(count), total)
        return make(name)

    return make_and_tell


def _adding(
    get: Callable[[str], torch.Tensor],
    by_key: Mapping[str, Sequence[tuple[str, Slot]]],
    pairs: Sequence[tuple[Adapter, float]],
    written: tuple[Mapping[str, torch.dtype], Path],
) -> Callable[[str], torch.Tensor]:
    """Name -> the tensor with all that is added to it."""
    dtypes, output = written

    def make(name: str) -> torch.Tensor:
        stored = get(name)
        found = [
            (slot, adapter.layers[layer], weight)
            for layer, slot in by_key.get(name, ())
            for adapter, weight in pairs
            if layer in adapter.layers
        ]
        whole = stored.float() if found else stored
        changed = whole.clone() if found else whole
        for slot, layer, weight in found:
            slot.take(changed).add_(weight * compute_change(layer, slot.take(whole)))
        made = changed.to(dtypes[name])
        if found and not torch.isfinite(made).all():
            raise UserError(f"cannot write '{output}': {name} grows beyond what {dtypes[name]} holds. Add --precision fp32.")
        return made

    return make


def compute_change(layer: Layer, weight: torch.Tensor) -> torch.Tensor:
    """What a LoRA adds to a weight [out, in, ...] fp32 at strength 1."""
    change = layer.matrix().reshape(weight.shape)
    return change if layer.magnitude is None else decompose_magnitude(weight, change, _shape_magnitude(layer.magnitude, weight))


def _shape_magnitude(magnitude: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """As many dimensions as the weight."""
    return magnitude.reshape(magnitude.shape[0], -1, *[1] * (weight.dim() - 2)) if magnitude.dim() != weight.dim() else magnitude
