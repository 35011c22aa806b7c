"""LoRA files of Stable Diffusion models, read: whichever program wrote them, in one form.

Knows every spelling of tensors and of scaling (kohya, LyCORIS, diffusers old and new, peft), no model: what layers are called is
told apart by ``lora_names``, what other files are by ``lora_families``. Must not import peft or a model library.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from ..engine.errors import UserError
from ..engine.file_heads import look_at_head
from .lora_families import describe_keys, find_language
from .peft_settings import PeftSettings, read_settings

EMBEDDINGS = "bundle_emb."  # textual inversions within a LoRA file, as A1111 and OneTrainer have them

_KEY = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.(?P<tensor>lora_down|lora_up|lora_mid|lora_A|lora_B|lora_magnitude_vector|dora_scale|alpha"
    r"|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.default\w*)?(?:\.weight)?"
    r"|[._](?:lora|lora_linear_layer)\.(?P<old>down|up)(?:\.weight)?"
    r")"
)
_TENSORS = {"lora_down": "lora_A", "lora_up": "lora_B", "down": "lora_A", "up": "lora_B"}
_VECTORS = ("alpha", "dora_scale", "lora_magnitude_vector")  # all else is a matrix at least
_IN_FOLDERS = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_PICKLED = (".pt", ".pth", ".ckpt", ".bin")


class LoraFile(NamedTuple):
    """What is in a LoRA file, under peft's tensor names.

    A layer's weight changes by ``alpha / rank`` times its tensors' product, whatever the file's own way of saying so is.
    """

    kind: str  # "lora", "loha" or "lokr"
    tensors: dict[str, dict[str, torch.Tensor]]  # name, as the file spells it -> tensor name -> fp32 on the CPU
    ranks: dict[str, int]
    alphas: dict[str, float]
    metadata: dict[str, str]
    embeddings: dict[str, torch.Tensor]  # as they are in the file
    use_rslora: bool  # whether it says so; the alphas are those that the rank divides all the same
    notes: tuple[str, ...]


def find_weights(path: Path) -> Path:
    """The file that holds the tensors: ``path``, or what lies in that folder.

    Raises:
        UserError: where there is none, or it is no .safetensors file.
    """
    place = path.expanduser()
    if place.is_dir():
        named = [place / name for name in _IN_FOLDERS if (place / name).is_file()]
        found = named or sorted(place.glob("*.safetensors"))
        if not found:
            raise _refusal(path, "this folder holds no .safetensors file", "Give a LoRA file, or the folder of a peft adapter.")
        if len(found) > 1:
            raise _refusal(path, f"it holds {len(found)} files", f"Name one of them, such as '{found[0].name}'.")
        return found[0]
    if not place.is_file():
        raise UserError(f"cannot go on from '{path}': there is no such file. Check init_lora.")
    if place.suffix.lower() in _PICKLED:
        reason = f"a {place.suffix} file can hold a program that runs when it is opened"
        raise _refusal(path, reason, "Convert it to .safetensors, or get it in that format.")
    if place.suffix.lower() != ".safetensors":
        raise _refusal(path, f"'{place.suffix}' is not a LoRA file's ending", "Give a .safetensors file.")
    return place


def read_layer_names(path: Path) -> set[str]:
    """The layers as the file spells them, without reading a tensor. Raises UserError as :func:`read_lora` does."""
    with open_lora(path) as file:
        keys = list(file.keys())
    _check_keys(path, keys)
    return {found["layer"].removesuffix("_lora") for key in keys if (found := _KEY.fullmatch(key))}


def read_lora(path: Path) -> LoraFile:
    """A LoRA, LoHa or LoKr file or folder, to go on from.

    A missing alpha counts as the rank, as in A1111. LoKr of two full factors has no rank to be read: alpha stands for
    both, so that the scale is 1.

    Raises:
        UserError: when it is missing, unreadable, would need unpickling, or is something else, saying what.
    """
    with open_lora(path) as file:
        metadata = file.metadata() or {}
        keys = list(file.keys())
        _check_keys(path, keys)
        flat = {key: file.get_tensor(key) for key in keys}
    embeddings = {key: tensor for key, tensor in flat.items() if key.startswith(EMBEDDINGS)}
    layers, alphas = _sort(path, {key: tensor for key, tensor in flat.items() if key not in embeddings})
    settings = read_settings(find_weights(path), metadata)
    notes = list(_join_middles(path, layers))
    kinds = {_kind(path, name, parts) for name, parts in layers.items()}
    if len(kinds) > 1:
        raise _refusal(path, f"it mixes {' and '.join(sorted(kinds))} layers", "Choose a file of one kind.")
    (kind,) = kinds
    _check_magnitudes(path, kind, layers)
    ranks = {name: _rank(parts) or max(1, round(alphas.get(name, 1))) for name, parts in layers.items()}
    if settings:
        alphas = {name: _alpha_of(settings, name, rank) for name, rank in ranks.items()} | alphas
    silent = {name for name in layers if name not in alphas}
    if silent:
        notes.append(f"{len(silent)} of its {len(layers)} layers say no alpha: their rank is taken, so that what they hold counts in full.")
    for name, parts in layers.items():
        if _rank(parts) is None or name in silent:
            alphas[name] = float(ranks[name])
    use_rslora = settings.use_rslora if settings else _says_rslora(metadata)
    return LoraFile(kind, layers, ranks, {name: alphas[name] for name in layers}, metadata, embeddings, use_rslora, tuple(notes))


def open_lora(path: Path) -> Any:
    """A LoRA's safetensors file, open. Raises UserError where it cannot be read, saying what it is."""
    weights = find_weights(path)
    try:
        return safe_open(str(weights), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        wrong = look_at_head(weights)
        if wrong:
            raise _refusal(path, f"it {wrong}", "Download it again.") from None
        raise _refusal(path, f"it cannot be read ({error})", "It is damaged or not a .safetensors file; use another copy.") from None


def _check_keys(path: Path, keys: list[str]) -> None:
    of_layers = [key for key in keys if not key.startswith(EMBEDDINGS)]
    if keys and not of_layers:
        raise _refusal(path, "it holds textual inversions only", "Give a LoRA file.")
    tensors = [found["tensor"] or found["old"] for key in of_layers if (found := _KEY.fullmatch(key))]
    strange = [key for key in of_layers if not _KEY.fullmatch(key)]
    if strange or set(tensors) <= {"alpha"} or find_language(keys):
        advice = "Give a LoRA, LoHa or LoKr file for a Stable Diffusion model."
        raise _refusal(path, f"it is {describe_keys(keys, strange)}", advice)


def _sort(path: Path, flat: Mapping[str, torch.Tensor]) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, float]]:
    """The tensors by layer, in fp32, and the alphas."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in flat.items():
        found = _KEY.fullmatch(key)
        assert found is not None  # checked
        name, suffix = found["layer"].removesuffix("_lora"), found["tensor"] or found["old"]
        if not tensor.numel():
            raise _refusal(path, f"{key} is empty", "It is damaged; use another copy.")
        if tensor.dim() > 1 and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise _refusal(path, f"{key} holds {kind}, and weights are fractions", "Use it as it was before it was packed.")
        if not torch.isfinite(tensor.float()).all():
            raise _refusal(path, f"{key} holds values that are no numbers", "It is damaged, or broke down in training; use another copy.")
        if tensor.dim() < 2 and suffix not in _VECTORS:
            raise _refusal(path, f"{key} has the shape {list(tensor.shape)}", "It is damaged; use another copy.")
        if suffix == "alpha":
            alphas[name] = float(tensor.float().mean())  # some write it once per rank
        elif suffix == "lora_magnitude_vector":  # peft's is always per output, whatever shape it has
            layers.setdefault(name, {})["dora_scale"] = tensor.to(torch.float32, copy=True).reshape(-1, 1)
        else:
            layers.setdefault(name, {})[_TENSORS.get(suffix, suffix)] = tensor.to(torch.float32, copy=True)
    return layers, alphas


def _join_middles(path: Path, layers: dict[str, dict[str, torch.Tensor]]) -> Iterator[str]:
    """LyCORIS' Tucker form of a LoRA, up . mid . down, is a LoRA of the same rank whose down is mid . down."""
    joined = 0
    for name, parts in layers.items():
        middle = parts.pop("lora_mid", None)
        if middle is not None and {"lora_A", "lora_B"} <= parts.keys():
            if middle.dim() != 4 or middle.shape[1] != parts["lora_A"].shape[0]:
                raise _refusal(path, f"the middle of {name} has the shape {list(middle.shape)}", "It is damaged; use another copy.")
            parts["lora_A"] = torch.einsum("ijkl,jc->ickl", middle, parts["lora_A"].flatten(1))
            joined += 1
    if joined:
        yield f"{joined} convolutions in Tucker's form go on as plain ones of the same rank, which hold the same."


