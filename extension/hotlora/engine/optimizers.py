"""Optimizers and learning-rate schedules, all from libraries. Imports each library only when it is chosen."""

import importlib
import inspect
from typing import Any

import torch

from .config import RunConfig
from .errors import UserError

_SOURCES = {  # option -> module, class, fixed arguments
    "AdamW": ("torch.optim", "AdamW", {}),
    "AdamW8bit": ("bitsandbytes.optim", "AdamW8bit", {}),
    "PagedAdamW8bit": ("bitsandbytes.optim", "PagedAdamW8bit", {}),
    "Lion": ("lion_pytorch", "Lion", {}),
    "Prodigy": ("prodigyopt", "Prodigy", {"use_bias_correction": True, "safeguard_warmup": True}),
    "Adafactor": ("transformers.optimization", "Adafactor", {"scale_parameter": False, "relative_step": False}),
    "AdamWScheduleFree": ("schedulefree", "AdamWScheduleFree", {}),
}
_PACKAGES = {"lion_pytorch": "lion-pytorch", "prodigyopt": "prodigyopt", "schedulefree": "schedulefree"}


def build_optimizer(config: RunConfig, groups: list[dict], device: torch.device) -> tuple[torch.optim.Optimizer, str, list[str]]:
    """The optimizer over parameter groups that carry their own ``lr``.

    Returns:
        the optimizer, its description as sd-scripts writes it (``module.Class(k=v,...)``), and warnings for people.

    Raises:
        UserError: when its package is not installed, or for arguments it does not take.
    """
    name, warnings = config.optimizer, []
    if name in ("AdamW8bit", "PagedAdamW8bit"):
        problem = _why_no_bitsandbytes(device)
        if problem:
            warnings.append(f"{name} cannot run here: {problem}. AdamW is used; it learns the same and takes a little more memory.")
            name = "AdamW"
    module_name, class_name, fixed = _SOURCES[name]
    try:
        optimizer_class = getattr(importlib.import_module(module_name), class_name)
    except ImportError:
        package = _PACKAGES.get(module_name, module_name)
        raise UserError(f"cannot use the optimizer {name}: the package {package} is not installed. Install it, or use AdamW.") from None
    arguments = {"lr": config.learning_rate, "weight_decay": config.weight_decay, **fixed}
    if name == "AdamWScheduleFree":
        arguments["warmup_steps"] = config.warmup_steps
    arguments.update(_with_tuples(config.optimizer_args))
    known = inspect.signature(optimizer_class).parameters
    for key in arguments:
        if key not in known:
            raise UserError(f"cannot give {name} the argument '{key}': it takes {', '.join(k for k in known if k != 'params')}.")
    optimizer = optimizer_class(groups, **arguments)
    shown = ",".join(f"{key}={value}" for key, value in {**fixed, **config.optimizer_args}.items())
    return optimizer, f"{optimizer_class.__module__}.{class_name}" + (f"({shown})" if shown else ""), warnings


def _with_tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


def _why_no_bitsandbytes(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"8-bit optimizers need an NVIDIA GPU, and the model is on {device.type}"
    try:
        importlib.import_module("bitsandbytes")
    except (ImportError, RuntimeError, OSError) as error:  # a build without this CUDA version fails in many ways
        return f"bitsandbytes does not load ({str(error).splitlines()[0]})"
    return None


def build_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer, total_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate as a factor over ``total_steps`` optimizer steps, from transformers' schedules."""
    from transformers import optimization as schedules

    if config.optimizer == "AdamWScheduleFree":
        return schedules.get_constant_schedule(optimizer)  # it averages instead, and does its own warm-up
    warmup = min(config.warmup_steps, total_steps)
    if config.scheduler == "constant":
        return schedules.get_constant_schedule_with_warmup(optimizer, warmup)
    if config.scheduler == "linear":
        return schedules.get_linear_schedule_with_warmup(optimizer, warmup, total_steps)
    if config.scheduler == "cosine":
        return schedules.get_cosine_schedule_with_warmup(optimizer, warmup, total_steps)
    if config.scheduler == "cosine_with_restarts":
        return schedules.get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, warmup, total_steps, config.scheduler_cycles)
    return schedules.get_polynomial_decay_schedule_with_warmup(optimizer, warmup, total_steps, 0.0, config.scheduler_power)


def build_scaler(device: torch.device, dtype: torch.dtype):
    """A gradient scaler, which does something only for fp16."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return torch.cuda.amp.GradScaler(enabled=dtype == torch.float16 and device.type == "cuda")
