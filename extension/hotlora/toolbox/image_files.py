"""Image LoRAs as the tools read and write them: kohya's form, diffusers', and peft folders."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from .. import __version__
from ..engine.errors import UserError
from ..engine.files import replacing_folder, write_bytes
from ..sd.kohya import hash_tensors, name_tensors
from ..sd.lora_families import TITLES, guess_family
from ..sd.lora_files import open_lora, read_lora
from ..sd.sizes import Sizes
from ..sd.spelling import Names
from ..sd.updates import guess_kernel
from .adapters import Adapter, Layer, cast

PRECISIONS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_KOHYA = ("lora_unet_", "lora_te", "lycoris_")
_SECOND_ENCODER = ("lora_te2", "text_encoder_2", "te2_", "clip_g", "lycoris_te2", "lycoris_text_encoder_2", "text_encoders.clip_g")
_TENSOR = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}


def read_image_lora(path: Path, family: str = "", names: Names | None = None) -> Adapter:
    """A file or folder, its layers under kohya's names.

    Args:
        family: "sd1", "sd2" or "sdxl"; found out when empty.
        names: of the model's layers; the published model's when None.

    Raises:
        UserError: where it cannot be read, or is for another family.
    """
    file = read_lora(path)
    family = family or find_family({name: _count_inputs(parts) for name, parts in file.tensors.items()}, file.metadata, path)
    names = names or Names(family)
    layers = {}
    for spelled, parts in file.tensors.items():
        name = names.resolve(spelled)
        if name is None:
            raise UserError(
                f"cannot use '{path}': {TITLES[family]} has no layer like its {spelled}. "
                f"If it is for another family, say so with --family {' or '.join(other for other in TITLES if other != family)}."
            )
        if name in layers:
            raise UserError(f"cannot use '{path}': it has the layer {name} twice, under two names. Use another copy.")
        scale = file.alphas[spelled] / file.ranks[spelled]
        kernel = tuple(parts["lora_A"].shape[2:]) if "lora_A" in parts else guess_kernel(name, family)
        layers[name] = Layer(file.kind, parts, file.ranks[spelled], scale, kernel)
    return Adapter(
        path=path,
        kind=file.kind,
        layers=layers,
        family=family,
        form=find_form(file.tensors),
        precision=_find_precision(path),
        metadata=dict(file.metadata),
        kept={key: tensor.clone() for key, tensor in file.embeddings.items()},  # not of the file, which may be replaced
        notes=list(file.notes),
    )


def find_family(sizes: Mapping[str, int], metadata: Mapping[str, str], path: Path) -> str:
    """By the layers' names, their inputs, and what the file says; SD 1.x where nothing tells.

    Raises:
        UserError: for a family that is none of Stable Diffusion's first three.
    """
    title = guess_family(sizes, metadata)
    family = next((family for family, known in TITLES.items() if known == title), "")
    if title and not family:
        raise UserError(f"cannot use '{path}': it is a LoRA for {title}. Choose one for {', '.join(TITLES.values())}.")
    compvis = any(name.startswith("lora_unet_input_blocks") for name in sizes)
    return family or ("sdxl" if compvis or any(name.startswith(_SECOND_ENCODER) for name in sizes) else "sd1")


def find_form(names: Mapping[str, Any]) -> str:
    """ "kohya", "diffusers" or "peft"; what is written by other programs comes next to kohya's."""
    if any(name.startswith("base_model.model.") for name in names):
        return "peft"
    return "diffusers" if any(name.startswith(("unet.", "text_encoder.", "text_encoder_2.")) for name in names) else "kohya"


def _count_inputs(parts: Mapping[str, torch.Tensor]) -> int:
    return parts["lora_A"].shape[1] if "lora_A" in parts else 0


def _find_precision(path: Path) -> str:
    with open_lora(path) as file:
        counted = Counter(file.get_slice(key).get_dtype() for key in file.keys())  # noqa: SIM118 (it is no dictionary)
    return PRECISIONS.get(counted.most_common(1)[0][0], "fp32")


