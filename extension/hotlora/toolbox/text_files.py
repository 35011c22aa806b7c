"""Text LoRAs as the tools read and write them: peft folders."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save

from .. import __version__
from ..engine.errors import UserError
from ..engine.files import replacing_folder
from ..llm.peft_reading import CONFIG, OLD_WEIGHTS, PREFIX, WEIGHTS, find_weights, read_peft_folder
from .adapters import Adapter, Layer, cast
from .image_files import PRECISIONS, describe_peft

_TENSOR = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight", "dora_scale": "lora_magnitude_vector"}
_REPLACED = (CONFIG, WEIGHTS, OLD_WEIGHTS)
_LARGEST_COMPANION_BYTES = 50_000_000  # a card, a chat template, a tokenizer


def read_text_lora(path: Path) -> Adapter:
    """A peft folder, or its weights. Raises UserError where it cannot be read."""
    file = read_peft_folder(path)
    if file.starts_at_pissa:
        raise UserError(
            f"cannot use '{path}': it is a PiSSA adapter, which belongs on a changed base model. Convert it to a plain LoRA with peft "
            "(save_pretrained with path_initial_model_for_weight_conversion)."
        )
    layers = {}
    for name, parts in file.tensors.items():
        rank = file.ranks[name]
        scale = file.alphas[name] / (rank**0.5 if file.use_rslora else rank)
        tensors = {"lora_A": parts["lora_A"], "lora_B": parts["lora_B"]}
        if "lora_magnitude_vector" in parts:
            tensors["dora_scale"] = parts["lora_magnitude_vector"].reshape(-1, 1)
        layers[name] = Layer("lora", tensors, rank, scale)
    weights = find_weights(path.expanduser())
    config = weights.parent / CONFIG
    settings = json.loads(config.read_text(encoding="utf-8-sig")) if config.is_file() else {}
    metadata: dict[str, str] = {}
    precision = "fp32"
    if weights.suffix == ".safetensors":
        with safe_open(str(weights), "pt") as opened:
            metadata = opened.metadata() or {}
            counted = Counter(opened.get_slice(key).get_dtype() for key in opened.keys())  # noqa: SIM118 (it is no dictionary)
        precision = PRECISIONS.get(counted.most_common(1)[0][0], "fp32")
    return Adapter(path, "lora", layers, "", "peft", precision, dict(metadata), settings=settings, notes=list(file.notes))


def write_text_lora(adapter: Adapter, output: Path, precision: str, change: str) -> None:
    """A folder, all or nothing, with what else lay in the one that was read: card, chat template, tokenizer.

    Args:
        change: what was done; a line in the card and in the weights' metadata.

    Raises:
        UserError: for a precision that cannot hold its values, or a full disk.
    """
    if output.suffix.lower() in (".safetensors", ".bin"):
        raise UserError(f"cannot write '{output}': a text LoRA is a folder. Give the name of a folder.")
    tensors = {
        (key := f"{PREFIX}{path}.{_TENSOR[tensor]}"): cast(output, key, _shape(tensor, values), precision)
        for path, layer in adapter.layers.items()
        for tensor, values in layer.parts.items()
    }
    said = _describe(adapter)
    metadata = {"format": "pt", **adapter.metadata, "hotlora_tool": f"HotLoRA {__version__}: {change}"}
    source = adapter.path.expanduser()
    source = source if source.is_dir() else source.parent
    with replacing_folder(output) as folder:
        folder.mkdir(parents=True)
        if (source / CONFIG).is_file():
            _copy_companions(source, folder)
        (folder / CONFIG).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        (folder / WEIGHTS).write_bytes(save(tensors, metadata))
        card = folder / "README.md"
        before = card.read_text(encoding="utf-8") if card.is_file() else f"# {output.name}\n"
        card.write_text(f"{before.rstrip()}\n\nHotLoRA {__version__}: {change}.\n", encoding="utf-8")


def _shape(tensor: str, values: Any) -> Any:
    return values.flatten() if tensor == "dora_scale" else values


def _copy_companions(source: Path, folder: Path) -> None:
    for file in source.iterdir():
        if file.is_file() and file.name not in _REPLACED and file.stat().st_size < _LARGEST_COMPANION_BYTES:
            shutil.copy2(file, folder / file.name)


def _describe(adapter: Adapter) -> dict[str, Any]:
    """peft's config: what was there, with sizes by layer as they are now."""
    sizes = describe_peft(adapter.layers)
    targets = adapter.settings.get("target_modules")
    return {
        "task_type": "CAUSAL_LM",
        **adapter.settings,
        **sizes,
        "target_modules": targets if targets else sizes["target_modules"],
        "use_dora": adapter.is_dora,
    }
