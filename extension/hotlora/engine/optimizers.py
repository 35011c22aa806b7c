"""Optimizers and learning-rate schedules, all from libraries. Imports each library only when it is chosen."""

import contextlib
import importlib
import inspect
import io
import warnings as _warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .config import RunConfig
from .errors import UserError
from .libraries import wait_for_libraries
from .settling import sets_own_rates

_SOURCES = {  # option -> module, class, fixed arguments
    "AdamW": ("torch.optim", "AdamW", {}),
    "AdamW8bit": ("bitsandbytes.optim", "AdamW8bit", {}),
    "PagedAdamW8bit": ("bitsandbytes.optim", "PagedAdamW8bit", {}),
    "Lion": ("lion_pytorch", "Lion", {}),
    "Prodigy": ("prodigyopt", "Prodigy", {"use_bias_correction": True, "safeguard_warmup": True}),
    "Adafactor": ("transformers.optimization", "Adafactor", {"scale_parameter": False, "relative_step": False}),
    "AdamWScheduleFree": ("schedulefree", "AdamWScheduleFree", {}),
}
_EIGHT_BIT = ("AdamW8bit", "PagedAdamW8bit")
_ONLY_EIGHT_BIT = ("optim_bits", "args", "min_8bit_size", "percentile_clipping", "block_wise", "is_paged")
_KEPT_IN_8_BITS = 4096  # so many numbers or more in one tensor
_PACKAGES = {"lion_pytorch": "lion-pytorch", "prodigyopt": "prodigyopt", "schedulefree": "schedulefree"}


