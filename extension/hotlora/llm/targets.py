"""Which layers of a language model get an adapter, and by what names peft finds just those."""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from ..engine.errors import UserError
from ..engine.interfaces import Target
from .config import TextConfig
from .layers import Layers, find_layers, is_linear
from .peft_names import can_target_parameters, resolve

_PATTERN = re.compile(r"[*()|\\^$+\[\]?]")  # in no layer's name: peft's users write patterns


def choose_text_targets(net: nn.Module, config: TextConfig) -> dict[str, Target]:
    """Path in the model -> target, such as ``model.layers.0.self_attn.q_proj``.

    Raises:
        UserError: where ``target_modules`` names a layer that there is not.
    """
    found = find_layers(net)
    layers = {**found.usable, **found.experts}
    if not layers:
        raise UserError("cannot train this model: no linear layers were found in its blocks. Choose another model.")
    names = _choose_names(net, found, config)
    if not names and not config.train_experts:
        raise UserError(f"cannot train '{config.target_modules.strip()}': the model has no such layers. {_list_ends(layers)}")
    targets = {}
    for name in names:
        rank = int(match_pattern(config.rank_pattern, name, config.lora_rank))
        alpha = float(match_pattern(config.alpha_pattern, name, config.alpha))
        targets[name] = Target(layers[name], rank, alpha, config.learning_rate)
    if config.train_experts:
        targets |= _choose_experts(net, found, config)
    return targets


def _choose_experts(net: nn.Module, found: Layers, config: TextConfig) -> dict[str, Target]:
    """The experts that are one parameter for all of them; a target is the module that holds such.

    Raises:
        UserError: where peft cannot train them, or not with these options.
    """
    if not (found.experts or found.parameters):
        raise UserError("cannot train experts: this model has none. Set train_experts: false.")
    if found.parameters and not can_target_parameters():
        raise UserError(
            "cannot train this model's experts: that needs peft 0.17 or newer. Set train_experts: false, or bring peft up to date."
        )
    for option in ("use_dora", "lora_dropout", "max_norm") if found.parameters else ():
        if getattr(config, option):
            raise UserError(f"cannot use {option} with train_experts: peft knows no such thing for experts. Leave one of them out.")
    if found.parameters and config.lora_start == "pissa":
        raise UserError("cannot use lora_start pissa with train_experts: experts have no start of their own. Leave one of them out.")
    held: dict[str, list[str]] = {}
    for path in found.parameters:
        name, _, parameter = path.rpartition(".")
        held.setdefault(name, []).append(parameter)
    rank, alpha = config.lora_rank, config.alpha
    return {name: Target(net.get_submodule(name), rank, alpha, config.learning_rate, parameters=tuple(own)) for name, own in held.items()}


def name_parameters(targets: Mapping[str, Target]) -> list[str]:
    """``target_parameters`` of peft: the ends of the names of parameters that have an adapter of their own."""
    return sorted({f"{name.rpartition('.')[2]}.{own}" for name, target in targets.items() for own in target.parameters})


def _choose_names(net: nn.Module, found: Layers, config: TextConfig) -> list[str]:
    wanted = config.target_modules.strip()
    usual = {**found.usable, **(found.experts if config.train_experts else {})}
    if wanted in ("all-linear", "all_linear", "all"):
        return list(usual)
    if wanted == "attention":
        return [name for name in usual if _in_attention(net, name)]
    layers = {**found.usable, **found.experts}  # whoever names experts' layers wants them
    if _PATTERN.search(wanted):
        try:
            return [name for name in layers if re.fullmatch(wanted, name)]
        except re.error as error:
            raise UserError(f"cannot read the pattern '{wanted}': {error}. Mend target_modules, or give the ends of names.") from error
    return _choose_by_ends(layers, [part for part in re.split(r"[,\s]+", wanted) if part])


def match_pattern(patterns: Mapping[str, float], name: str, otherwise: float) -> float:
    """What a pattern of peft's (`rank_pattern`, `alpha_pattern`) gives a layer: the first that its name ends with."""
    return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", name)), otherwise)


def find_linear_layers(net: nn.Module) -> dict[str, nn.Module]:
    """All layers that an adapter may go on, by their path."""
    found = find_layers(net)
    return {**found.usable, **found.experts}


def say_left_out(net: nn.Module, config: TextConfig) -> list[str]:
    """What of the model gets no adapter though all layers were asked for, a sentence each kind with its count."""
    found, said = find_layers(net), []
    if _PATTERN.search(config.target_modules):
        return _say_beside(net, found, config.target_modules.strip())
    if config.target_modules.strip() not in ("all-linear", "all_linear", "all"):
        return []
    for kind, names in found.left.items():
        said.append(f"No adapter on {len(names)} {kind}: {names[0]}{' …' * (len(names) > 1)}.")
    experts = [] if config.train_experts else [*found.experts, *found.parameters]
    if experts:
        first = f"{len(experts)}: {experts[0]} …"
        said.append(f"No adapter on the experts of this mixture model ({first}): set train_experts: true to train them too.")
    return said


def _say_beside(net: nn.Module, found: Layers, pattern: str) -> list[str]:
    """What a pattern names beside layers that can have an adapter: peft alone would put some on such."""
    usable = {**found.usable, **found.experts}
    kinds = [(name, is_linear(module) or isinstance(module, nn.Embedding)) for name, module in net.named_modules()]
    names = [name for name, is_layer in kinds if is_layer and name not in usable and re.fullmatch(pattern, name)]
    return [f"No adapter on {len(names)} layers that target_modules names too: {names[0]}{' …' * (len(names) > 1)}."] if names else []


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


# -- names for peft ------------------------------------------------------------------------------------------------------


def name_targets(net: nn.Module, targets: Mapping[str, Target]) -> list[str] | str:
    """``target_modules`` such that peft finds just these layers in this model: the ends of their names, as short as they can be; a
    pattern where no ends will do.

    Peft compares ends with the names of all modules: `0` of a numbered layer would be decoder block 0 too.

    Raises:
        UserError: where peft would find others by any name.
    """
    names, wanted = [name for name, _ in net.named_modules() if name], {name for name, target in targets.items() if not target.parameters}
    if not wanted:
        return []
    found: list[str] | str = shorten_names(wanted, names)
    if resolve(found, names) != wanted:
        found = "|".join(re.escape(name) for name in sorted(wanted))
    if resolve(found, names) != wanted:
        raise UserError("cannot name these layers so that peft finds them again. Choose others with target_modules.")
    return found


def shorten_names(wanted: set[str], names: Sequence[str]) -> list[str]:
    """The shortest ends that only wanted names have."""
    others: set[str] = set()
    for name in names:
        if name not in wanted:
            parts = name.split(".")
            others.update(".".join(parts[-count:]) for count in range(1, len(parts) + 1))
    ends = set()
    for name in wanted:
        parts = name.split(".")
        ends.add(next((end for n in range(1, len(parts)) if (end := ".".join(parts[-n:])) not in others), name))
    return sorted(ends)
