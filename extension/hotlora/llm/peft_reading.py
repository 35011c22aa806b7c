"""Reading adapters that this program, peft or another has written, to go on from them: folders, and weights alone.

Knows what peft's config may say and which of it can be gone on from. Knows no model; see adopting.py.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..engine.errors import UserError
from ..engine.file_heads import look_at_head
from ..engine.pickled import load_pickled
from .targets import match_pattern

CONFIG, WEIGHTS, OLD_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
_TENSORS = ("lora_A", "lora_B", "lora_magnitude_vector")
_PEFT_RANK, _PEFT_ALPHA = 8, 8.0  # what peft takes where its config does not say

# Of image programs: kohya's, LyCORIS', diffusers'.
_IMAGE_STARTS = ("lora_unet_", "lora_te", "lycoris_", "unet.", "text_encoder", "diffusion_model.", "transformer.transformer_blocks")
_IMAGE_PARTS = ("transformer_blocks", ".hada_", "_hada_", ".lokr_", "down_blocks", "input_blocks")

_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "default")  # those that leave the model's weights as they are
_UNKNOWN: tuple[str, ...] = ("modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication", "lora_bias")
_UNKNOWN += ("use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "velora_config", "kasa_config")


@dataclass(frozen=True)
class PeftFile:
    """An adapter that was read.

    Attributes:
        tensors: path in the model -> peft's tensor name -> fp32.
        rank: of most layers; alpha likewise.
        ranks: path -> rank, of every layer; alphas likewise.
        starts_at_pissa: whether it is to be added to a model that its main directions were taken out of.
        fingerprint: of the base model it was trained on; empty where it does not say.
        notes: what people should know.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    use_rslora: bool
    use_dora: bool
    starts_at_pissa: bool
    base: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def read_peft_folder(path: Path) -> PeftFile:
    """A folder, or its weights alone.

    Raises:
        UserError: where it is none, is of another family, or holds what cannot be gone on from.
    """
    place = path.expanduser()
    weights = find_weights(place)
    flat, metadata = _read_weights(weights)
    said = _read_config(weights.parent)
    _refuse_images(flat, place, said.get("peft_type"))
    _refuse_unknown(said, place)
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        name, tensor = _split_key(key, place)
        tensors.setdefault(name, {})[tensor] = _read_values(key, value, place)
    ranks = dict(_read_ranks(tensors, place))
    use_dora = any("lora_magnitude_vector" in parts for parts in tensors.values())
    if said and use_dora is not bool(said.get("use_dora")):
        has = "has DoRA magnitudes" if use_dora else "has no DoRA magnitudes"
        raise UserError(
            f"cannot go on from '{place}': its {CONFIG} says use_dora: {str(not use_dora).lower()}, and {weights.name} {has}. "
            "Copy the whole folder of the adapter anew."
        )
    rank = int(said.get("r") or Counter(ranks.values()).most_common(1)[0][0])
    if rank not in ranks.values():
        rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = float(said.get("lora_alpha") or (_PEFT_ALPHA if said else rank))
    patterns = said.get("alpha_pattern") or {}
    alphas = {name: float(match_pattern(patterns, name, alpha if said else own)) for name, own in ranks.items()}
    return PeftFile(
        tensors,
        rank=rank,
        alpha=alpha,
        ranks=ranks,
        alphas=alphas,
        use_rslora=bool(said.get("use_rslora")),
        use_dora=use_dora,
        starts_at_pissa=_is_pissa(said),
        base=str(said.get("base_model_name_or_path") or ""),
        fingerprint=metadata.get("hotlora_base_fingerprint", ""),
        notes=() if said else (f"'{place}' says no alpha: its rank was taken, so that what it has learned counts in full.",),
    )