def build_optimizer(config: RunConfig, groups: list[dict], device: torch.device) -> tuple[torch.optim.Optimizer, str, list[str]]:
    """The optimizer over parameter groups that carry their own ``lr``.

    Returns:
        the optimizer, its description as sd-scripts writes it (``module.Class(k=v,...)``), and warnings for people.

    Raises:
        UserError: when its package is not installed, or for arguments it does not take.
    """
    name, given, warnings = config.optimizer, dict(config.optimizer_args), list[str]()
    if name in _EIGHT_BIT:
        name, given, warnings = _choose_eight_bit(name, given, device)
    optimizer_class, fixed = _find_class(name)
    arguments = {"lr": None if sets_own_rates(config) else config.learning_rate, "weight_decay": config.weight_decay, **fixed}
    if name == "AdamWScheduleFree":
        arguments["warmup_steps"] = config.warmup_steps
    arguments.update({key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
    _check_names(name, optimizer_class, arguments)
    optimizer = _construct(name, lambda: _make(optimizer_class, groups, arguments), given)
    shown = ",".join(f"{key}={value}" for key, value in {**fixed, **given}.items())
    return optimizer, f"{optimizer_class.__module__}.{optimizer_class.__name__}" + (f"({shown})" if shown else ""), warnings


def _choose_eight_bit(name: str, given: Mapping[str, Any], device: torch.device) -> tuple[str, dict[str, Any], list[str]]:
    """The optimizer that can run there, those arguments that it takes, and warnings."""
    problem, told = _why_no_bitsandbytes(name, device), []
    if problem:
        told.append(f"{name} cannot run here: {problem}. AdamW is used; it learns the same and takes a little more memory.")
        name = "AdamW"
    elif name.startswith("Paged") and device.type == "cpu":
        told.append(f"{name} has nothing to page on a processor: it learns as {name.removeprefix('Paged')} does.")
    known = inspect.signature(_find_class(name)[0]).parameters
    left_out = [key for key in given if key in _ONLY_EIGHT_BIT and key not in known]
    if left_out:
        told.append(f"Not used, because {name} has no such arguments here: {', '.join(left_out)} of optimizer_args.")
    return name, {key: value for key, value in given.items() if key not in left_out}, told


def _make(optimizer_class: Any, groups: list[dict], arguments: Mapping[str, Any]) -> torch.optim.Optimizer:
    """AdamW in one pass over all tensors where this torch has that for their device, unless the arguments say how it computes."""
    if optimizer_class is torch.optim.AdamW and not any(way in arguments for way in ("fused", "foreach", "capturable", "differentiable")):
        with contextlib.suppress(RuntimeError):
            return torch.optim.AdamW([dict(group) for group in groups], fused=True, **arguments)
    return optimizer_class(groups, **arguments)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on from a state, in the way that this computer computes: it may have been written on another."""
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved.update({key: own[key] for key in ("fused", "foreach", "weight_decay") if key in own})
    optimizer.load_state_dict(state)


def try_optimizer(config: RunConfig) -> None:
    """Take two steps with the optimizer and its schedule on a handful of numbers, so that what cannot work is said before
    anything slow starts. The host may be drawing meanwhile, so torch's random numbers must not be put back to where they were.

    Raises:
        UserError: as :func:`build_optimizer`, and where it fails in a step.
    """
    wait_for_libraries()
    rates = sorted({rate for rate in config.learning_rates() if rate}) or [config.learning_rate]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # some arguments and libraries only work there
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2, device=device))], "lr": rate} for rate in rates]
    optimizer, _, _ = build_optimizer(config, groups, device)

    def step() -> None:
        scheduler = build_scheduler(config, optimizer, 2)
        getattr(optimizer, "train", lambda: None)()
        for _ in range(2):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.full_like(parameter, 0.1)
            optimizer.step()
            scheduler.step()

    _construct(config.optimizer, step, config.optimizer_args)


def _find_class(name: str) -> tuple[type, dict[str, Any]]:
    """The optimizer's class and its fixed arguments. Raises UserError where its package is not installed."""
    module_name, class_name, fixed = _SOURCES[name]
    try:
        return getattr(importlib.import_module(module_name), class_name), fixed
    except ImportError:
        package = _PACKAGES.get(module_name, module_name)
        raise UserError(f"cannot use the optimizer {name}: the package {package} is not installed. Install it, or use AdamW.") from None


def _check_names(name: str, optimizer_class: type, arguments: Mapping[str, Any]) -> None:
    known = [key for key in inspect.signature(optimizer_class).parameters if key not in ("params", "lr")]
    for key in arguments:
        if key not in known and key != "lr":
            raise UserError(f"cannot give {name} the argument '{key}': it takes {', '.join(known)}. Correct optimizer_args.")


def _construct(name: str, make: Callable[[], Any], given: Mapping[str, Any]) -> Any:
    """What ``make`` makes. With arguments of the user's own every failure is theirs to mend; some libraries end the program."""
    try:
        with _warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as said:
            return make()
    except (Exception, SystemExit) as error:
        if not given or isinstance(error, UserError):
            raise
        reason = " ".join(str(error if not isinstance(error, SystemExit) else said.getvalue() or "it ended the program").split())
        shown = ", ".join(f"{key}: {value}" for key, value in given.items())
        raise UserError(
            f"cannot use {name} with optimizer_args {{{shown}}}: {reason or type(error).__name__}. Correct or remove them."
        ) from None


def _why_no_bitsandbytes(name: str, device: torch.device) -> str | None:
    """Found out with a step on numbers that it keeps in 8 bits: versions differ in the devices that they compute on."""
    try:
        parameter = torch.nn.Parameter(torch.ones(_KEPT_IN_8_BITS, device=device))
        parameter.grad = torch.ones_like(parameter)
        with _warnings.catch_warnings():
            _warnings.simplefilter("ignore")
            _find_class(name)[0]([parameter], lr=0.1).step()
    except UserError:
        return "the package bitsandbytes is not installed"
    except (RuntimeError, OSError, NotImplementedError, AttributeError) as error:  # a build without this CUDA version fails in many ways
        return f"bitsandbytes does not compute on {device.type} here ({(str(error) or type(error).__name__).splitlines()[0]})"
    return None if bool((parameter < 1).all()) else f"bitsandbytes does not compute on {device.type} here"


def build_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer, total_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate as a factor over ``total_steps`` optimizer steps, from transformers' schedules."""
    from transformers import optimization as schedules

    if sets_own_rates(config):
        return _OwnRates(optimizer)
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
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _fall(step, warmup, total_steps, config.scheduler_power))


def _fall(step: int, warmup: int, total_steps: int, power: float) -> float:
    """From 0 to 1 over the warm-up, then down to 0 along a power of what is left. (transformers' own refuses a rate of 0.)"""
    if step < warmup:
        return step / warmup
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup)) ** power


class _OwnRates(torch.optim.lr_scheduler.LRScheduler):
    """Reports the rates that the optimizer chooses by itself."""

    optimizer: Any  # transformers' Adafactor

    def get_lr(self) -> list[float | torch.Tensor]:
        states = [self.optimizer.state.get(group["params"][0]) for group in self.optimizer.param_groups]
        pairs = zip(self.optimizer.param_groups, states, strict=True)
        return [float(self.optimizer._get_lr(group, state)) if state else 0.0 for group, state in pairs]


def build_scaler(device: torch.device, dtype: torch.dtype):
    """A gradient scaler, which does something only for fp16."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return torch.cuda.amp.GradScaler(enabled=dtype == torch.float16 and device.type == "cuda")