# -- writing -----------------------------------------------------------------------------------------------------------


def write_image_lora(adapter: Adapter, output: Path, precision: str, change: str) -> None:
    """All or nothing, in the adapter's form.

    Args:
        change: what was done, for the file's metadata.

    Raises:
        UserError: for a form that cannot hold this kind, a precision that cannot hold its values, or a full disk.
    """
    if adapter.form != "peft" and output.suffix.lower() != ".safetensors":
        raise UserError(f"cannot write '{output}': the name of an image LoRA ends in .safetensors. Give such a name.")
    if adapter.form == "kohya":
        _write_kohya(adapter, output, precision, change)
        return
    _check_plain(adapter, output)
    if adapter.form == "diffusers":
        _write_diffusers(adapter, output, precision)
    else:
        _write_peft(adapter, output, precision)


def _write_kohya(adapter: Adapter, output: Path, precision: str, change: str) -> None:
    adapter = with_one_alpha(adapter)
    tensors = {
        key: cast(output, key, tensor, precision)
        for name, layer in adapter.layers.items()
        for key, tensor in name_tensors(name, layer.parts, layer.scale * layer.rank).items()
    }
    tensors |= adapter.kept
    metadata = describe_change(adapter, output, change)
    metadata.update(hash_tensors(tensors, metadata))
    write_bytes(output, save(tensors, metadata))


def describe_change(adapter: Adapter, output: Path, change: str) -> dict[str, str]:
    """The file's metadata with what is different now: ranks, alphas, name, and the change itself."""
    sizes = _measure(adapter)
    rank, alpha = sizes.rank_and_alpha
    said = _read_arguments(adapter.metadata.get("ss_network_args", ""))
    for key in ("conv_dim", "conv_alpha", "layers_by_rank", "convolutions_by_rank", "rs_lora"):
        said.pop(key, None)
    if adapter.kind == "lora" and not adapter.is_dora:
        said.pop("algo", None)
    arguments = said | sizes.arguments()
    was = adapter.metadata.get("ss_training_comment", "")
    plain = adapter.kind == "lora" and not adapter.is_dora
    made = {
        **adapter.metadata,
        "ss_network_module": "networks.lora" if plain else adapter.metadata.get("ss_network_module", "lycoris.kohya"),
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_training_comment": change if was in ("", "None") else f"{change}; {was}",
        "ss_output_name": output.stem,
        "modelspec.title": output.stem,
        "hotlora_tool": f"HotLoRA {__version__}: {change}",
        **_say_family(adapter),
    }
    made.pop("ss_network_args", None)
    if arguments:
        made["ss_network_args"] = json.dumps(arguments)
    return {key: str(value) for key, value in made.items()}


def _say_family(adapter: Adapter) -> dict[str, str]:
    """What WebUIs know the family by, where the file does not say it."""
    if "ss_base_model_version" in adapter.metadata:
        return {}
    versions = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
    architectures = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base"}
    return {
        "ss_base_model_version": versions[adapter.family],
        "ss_v2": str(adapter.family == "sd2"),
        "modelspec.architecture": f"{architectures[adapter.family]}/lora",
    }


def _measure(adapter: Adapter) -> Sizes:
    counts: tuple[Counter, Counter] = (Counter(), Counter())
    for layer in adapter.layers.values():
        counts[layer.is_spatial][layer.rank, round(layer.scale * layer.rank, 4)] += 1
    return Sizes(*counts)


