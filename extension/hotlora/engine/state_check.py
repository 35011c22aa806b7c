"""Whether what a state holds can be gone on from, beyond being what was once written: values of the right kinds, and finite ones.

What optimizers keep for themselves is theirs: it differs between them, between parameters and between versions, and is only looked at for
numbers that are none.
"""

import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch


def check_plain(values: Iterable[Any]) -> None:
    """Raises ValueError where there are tensors among what is compared with plain values."""
    if any(isinstance(value, torch.Tensor) for value in values):
        raise ValueError("its options are none")


def check_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Fills in settings that are younger than the state. Raises ValueError for one that no such optimizer can have written."""
    groups, fresh = state["param_groups"], optimizer.state_dict()["param_groups"]
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in fresh]:
        raise ValueError("its optimizer has other parameters")
    for group, new in zip(groups, fresh, strict=True):
        for key, value in new.items():
            if key != "params" and not _can_follow(group.setdefault(key, value), value):
                raise ValueError(f"its optimizer's {key} is none")
    if not all(map(_is_finite, _list_values(state["state"]))):
        raise ValueError("its optimizer has kept numbers that are none")


def _list_values(kept: Mapping[Any, Any]) -> Iterator[Any]:
    """Of all parameters; some optimizers keep what is in 8 bits in a mapping of its own."""
    for value in kept.values():
        if isinstance(value, Mapping):
            yield from _list_values(value)
        else:
            yield value


def check_values(values: Mapping[str, Any], like: object) -> None:
    """Raises ValueError where they are not what a dataclass' fields take; what is missing is not looked at."""
    for name, wanted in typing.get_type_hints(type(like)).items():
        kinds = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
        if name in values and not any(_is_of(values[name], kind) for kind in kinds):
            raise ValueError(f"its {name} is none")


def check_best(best: Mapping[str, Any] | None, adapters: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Raises an error where the best adapter so far is none for these layers, or has numbers that are none."""
    if best is None:
        return
    if _shapes(best["tensors"]) != _shapes(adapters):
        raise ValueError("its best adapter is another run's")
    if not all(_is_finite(tensor) for parts in best["tensors"].values() for tensor in parts.values()):
        raise ValueError("its best adapter has numbers that are none")


def _shapes(tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, torch.Size]]:
    return {name: {part: tensor.shape for part, tensor in parts.items()} for name, parts in tensors.items()}


def _is_of(value: Any, kind: type) -> bool:
    if typing.is_typeddict(kind):
        fields = typing.get_type_hints(kind)
        return isinstance(value, dict) and value.keys() == fields.keys() and all(_is_of(value[name], fields[name]) for name in fields)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and math.isfinite(value)
    return isinstance(value, typing.get_origin(kind) or kind)


def _can_follow(value: Any, fresh: Any) -> bool:
    """Whether a setting that began as ``fresh`` can be this by now."""
    if isinstance(fresh, (tuple, list)):
        return isinstance(value, (tuple, list)) and len(value) == len(fresh) and all(map(_can_follow, value, fresh))
    if isinstance(fresh, (bool, str)):
        return isinstance(value, type(fresh))
    if fresh is None:
        return value is None or isinstance(value, (bool, int, float))
    if isinstance(fresh, (int, float)):
        return isinstance(value, torch.Tensor) and value.numel() == 1 or isinstance(value, (int, float)) and not math.isnan(value)
    return True


def _is_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value.float()).all())
    return not isinstance(value, float) or math.isfinite(value)
