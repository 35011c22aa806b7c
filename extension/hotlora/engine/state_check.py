"""Whether what a state holds can be gone on from, beyond being what was once written: values of the right kinds, and finite ones.

What optimizers keep for themselves is theirs: it differs between them, between parameters and between versions, and is only looked at for
numbers that are none.
"""

import math
import types
import typing
from collections.abc import Iterable, Mapping
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
    kept = [value for part in state["state"].values() for value in part.values()]
    if not all(map(_is_finite, kept)):
        raise ValueError("its optimizer has kept numbers that are none")


def check_values(values: Mapping[str, Any], like: object) -> None:
    """Raises ValueError where they are not what a dataclass' fields take; what is missing is not looked at."""
    for name, wanted in typing.get_type_hints(type(like)).items():
        kinds = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
        if name in values and not any(_is_of(values[name], typing.get_origin(kind) or kind) for kind in kinds):
            raise ValueError(f"its {name} is none")


def _is_of(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and math.isfinite(value)
    return isinstance(value, kind)


def _can_follow(value: Any, fresh: Any) -> bool:
    """Whether a setting that began as ``fresh`` can be this by now."""
    if isinstance(fresh, (tuple, list)):
        return isinstance(value, (tuple, list)) and len(value) == len(fresh) and all(map(_can_follow, value, fresh))
    if isinstance(fresh, (int, float)) and not isinstance(fresh, bool):
        return isinstance(value, torch.Tensor) and value.numel() == 1 or isinstance(value, (int, float)) and not math.isnan(value)
    return True


def _is_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value.float()).all())
    return not isinstance(value, float) or math.isfinite(value)
