"""LoRA files in kohya's format, written: tensor names, scaling, hashes. ``lora_files`` reads them.

What the tensors mean is fixed by the programs that load them: they add ``alpha / rank`` times the product to a layer's
weight. Metadata comes from ``metadata``; adapters from ``engine``. Must not import peft or a model library.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from ..engine.files import write_bytes
from ..engine.interfaces import Adapters
from ..engine.precision import to_precision
from .lora_files import EMBEDDINGS

SAVE_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_WRITTEN_SUFFIXES = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}
_LEGACY_HASH_START, _LEGACY_HASH_BYTES = 0x100000, 0x10000


def write_lora(
    adapters: Adapters,
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype,
    kept: Mapping[str, torch.Tensor] | None = None,
    judge: Callable[[Mapping[str, torch.Tensor]], str] | None = None,
) -> str:
    """Save adapters so that AUTOMATIC1111, ComfyUI, diffusers and sd-scripts apply what was trained.

    Args:
        kept: further tensors by key, which stay as they are: embeddings, layers that are not applied.
        judge: who loads such a file, given its tensors by key; its answer goes into the metadata, and is returned.

    The file's own name goes into the metadata: A1111 takes ``ss_output_name`` for an alias, and two files of one alias
    lose it.

    Raises:
        RuntimeError: for a value that is not finite, or that the precision cannot hold; nothing is written then.
        UserError: when the disk is full.
    """
    tensors = export_tensors(adapters, dtype)
    for key, tensor in (kept or {}).items():
        tensors[key] = tensor.contiguous() if key.startswith(EMBEDDINGS) else to_precision(key, tensor, dtype)
    named = {**metadata, "ss_output_name": path.stem, "modelspec.title": path.stem}
    told = judge(tensors) if judge else ""
    if told:
        named["hotlora_loads"] = told
    named.update(hash_tensors(tensors, named))
    write_bytes(path, save(tensors, named))
    return told


def export_tensors(adapters: Adapters, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All tensors of the file by key: ``<name>.lora_down.weight`` [rank, in, …], ``.lora_up.weight`` [out, rank, …], ``.alpha`` [],
    ``.dora_scale`` [1, in, …], or LyCORIS' names. Raises RuntimeError as :func:`write_lora` does."""
    exported = {}
    for name, parts in adapters.tensors().items():
        rank, alpha = adapters.targets[name].rank, float(adapters.targets[name].alpha)
        if adapters.kind == "lora" and adapters.use_rslora:
            alpha *= math.sqrt(rank)  # readers divide by the rank, rank-stabilised LoRA by its root (arXiv 2312.03732)
        if adapters.kind == "lokr" and not {"lokr_w1_b", "lokr_w2_b"} & parts.keys():
            # with two full factors no reader can tell the rank, and all leave the product unscaled
            parts = {**parts, "lokr_w1": parts["lokr_w1"] * (alpha / rank)}
            alpha = float(rank)
        exported.update({key: to_precision(key, tensor, dtype) for key, tensor in name_tensors(name, parts, alpha).items()})
    return exported


def name_tensors(name: str, parts: Mapping[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """One layer's tensors by their keys in the file."""
    whole = {**parts, "alpha": torch.tensor(alpha)}
    return {f"{name}.{_WRITTEN_SUFFIXES.get(suffix, suffix)}": tensor for suffix, tensor in whole.items()}


def hash_tensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """``sshs_model_hash`` and ``sshs_legacy_hash``, by which WebUIs know a LoRA whatever its metadata.

    As sd-scripts computes them: over the file that the ``ss_`` metadata alone would give; the first skips its header.
    """
    data = memoryview(save(dict(tensors), {key: value for key, value in metadata.items() if key.startswith("ss_")}))
    header_bytes = int.from_bytes(data[:8], "little")
    legacy = data[_LEGACY_HASH_START : _LEGACY_HASH_START + _LEGACY_HASH_BYTES]
    return {
        "sshs_model_hash": hashlib.sha256(data[8 + header_bytes :]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(legacy).hexdigest()[:8],
    }
