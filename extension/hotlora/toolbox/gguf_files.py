"""Text LoRAs as llama.cpp and what is built on it read them: one GGUF file, its layers named and turned as in a GGUF model.

The package ``gguf`` (llama.cpp's own) knows the names and writes the file; it is there only where somebody has installed it. What such a
file holds is as llama.cpp's ``convert_lora_to_gguf.py`` writes and ``llama-adapter.cpp`` reads it: pairs ``NAME.weight.lora_a`` [rank, in]
and ``.lora_b`` [out, rank], applied at ``adapter.lora.alpha`` / rank.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..engine.errors import UserError
from ..engine.files import replacing
from .adapters import Adapter

SUFFIX = ".gguf"
_ARCHITECTURES = {  # transformers' model_type -> GGUF's name; those whose layers are one to one
    **{"llama": "llama", "mistral": "llama", "granite": "granite"},
    **{"qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3"},
    **{"phi3": "phi3", "starcoder2": "starcoder2", "olmo2": "olmo2"},
}
_TURNED = ("llama", "granite")  # in whose GGUF models the rows of queries and keys stand in another order
_TYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}


def write_gguf(adapter: Adapter, output: Path, precision: str, base: Path | None = None) -> str:
    """Write it; returns the architecture it is for.

    Args:
        base: folder of the model it was trained on, of which only config.json is read; the one that the adapter names when None.

    Raises:
        UserError: for what such a file cannot hold, a model of another kind, and where the package is missing.
    """
    gguf = _load_gguf(f"write '{output}'")
    if output.suffix.lower() != SUFFIX:
        raise UserError(f"cannot write '{output}': the name of such a file ends in {SUFFIX}. Give such a name.")
    if not adapter.is_text:
        raise UserError(f"cannot write '{output}': only text LoRAs can be GGUF, and '{adapter.path}' is for images. Choose another form.")
    if adapter.is_dora:
        raise UserError(f"cannot write '{output}': llama.cpp knows no DoRA. Merge '{adapter.path}' into the model instead (bake).")
    said = _read_base(adapter, base)
    architecture = _ARCHITECTURES[said["model_type"]]
    strengths = {name: layer.scale * layer.rank for name, layer in adapter.layers.items()}
    alpha = Counter(strengths.values()).most_common(1)[0][0]  # one for the whole file
    kind = gguf.GGMLQuantizationType[_TYPES[precision]]
    with replacing(output) as temporary:
        writer = gguf.GGUFWriter(str(temporary), architecture)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_name(output.stem)
        for name, tensor in _list_tensors(gguf, adapter, said, {name: own / alpha for name, own in strengths.items()}):
            data = gguf.quants.quantize(tensor.contiguous().numpy(), kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return architecture


def _list_tensors(gguf: Any, adapter: Adapter, said: dict[str, Any], shares: dict[str, float]) -> Iterator[tuple[str, torch.Tensor]]:
    """Name in the file, values; what a layer's own strength has beyond the file's is in ``lora_b``."""
    architecture = _ARCHITECTURES[said["model_type"]]
    wanted = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(wanted, int(said["num_hidden_layers"]))
    for path, layer in adapter.layers.items():
        name = names.get_name(path.replace("language_model.", "", 1))
        if name is None or (name == "output" and said.get("tie_word_embeddings")):
            raise UserError(
                f"cannot write '{adapter.path}' as GGUF: a GGUF model of {architecture} has no layer of its own for {path}. "
                "Train with other target_modules, or merge it into the model (bake)."
            )
        up = layer.parts["lora_B"] * shares[path]
        yield f"{name}.weight.lora_a", layer.parts["lora_A"]
        yield f"{name}.weight.lora_b", _turn(up, path, said) if architecture in _TURNED else up


def _turn(up: torch.Tensor, path: str, said: dict[str, Any]) -> torch.Tensor:
    """[out, rank]: of queries and keys the rows of each head, which transformers keeps as two halves, one from each in turn."""
    end = path.rpartition(".")[2]
    if end not in ("q_proj", "k_proj"):
        return up
    heads = int(said["num_attention_heads"])
    if end == "k_proj":
        heads = int(said.get("num_key_value_heads") or heads)
    return up.reshape(heads, 2, up.shape[0] // heads // 2, up.shape[1]).transpose(1, 2).reshape(up.shape)


def _read_base(adapter: Adapter, base: Path | None) -> dict[str, Any]:
    """What the model's config.json says of its text part. Raises UserError where there is none, or it is of an unknown kind."""
    named = str(base or adapter.settings.get("base_model_name_or_path") or "")
    path = Path(named).expanduser() / "config.json"
    if not named or not path.is_file():
        raise UserError(
            f"cannot write '{adapter.path}' as GGUF: the config.json of its base model is needed, and '{named}' has none. "
            "Name the model's folder with --base."
        )
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
        said = {**said, **said["text_config"]} if isinstance(said.get("text_config"), dict) else said
    except (ValueError, AttributeError) as error:
        raise UserError(f"cannot read '{path}': {error}. Get it again.") from error
    kind = said.get("model_type")
    if kind not in _ARCHITECTURES:
        raise UserError(
            f"cannot write '{adapter.path}' as GGUF: its model is a {kind}, and known here are {', '.join(_ARCHITECTURES)}. "
            "Use llama.cpp's own convert_lora_to_gguf.py."
        )
    return said


def check_gguf(path: Path) -> list[str]:
    """What llama.cpp and KoboldCpp load of such a file. Raises UserError where it is none."""
    gguf = _load_gguf(f"read '{path}'")
    try:
        reader = gguf.GGUFReader(str(path))
    except (ValueError, OSError, IndexError) as error:
        raise UserError(f"cannot read '{path}': it is no GGUF file ({error}). Copy it again from where it came.") from error
    kind, adapter = (_read_field(reader, key) for key in (gguf.Keys.General.TYPE, gguf.Keys.Adapter.TYPE))
    if kind != "adapter" or adapter != "lora":
        return [f"llama.cpp and KoboldCpp: do not load it as a LoRA: it is a {kind or 'model'}."]
    names = {tensor.name for tensor in reader.tensors}
    layers = {name.rpartition(".lora_")[0] for name in names}
    alone = sorted(layer for layer in layers if not {f"{layer}.lora_a", f"{layer}.lora_b"} <= names)
    if alone:
        return [f"llama.cpp and KoboldCpp: do not load it: {alone[0]} lacks one of lora_a and lora_b."]
    architecture = _read_field(reader, gguf.Keys.General.ARCHITECTURE)
    return [f"llama.cpp and KoboldCpp: load all {len(layers)} layers, with a GGUF model of the architecture {architecture}."]


def _read_field(reader: Any, key: str) -> str:
    field = reader.get_field(key)
    return str(field.contents()) if field else ""


def _load_gguf(what: str) -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise UserError(
            f'cannot {what}: the package gguf is missing. Add it, moving no other, by "{sys.executable}" -m pip install --no-deps gguf.'
        ) from error
    return gguf
