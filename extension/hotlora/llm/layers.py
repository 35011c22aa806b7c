"""Which layers of a language model can have an adapter, and which should not, by what they are. Chooses nothing; see targets.py."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from .peft_names import find_taken_ends

_LINEAR = ("Linear", "Linear8bitLt", "Linear4bit", "Conv1D")  # of torch, bitsandbytes, and GPT-2's in transformers
_PACKED = re.compile(r"QuantLinear$|^WQLinear|^HQQLinear$|^AqlmLoraLinear$|^QuantizedLinear$|^EetqLinear$")  # as peft dispatches on
_BLOCK = re.compile(r"\.\d+\.")  # the blocks are numbered; embeddings, norms and the head are not among them

_SENSES = {"vision", "visual", "vit", "image", "img", "video", "audio", "speech", "sound", "acoustic", "whisper", "siglip", "clip", "sam"}
_SENSES |= {"multimodal", "mm", "modal", "perceiver", "resampler", "qformer", "aligner", "connector", "conformer"}
_ROUTERS = {"gate", "wg", "gating", "shared_expert_gate", "gate_network"}
_INSIDE_MAMBA = ("out_proj", "x_proj", "dt_proj", "conv1d")  # fast kernels take their weights and pass the layers over
_MAMBA_OF_PEFT = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}  # in which peft refuses every out_proj

SENSES, ROUTERS, EXPERTS, MAMBA = "layers that see or hear", "routers", "experts", "Mamba layers that kernels pass over"
TAKEN = "layers whose names this peft reads as the experts' in this kind of model"


@dataclass(frozen=True)
class Layers:
    """A model's linear layers by their path.

    Attributes:
        usable: those that an adapter may go on.
        experts: those of a mixture's experts, each a layer of its own.
        parameters: paths of experts that are not layers but one parameter for all of them.
        left: by kind, the paths of those that never get one in a text run.
    """

    usable: dict[str, nn.Module] = field(default_factory=dict)
    experts: dict[str, nn.Module] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)


def find_layers(net: nn.Module) -> Layers:
    """All linear layers of the numbered blocks, and whether they are for an adapter."""
    layers, modules = Layers(), dict(net.named_modules())
    taken = find_taken_ends(net)
    for name, module in modules.items():
        if not _BLOCK.search(f".{name}."):
            continue
        if not is_linear(module):
            if _is_expert(f"{name}."):
                layers.parameters.extend(_find_expert_parameters(name, module))
            continue
        kind = _find_kind(net, modules, name) or (TAKEN if name.rpartition(".")[2] in taken else "")
        if kind == EXPERTS:
            layers.experts[name] = module
        elif kind:
            layers.left.setdefault(kind, []).append(name)
        else:
            layers.usable[name] = module
    return layers


def is_linear(module: nn.Module) -> bool:
    """Whether it multiplies with a matrix, packed or not."""
    kinds = {kind.__name__ for kind in type(module).__mro__}
    return bool(kinds & set(_LINEAR)) or any(_PACKED.search(kind) for kind in kinds)


def _find_kind(net: nn.Module, modules: Mapping[str, nn.Module], name: str) -> str:
    """Why a layer is none for an adapter; empty where it is one."""
    parent = modules[name.rpartition(".")[0]]
    if _SENSES & {word for part in name.lower().split(".") for word in part.split("_")} or "crossattention" in _called(parent):
        return SENSES
    if _routes(net, modules[name], name):
        return ROUTERS
    end = name.rpartition(".")[2]
    is_mamba = hasattr(parent, "A_log") and "delta" not in _called(parent)
    if is_mamba and end in _INSIDE_MAMBA or end == "out_proj" and getattr(net.config, "model_type", "") in _MAMBA_OF_PEFT:
        return MAMBA
    return EXPERTS if _is_expert(name) else ""


def _called(module: nn.Module) -> str:
    return type(module).__name__.lower()


def _routes(net: nn.Module, layer: nn.Module, name: str) -> bool:
    """Whether the layer decides which experts read a word: it is called so, or has as many outputs as there are experts."""
    *parents, end = name.lower().split(".")
    if any("router" in part for part in (*parents, end)) or any(word in _called(layer) for word in ("router", "topk")):
        return True
    config = getattr(net.config, "text_config", None) or net.config
    counts = {getattr(config, key, None) for key in ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")} - {None}
    outputs, inputs = getattr(layer, "out_features", 0), getattr(layer, "in_features", 0)
    if end in _ROUTERS:
        return outputs < inputs or outputs in counts or outputs == 1
    return outputs in counts and "proj" not in end and any("moe" in part or "mlp" in part or "ffn" in part for part in parents)


def _is_expert(name: str) -> bool:
    """`mlp.experts.3.up_proj`; experts that read every word are layers like others."""
    return any(re.fullmatch(r"(local_|routed_|sparse_)?experts?(_\d+)?", part) for part in name.split("."))


def _find_expert_parameters(name: str, module: nn.Module) -> Iterator[str]:
    yield from (f"{name}.{own}" for own, parameter in module.named_parameters(recurse=False) if parameter.dim() == 3)