def refuse_unsound(folder: Path, said: Mapping[str, Any]) -> None:
    """For whoever has peft load an adapter, which takes more kinds than :func:`read_peft_folder` and says less.

    Raises:
        UserError: where its numbers are no weights, or it would be put beside other weights each time.
    """
    if str(said.get("init_lora_weights", "")).lower().startswith("pissa_niter"):
        _refuse_unknown(said, folder)
    for key, value in _read_weights(find_weights(folder))[0].items():
        _read_values(key, value, folder)


def read_fingerprint(folder: Path) -> str:
    """Of the base model that an adapter was trained on; empty where it does not say."""
    try:
        with safe_open(str(folder / WEIGHTS), "pt") as file:
            return (file.metadata() or {}).get("hotlora_base_fingerprint", "")
    except (SafetensorError, OSError):
        return ""


def warn_other_base(base: str, theirs: str, fingerprint: str, name: str) -> str:
    """A sentence where an adapter of the model ``base`` belongs to other weights than ``name``'s; empty where it does not say."""
    if not theirs or theirs == fingerprint:
        return ""
    return f"The adapter was trained on another model ({base}) than {name}; what it has learned may not fit."


# -- files ---------------------------------------------------------------------------------------------------------------


def find_weights(place: Path) -> Path:
    """The file with an adapter's weights. Raises UserError where the place is no adapter."""
    if place.is_file():
        if place.suffix.lower() not in (".safetensors", ".bin"):
            raise UserError(f"cannot go on from '{place}': it is no adapter. Give the folder of a peft adapter, or its .safetensors file.")
        return place
    if not place.is_dir():
        raise UserError(f"cannot go on from '{place}': there is no such file or folder. Mend init_lora.")
    found = next((place / name for name in (WEIGHTS, OLD_WEIGHTS) if (place / name).is_file()), None)
    if found:
        return found
    if (place / CONFIG).is_file():
        raise UserError(f"cannot go on from '{place}': it has no {WEIGHTS}. Copy the whole folder of the adapter.")
    inside = sorted(path.parent for path in place.glob(f"*/{CONFIG}"))
    hint = f" There are adapters in it: give one of {', '.join(map(str, inside[:3]))}." if inside else " Give the folder of a peft adapter."
    raise UserError(f"cannot go on from '{place}': it has no {CONFIG}, so it is no text LoRA.{hint}")