def _kind(path: Path, name: str, parts: Mapping[str, torch.Tensor]) -> str:
    """Which kind of adapter a layer's tensors make. Raises UserError where they make none."""
    if {"lora_A", "lora_B"} <= parts.keys():
        down, up = parts["lora_A"].shape[0], parts["lora_B"].shape[1]
        if down != up:
            raise _refusal(path, f"of {name} one matrix has rank {down} and the other {up}", "It is damaged; use another copy.")
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


def _check_magnitudes(path: Path, kind: str, layers: Mapping[str, dict[str, torch.Tensor]]) -> None:
    """DoRA's magnitudes as [1, in, ...] or [out, 1, ...], the same way in every layer."""
    scaled = {name for name, parts in layers.items() if "dora_scale" in parts}
    if not scaled:
        return
    if kind != "lora":
        raise _refusal(path, f"it is DoRA on {kind}, and here DoRA goes on LoRA only", "Choose a file without DoRA, or a LoRA.")
    if len(scaled) < len(layers):
        raise _refusal(path, f"only {len(scaled)} of its {len(layers)} layers have DoRA magnitudes", "Choose a file of one kind.")
    axes = set()
    for parts in layers.values():
        scale = parts["dora_scale"]
        if not scale.dim() or scale.shape[0] != 1:
            parts["dora_scale"] = scale.reshape(-1, *[1] * (parts["lora_A"].dim() - 1))
        axes.add(parts["dora_scale"].shape[0] == 1)
    if len(axes) > 1:
        raise _refusal(path, "its DoRA magnitudes are per input in some layers and per output in others", "Choose another file.")


def dora_axis(file: LoraFile) -> str | None:
    """ "input", "rows" or None, as in ``AdapterChoice``."""
    scale = next(iter(file.tensors.values())).get("dora_scale")
    return None if scale is None else "input" if scale.shape[0] == 1 else "rows"


def _alpha_of(settings: PeftSettings, name: str, rank: int) -> float:
    """What the rank divides: peft's alpha, which rank-stabilised LoRA divides by the rank's root."""
    alpha = settings.alpha_of(name)
    return float(rank) if alpha is None else alpha * (rank**0.5 if settings.use_rslora else 1.0)


def _says_rslora(metadata: Mapping[str, str]) -> bool:
    """As LyCORIS and this program note it down."""
    try:
        return str(json.loads(metadata.get("ss_network_args", "{}")).get("rs_lora")) == "True"
    except (ValueError, AttributeError):
        return False


def _refusal(path: Path, reason: str, advice: str) -> UserError:
    return UserError(f"cannot go on from '{path}': {reason}. {advice}")
