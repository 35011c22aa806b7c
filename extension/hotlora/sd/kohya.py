"""LoRA files in kohya's format, written and read: tensor names, scaling, hashes.

What the tensors mean is fixed by the programs that load them: they add ``alpha / rank`` times the product to a layer's
weight. Metadata comes from ``metadata``; adapters from ``engine``. Must not import peft or a model library.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..engine.errors import UserError
from ..engine.files import write_bytes
from ..engine.interfaces import Adapters

SAVE_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_WRITTEN_SUFFIXES = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}
_READ_SUFFIXES = {
    "lora_down.weight": "lora_A",
    "lora_up.weight": "lora_B",
    "lora_A.weight": "lora_A",
    "lora_B.weight": "lora_B",
    "dora_scale": "dora_scale",
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
}
_PICKLED = (".pt", ".pth", ".ckpt", ".bin")
_LEGACY_HASH_START, _LEGACY_HASH_BYTES = 0x100000, 0x10000


class LoraFile(NamedTuple):
    """What is in a LoRA file, under peft's tensor names."""

    kind: str  # "lora", "loha" or "lokr"
    tensors: dict[str, dict[str, torch.Tensor]]  # exported name -> tensor name -> fp32 on the CPU
    ranks: dict[str, int]
    alphas: dict[str, float]
    metadata: dict[str, str]


def write_lora(adapters: Adapters, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
    """Save adapters so that AUTOMATIC1111, ComfyUI, diffusers and sd-scripts apply what was trained.

    The file's own name goes into the metadata: A1111 takes ``ss_output_name`` for an alias, and two files of one alias
    lose it.

    Raises:
        RuntimeError: for a value that is not finite, or that the precision cannot hold; nothing is written then.
        UserError: when the disk is full.
    """
    tensors = export_tensors(adapters, dtype)
    named = {**metadata, "ss_output_name": path.stem, "modelspec.title": path.stem}
    named.update(hash_tensors(tensors, named))
    write_bytes(path, save(tensors, named))


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
        for suffix, tensor in {**parts, "alpha": torch.tensor(alpha)}.items():
            key = f"{name}.{_WRITTEN_SUFFIXES.get(suffix, suffix)}"
            exported[key] = _cast(key, tensor, dtype)
    return exported


def _cast(key: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if not torch.isfinite(tensor).all():
        raise RuntimeError(f"refused to save {key}: it holds values that are not finite")
    cast = tensor.detach().to("cpu", dtype).contiguous()
    if not torch.isfinite(cast).all():
        raise RuntimeError(f"refused to save {key}: its largest value {tensor.abs().max().item():g} does not fit into {dtype}")
    return cast


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


def read_lora(path: Path) -> LoraFile:
    """A LoRA, LoHa or LoKr file of ours, of sd-scripts' or of LyCORIS', to go on from.

    A missing alpha counts as the rank, as in A1111. LoKr of two full factors has no rank to be read: alpha stands for
    both, so that the scale is 1.

    Raises:
        UserError: when the file is missing, unreadable, needs unpickling, or is something else, saying what.
    """
    tensors, metadata = _load(path)
    layers: dict[str, dict[str, torch.Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        name, _, suffix = key.partition(".")
        if suffix == "alpha":
            alphas[name] = float(tensor.item())
        else:
            layers.setdefault(name, {})[_READ_SUFFIXES[suffix]] = tensor.to(torch.float32, copy=True)
    kinds = {_kind(path, name, parts) for name, parts in layers.items()}
    if len(kinds) > 1:
        raise _refusal(path, f"it mixes {' and '.join(sorted(kinds))} layers", "Choose a file of one kind.")
    ranks = {name: _rank(parts) or max(1, round(alphas.get(name, 1))) for name, parts in layers.items()}
    for name, parts in layers.items():
        if _rank(parts) is None or name not in alphas:
            alphas[name] = float(ranks[name])
    return LoraFile(kinds.pop(), layers, ranks, {name: alphas[name] for name in layers}, metadata)


def _kind(path: Path, name: str, parts: Mapping[str, torch.Tensor]) -> str:
    """Which kind of adapter a layer's tensors make. Raises UserError where they make none."""
    if {"lora_A", "lora_B"} <= parts.keys():
        scale = parts.get("dora_scale")
        if scale is not None and scale.shape[0] != 1:
            raise _refusal(path, "its DoRA magnitudes are per output, and those trained here are per input", "Choose another file.")
        return "lora"
    if {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= parts.keys():
        return "loha"
    factors = [f"lokr_{w}" in parts or {f"lokr_{w}_a", f"lokr_{w}_b"} <= parts.keys() for w in ("w1", "w2")]
    if all(factors):
        return "lokr"
    raise _refusal(path, f"of {name} there are only {', '.join(sorted(parts))}", "It is damaged; use another copy.")


def _rank(parts: Mapping[str, torch.Tensor]) -> int | None:
    """The rank as A1111 reads it, or None where both of LoKr's factors are full."""
    for tensor in ("lora_A", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if tensor in parts:
            return parts[tensor].shape[0]
    return None


def _load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file whose keys are a LoRA's. Raises UserError for any other."""
    if not path.is_file():
        raise UserError(f"cannot go on from '{path}': there is no such file. Check init_lora.")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                keys = list(file.keys())
                _check_keys(path, keys)
                return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
        except SafetensorError as error:
            raise _refusal(path, f"it cannot be read ({error})", "It is damaged or not a .safetensors file; use another copy.") from None
    if suffix not in _PICKLED:
        raise _refusal(path, f"'{suffix}' is not a LoRA file's ending", "Give a .safetensors file.")
    tensors = _unpickle(path)
    _check_keys(path, list(tensors))
    return tensors, {}


def _unpickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime, key and end-of-file errors for foreign files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refusal(path, f"it holds more than weights or is damaged ({reason})", "Convert it to .safetensors.") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise _refusal(path, "it holds no named weights", "Give a LoRA file.")
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _check_keys(path: Path, keys: list[str]) -> None:
    suffixes = {key.partition(".")[2] for key in keys}
    if suffixes - {"alpha"} and suffixes <= {"alpha", *_READ_SUFFIXES}:
        return
    raise _refusal(path, f"it is {_describe(keys)}", "Give a LoRA, LoHa or LoKr file with kohya's names.")


def _describe(keys: list[str]) -> str:
    """What a file that is no kohya LoRA most likely is."""
    joined = "\n".join(keys)
    signs = {
        "a whole checkpoint": ("model.diffusion_model.", "conditioner.embedders.", "cond_stage_model."),
        "a language model's adapter": ("base_model.model.model.layers",),
        "a LoRA with diffusers' names": ("unet.", "text_encoder.", "base_model.model."),
        "a LoRA of another model family": ("transformer.", "diffusion_model.", "lora_transformer_", "double_blocks"),
        "a textual inversion": ("emb_params", "string_to_param", "clip_g", "clip_l"),
        "a VAE": ("first_stage_model.", "decoder.", "encoder."),
        "a LyCORIS file of a kind that is not trained here": ("lora_mid", "oft_", "a1.weight", "w_norm", "b_norm", "on_input", ".diff"),
    }
    for what, marks in signs.items():
        if any(mark in joined for mark in marks):
            return what
    return f"something else: its first tensor is '{min(keys)}'" if keys else "empty"


def _refusal(path: Path, reason: str, advice: str) -> UserError:
    return UserError(f"cannot go on from '{path}': {reason}. {advice}")