def _read_weights(weights: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    try:
        if weights.suffix.lower() == ".bin":
            flat = load_pickled(weights)
            return {key: value for key, value in flat.items() if isinstance(value, torch.Tensor)}, {}
        with safe_open(str(weights), "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (it is no dictionary)
    except UserError:
        raise
    except Exception as error:  # torch and safetensors raise what they like for a damaged file
        wrong = look_at_head(weights)
        reason = f"it {wrong}" if wrong else " ".join(str(error).split())[:200]
        raise UserError(f"cannot read '{weights}': {reason}. Copy it again from where it came.") from error


def _read_values(key: str, value: torch.Tensor, place: Path) -> torch.Tensor:
    """In fp32. Raises UserError for numbers that are no weights."""
    if not value.numel():
        raise UserError(f"cannot go on from '{place}': its {key} is empty. Copy it again from where it came.")
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(
            f"cannot go on from '{place}': its {key} holds {kind}, and weights are fractions. Get the adapter as it was before it was "
            "packed."
        )
    value = value.float()
    if not torch.isfinite(value).all():
        raise UserError(
            f"cannot go on from '{place}': its {key} holds values that are no numbers. It is damaged, or broke down in training; use "
            "another copy, or an earlier checkpoint."
        )
    return value


def _refuse_images(flat: Mapping[str, torch.Tensor], place: Path, kind: str | None) -> None:
    """``kind``: what peft's config says that it is; other kinds than LoRA there are of text, too."""
    if not flat:
        raise UserError(f"cannot go on from '{place}': there is nothing in it. Copy it again from where it came.")
    bare = [key.removeprefix(PREFIX) for key in flat]
    parts = [part for part in _IMAGE_PARTS if kind not in ("LOHA", "LOKR") or not part.startswith((".", "_"))]
    if any(key.startswith(_IMAGE_STARTS) or any(part in key for part in parts) for key in bare):
        raise UserError(
            f"cannot go on from '{place}': it is a LoRA of the image family ({bare[0][:60]}), and this run is of the text family "
            "(text-generation). Give a text LoRA, or set task_type: image-generation."
        )


def _read_config(folder: Path) -> dict[str, Any]:
    """What peft's config says; nothing where the weights lie alone."""
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        wrong = look_at_head(path)
        if wrong:
            raise ValueError(f"it {wrong}")
        said = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(said, dict):
            raise ValueError("it holds no settings")
        said = {"r": _PEFT_RANK, **said}
        for number in (said["r"], said.get("lora_alpha"), *(said.get("alpha_pattern") or {}).values()):
            if number is not None and not (math.isfinite(float(number)) and float(number)):
                raise ValueError(f"{number} is no strength")
        int(said["r"] or 0)
        for pattern in said.get("alpha_pattern") or {}:
            re.compile(pattern)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, re.error) as error:
        raise UserError(f"cannot read '{path}': {error}. Copy it again from where it came.") from error
    return said


def _refuse_unknown(said: Mapping[str, Any], place: Path) -> None:
    kind = said.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError(f"cannot go on from '{place}': it is a {kind}, and only LoRA can be gone on from. Choose another adapter.")
    for key in _UNKNOWN:
        if said.get(key):
            raise UserError(f"cannot go on from '{place}': it was trained with {key}, which is not known here. Choose another adapter.")
    if said.get("bias") not in (None, "none"):
        raise UserError(f"cannot go on from '{place}': it has trained biases (bias: {said['bias']}). Choose another adapter.")
    start, pissa = said.get("init_lora_weights", True), _is_pissa(said)
    if not pissa and (start.lower() if isinstance(start, str) else start) not in _HARMLESS_STARTS:
        raise UserError(
            f"cannot go on from '{place}': it was trained with init_lora_weights: {start}, beside other weights than the model's own. "
            "Convert it to a plain LoRA with peft (path_initial_model_for_weight_conversion)."
        )
    if pissa and said.get("use_dora"):
        raise UserError(f"cannot go on from '{place}': it is PiSSA and DoRA in one, which is not known here. Choose another adapter.")


def _is_pissa(said: Mapping[str, Any]) -> bool:
    """Whether it starts at the weights' main directions; `pissa_niter_4` draws its directions by lot, anew each time it is loaded."""
    return str(said.get("init_lora_weights", "")).lower() == "pissa"


def _split_key(key: str, place: Path) -> tuple[str, str]:
    """``base_model.model.<path>.lora_A.weight``, also with an adapter's name in it or without the prefix -> (path, ``lora_A``)."""
    bare = key
    while bare.startswith(PREFIX):
        bare = bare[len(PREFIX) :]
    for tensor in _TENSORS:
        path, found, rest = bare.rpartition(f".{tensor}")
        ends = rest.split(".")[1:] if rest.startswith(".") else ([] if not rest else ["?"])
        if found and (ends in ([], ["weight"]) or len(ends) == 2 and ends[1] == "weight" or len(ends) == 1 and tensor.endswith("vector")):
            return path, tensor
    raise UserError(f"cannot go on from '{place}': it has the tensor {key}, which no plain LoRA has. Choose another adapter.")


def _read_ranks(tensors: Mapping[str, Mapping[str, torch.Tensor]], place: Path) -> Iterator[tuple[str, int]]:
    for name, parts in tensors.items():
        missing = next((tensor for tensor in ("lora_A", "lora_B") if tensor not in parts), None)
        if missing:
            raise UserError(f"cannot go on from '{place}': its layer {name} has no {missing}. Copy it again from where it came.")
        down, up = parts["lora_A"], parts["lora_B"]
        if down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1]:
            raise UserError(f"cannot go on from '{place}': its layer {name} is no linear layer's LoRA. Choose another adapter.")
        yield name, down.shape[0]
