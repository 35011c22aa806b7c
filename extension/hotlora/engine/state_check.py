"""Whether what a state holds can be gone on from, beyond being what was once written: the right parts, of the right kinds, and finite.

Optimizers keep different things, and none before their first step, so what they kept is held against itself: the same of every parameter.
"""

import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import torch


def check_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError for a state that is not of this optimizer over these parameters."""
    fresh = optimizer.state_dict()["param_groups"]
    groups = state["param_groups"]
    if len(groups) != len(fresh) or any(len(old["params"]) != len(new["params"]) for old, new in zip(groups, fresh, strict=True)):
        raise ValueError("its optimizer is another")
    for old, new in zip(groups, fresh, strict=True):
        for key, value in new.items():
            if not _is_like(old[key] if key != "params" else value, value):
                raise ValueError(f"its optimizer's {key} is none")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [(state["state"][place], parameters[place]) for place in sorted(state["state"])]
    if kept and len(kept) != len(parameters):
        raise ValueError("its optimizer lacks parameters")
    if len({str({key: _kind_of(value, parameter) for key, value in sorted(part.items())}) for part, parameter in kept}) > 1:
        raise ValueError("what its optimizer has kept does not fit together")


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
        return isinstance(value, (int, float) if kind is float else int) and math.isfinite(value) and value >= 0
    return isinstance(value, kind)


def _is_like(value: Any, fresh: Any) -> bool:
    if isinstance(fresh, Sequence) and not isinstance(fresh, str):
        return isinstance(value, Sequence) and len(value) == len(fresh) and all(map(_is_like, value, fresh))
    if isinstance(fresh, (int, float)) and not isinstance(fresh, bool):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    return isinstance(value, type(fresh)) or isinstance(value, torch.Tensor) == isinstance(fresh, torch.Tensor) and fresh is None


def _kind_of(value: Any, parameter: torch.Tensor) -> str:
    """What all parameters have alike. Raises ValueError for numbers that are none."""
    if not isinstance(value, torch.Tensor):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("its optimizer has kept numbers that are none")
        return "number" if isinstance(value, (int, float)) else type(value).__name__
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise ValueError("its optimizer has kept numbers that are none")
    shape = "like it" if value.shape == parameter.shape else "one" if value.numel() == 1 else f"{value.dim()} dimensions"
    return f"{value.dtype} {shape}" if value.numel() else "nothing"