def _read_arguments(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text) if text else {}
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _check_plain(adapter: Adapter, output: Path) -> None:
    """diffusers and peft hold other kinds than image programs do."""
    if adapter.kind != "lora":
        raise UserError(
            f"cannot write '{output}' as {adapter.form} has it: '{adapter.path}' is a {adapter.kind}, and only LoRA fits. "
            "Make a LoRA of it first, with hotlora tool resize."
        )
    if adapter.is_dora:
        raise UserError(
            f"cannot write '{output}' as {adapter.form} has it: '{adapter.path}' is DoRA as image programs apply it, and {adapter.form} "
            "keeps its norms along the other axis. Use it in kohya's form."
        )
    if adapter.kept:
        raise UserError(
            f"cannot write '{output}' as {adapter.form} has it: '{adapter.path}' holds embeddings, which have no place there. "
            "Use it in kohya's form."
        )


def _write_diffusers(adapter: Adapter, output: Path, precision: str) -> None:
    """With alpha / rank in the second factor, so that no reader needs to be told an alpha. diffusers asks for a format, and takes other
    metadata for its own."""
    names, tensors = Names(adapter.family), {}
    for name, layer in adapter.layers.items():
        part, path = names.to_diffusers(name)
        for tensor, values in unscaled(layer).items():
            key = f"{part}.{path}.{_TENSOR[tensor]}"
            tensors[key] = cast(output, key, values, precision)
    write_bytes(output, save(tensors, {"format": "pt"}))


def unscaled(layer: Layer) -> dict[str, torch.Tensor]:
    """Its two factors with the scale in the second."""
    return {"lora_A": layer.parts["lora_A"], "lora_B": layer.parts["lora_B"] * layer.scale}


def _write_peft(adapter: Adapter, output: Path, precision: str) -> None:
    """A folder with one peft adapter for each part of the pipeline: ``unet``, ``text_encoder``, ``text_encoder_2``."""
    names = Names(adapter.family)
    parts: dict[str, dict[str, Layer]] = {}
    for name, layer in adapter.layers.items():
        part, path = names.to_diffusers(name)
        parts.setdefault(part, {})[path] = layer
    with replacing_folder(output) as folder:
        for part, layers in parts.items():
            (folder / part).mkdir(parents=True)
            config = describe_peft(layers)
            (folder / part / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            tensors = {
                (key := f"base_model.model.{path}.{_TENSOR[tensor]}"): cast(output, key, layer.parts[tensor], precision)
                for path, layer in layers.items()
                for tensor in _TENSOR
            }
            (folder / part / "adapter_model.safetensors").write_bytes(save(tensors, {"format": "pt"}))


def describe_peft(layers: Mapping[str, Layer]) -> dict[str, Any]:
    """peft's config for layers by path; ranks and alphas that are not the usual ones by layer."""
    ranks = {path: layer.rank for path, layer in layers.items()}
    alphas = {path: round(layer.scale * layer.rank, 6) for path, layer in layers.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(layers),
        "rank_pattern": {path: own for path, own in ranks.items() if own != rank},
        "alpha_pattern": {path: own for path, own in alphas.items() if own != alpha},
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "inference_mode": True,
    }


def with_one_alpha(adapter: Adapter) -> Adapter:
    """A LoRA whose layers all have the alpha that most have, the rest of each scale in its factors: diffusers up to 0.42 gives attention
    layers the usual alpha, whatever theirs is."""
    alphas = Counter(round(layer.scale * layer.rank, 6) for layer in adapter.layers.values())
    if adapter.kind != "lora" or len(alphas) == 1:
        return adapter
    usual = next((alpha for alpha, _ in alphas.most_common() if alpha > 0), 1.0)
    return replace(adapter, layers={name: _at_alpha(layer, usual) for name, layer in adapter.layers.items()})


def _at_alpha(layer: Layer, alpha: float) -> Layer:
    """The same change, its factors each larger by the root of what the scale is smaller by."""
    scale = alpha / layer.rank
    factor = layer.scale / scale
    root = math.sqrt(abs(factor))
    factors = {"lora_A": layer.parts["lora_A"] * root, "lora_B": layer.parts["lora_B"] * math.copysign(root, factor)}
    return replace(layer, parts={**layer.parts, **factors}, scale=scale)
