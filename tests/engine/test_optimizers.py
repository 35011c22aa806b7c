"""Optimizers and schedules: the library that was asked for, and a sentence where it cannot run."""

import contextlib
import importlib.util
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from hotlora.engine.config import OPTIMIZERS, RunConfig
from hotlora.engine.errors import UserError
from hotlora.engine.optimizers import build_optimizer, build_scheduler, load_optimizer
from hotlora.engine.options import build
from hotlora.engine.weights import Weights

CPU = torch.device("cpu")


EIGHT_BITS = ("AdamW8bit", "PagedAdamW8bit")
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None  # not among AUTOMATIC1111's packages


def make(size=4, **options):
    config = build(RunConfig, options)
    parameter = torch.nn.Parameter(torch.ones(size))
    optimizer, description, warnings = build_optimizer(config, [{"params": [parameter], "lr": config.learning_rate}], CPU)
    return config, parameter, optimizer, description, warnings


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_the_loss_smaller(name):
    _, parameter, optimizer, description, warnings = make(optimizer=name, learning_rate=1.0 if name == "Prodigy" else 0.01)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(200):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    assert parameter.square().sum() < 4.0 * 0.95
    replaced = name in EIGHT_BITS and not HAS_BITSANDBYTES
    assert bool(warnings) == (replaced or name.startswith("Paged"))
    assert description.endswith("AdamW") if replaced else name.lower() in description.lower()


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_8bit_keeps_its_state_in_8_bits_and_learns_as_adamw_does(name):
    """On a processor, where bitsandbytes is; else it says so and is AdamW."""
    _, exact, plain, *_ = make(size=4096, learning_rate=0.01)
    _, rough, optimizer, _, warnings = make(size=4096, optimizer=name, learning_rate=0.01)
    for _ in range(20):
        for parameter, own in ((exact, plain), (rough, optimizer)):
            own.zero_grad()
            parameter.square().sum().backward()
            own.step()
    assert torch.allclose(rough, exact, atol=2e-3) and exact.max() < 0.9
    assert any(value.dtype == torch.uint8 for value in optimizer.state[rough].values() if torch.is_tensor(value)) == HAS_BITSANDBYTES
    assert HAS_BITSANDBYTES or "the package bitsandbytes is not installed. AdamW is used" in warnings[0]


def test_8bit_says_why_it_cannot_run_here(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    _, _, _, description, warnings = make(optimizer="PagedAdamW8bit", optimizer_args={"min_8bit_size": 16})
    assert "the package bitsandbytes is not installed" in warnings[0] and "AdamW is used" in warnings[0]
    assert "min_8bit_size" in warnings[1] and description.endswith("AdamW")

    class NotHere(torch.optim.SGD):
        def step(self):
            raise NotImplementedError("not on this device")

    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", SimpleNamespace(PagedAdamW8bit=NotHere))
    *_, warnings = make(optimizer="PagedAdamW8bit")
    assert "bitsandbytes does not compute on cpu here (not on this device)" in warnings[0]


def test_arguments_go_through_and_unknown_ones_are_named():
    _, _, optimizer, description, _ = make(optimizer_args={"betas": [0.8, 0.9]})
    assert optimizer.defaults["betas"] == (0.8, 0.9) and "betas=[0.8, 0.9]" in description
    with pytest.raises(UserError, match="argument 'beta'.*betas"):
        make(optimizer_args={"beta": 1})


def rates(scheduler, steps=20, **options):
    config, _, optimizer, _, _ = make(scheduler=scheduler, learning_rate=1.0, **options)
    schedule = build_scheduler(config, optimizer, steps)
    out = []
    for _ in range(steps):
        out.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return out


def test_schedules_follow_their_formulas():
    warmup, total = 4, 20
    progress = [(i - warmup) / (total - warmup) for i in range(warmup, total)]
    rise = [i / warmup for i in range(warmup)]
    assert rates("constant", warmup_steps=4) == pytest.approx(rise + [1.0] * 16)
    assert rates("linear", warmup_steps=4) == pytest.approx(rise + [1 - p for p in progress])
    assert rates("cosine", warmup_steps=4) == pytest.approx(rise + [(1 + math.cos(math.pi * p)) / 2 for p in progress])
    restarts = [(1 + math.cos(math.pi * ((2 * p) % 1))) / 2 for p in progress]
    assert rates("cosine_with_restarts", warmup_steps=4, scheduler_cycles=2) == pytest.approx(rise + restarts)
    assert rates("polynomial", warmup_steps=4, scheduler_power=2.0) == pytest.approx(rise + [(1 - p) ** 2 for p in progress], abs=1e-6)


@pytest.mark.parametrize("given", [{}, {"betas": [0.8, 0.9], "amsgrad": True}])
def test_adamw_in_one_pass_is_adamw(given):
    """Within rounding, over many steps."""
    generator = torch.Generator().manual_seed(0)
    config = build(RunConfig, {"optimizer_args": given, "learning_rate": 1e-2})
    ours, theirs = ([torch.nn.Parameter(torch.randn(7, 5, generator=torch.Generator().manual_seed(i))) for i in range(3)] for _ in range(2))
    optimizer, *_ = build_optimizer(config, [{"params": ours, "lr": 1e-2}], CPU)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    plain = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=config.weight_decay, foreach=False, **arguments)
    for _ in range(100):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(7, 5, generator=generator)
            other.grad = one.grad.clone()
        optimizer.step()
        plain.step()
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(ours, theirs, strict=True))


def test_how_it_computes_is_this_computers_own():
    """A state may have been written where AdamW was computed in another way, and is gone on from bit for bit alike."""
    gradients = [torch.randn(4, generator=torch.Generator().manual_seed(i)) for i in range(6)]

    def go(parameter, optimizer, values):
        for value in values:
            parameter.grad = value.clone()
            optimizer.step()

    _, parameter, optimizer, _, _ = make()
    go(parameter, optimizer, gradients)
    _, resumed, first, _, _ = make()
    go(resumed, first, gradients[:3])
    state = first.state_dict()
    state["param_groups"][0].update(fused=None, foreach=True, weight_decay=0.5)
    _, _, second, _, _ = make()
    own = {key: second.param_groups[0][key] for key in ("fused", "foreach", "weight_decay")}
    second.param_groups[0]["params"] = [resumed]
    load_optimizer(second, state)
    assert {key: second.param_groups[0][key] for key in own} == own
    go(resumed, second, gradients[3:])
    assert torch.equal(resumed, parameter)


def test_an_average_of_few_steps_is_not_of_the_start():
    """By the formula, min(decay, (1 + n) / (10 + n)), from the first step on."""
    values = [torch.full((3,), float(value)) for value in (5, 6, 7, 8)]

    class Adapters:
        def __init__(self):
            self.parameter = torch.nn.Parameter(torch.zeros(3))

        def parameters(self):
            return [self.parameter]

        def at_weight(self, weight):
            return contextlib.nullcontext()

    adapters = Adapters()
    weights = Weights(adapters, torch.optim.SGD(adapters.parameters(), lr=0.1), build(RunConfig, {"ema_decay": 0.99}))
    expected = values[0].clone()
    for number, value in enumerate(values):
        adapters.parameter.data.copy_(value)
        weights.update_average()
        decay = min(0.99, (1 + number) / (10 + number))
        expected = expected * decay + value * (1 - decay) if number else value
    with weights.usable():
        assert torch.allclose(adapters.parameter, expected)
    assert torch.equal(adapters.parameter, values[-1])
