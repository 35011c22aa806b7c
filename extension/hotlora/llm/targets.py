"""Which layers of a language model get an adapter."""

import re
from collections.abc import Mapping

from torch import nn

from ..engine.errors import UserError
from ..engine.interfaces import Target
from .config import TextConfig

_LINEAR = ("Linear", "Linear8bitLt", "Linear4bit", "Conv1D")  # of torch, bitsandbytes, and GPT-2's in transformers
_BLOCK = re.compile(r"\.\d+\.")  # the blocks are numbered; embeddings, norms and the head are not among them


def choose_text_targets(net: nn.Module, config: TextConfig) -> dict[str, Target]:
    """Path in the model -> target, such as ``model.layers.0.self_attn.q_proj``.

    Raises:
        UserError: where ``target_modules`` names a layer that there is not.
    """
    found = find_linear_layers(net)
    if not found:
        raise UserError("cannot train this model: no linear layers were found in its blocks. Choose another model.")
    wanted = config.target_modules.strip()
    if wanted == "all-linear":
        names = list(found)
    elif wanted == "attention":
        names = [name for name in found if _in_attention(net, name)]
    else:
        names = _choose_by_ends(found, [part for part in re.split(r"[,\s]+", wanted) if part])
    if not names:
        raise UserError(f"cannot train '{wanted}': the model has no such layers. {_list_ends(found)}")
    return {name: Target(found[name], config.lora_rank, config.alpha, config.learning_rate) for name in names}


def find_linear_layers(net: nn.Module) -> dict[str, nn.Module]:
    """All linear layers of the numbered blocks, by their path."""
    layers = {}
    for name, module in net.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if kinds & set(_LINEAR) and _BLOCK.search(f".{name}."):
            layers[name] = module
    return layers


def _in_attention(net: nn.Module, name: str) -> bool:
    """Whether the layer belongs to a module that attends, by that module's name or class."""
    parent = name.rpartition(".")[0]
    said = parent.rpartition(".")[2] + " " + type(net.get_submodule(parent)).__name__
    return "attn" in said.lower() or "attention" in said.lower()


def _choose_by_ends(found: Mapping[str, nn.Module], ends: list[str]) -> list[str]:
    for end in ends:
        if not any(_ends_with(name, end) for name in found):
            raise UserError(f"cannot train '{end}': the model has no layer of that name. {_list_ends(found)}")
    return [name for name in found if any(_ends_with(name, end) for end in ends)]


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _list_ends(found: Mapping[str, nn.Module]) -> str:
    ends = dict.fromkeys(name.rpartition(".")[2] for name in found)
    return f"There are: all-linear, attention, {', '.join(ends)}."


def shorten_targets(net_layers: Mapping[str, nn.Module], targets: Mapping[str, Target]) -> list[str]:
    """The ends of names that select just these layers, as other programs expect them; all names where no ends do."""
    ends = {name.rpartition(".")[2] for name in targets}
    selected = {name for name in net_layers if name.rpartition(".")[2] in ends}
    return sorted(ends) if selected == set(targets) else sorted(targets)
