"""Optimizers and schedules: the library that was asked for, and a sentence where it cannot run."""

import math

import pytest
import torch
from hotlora.engine.config import OPTIMIZERS, RunConfig
from hotlora.engine.errors import UserError
from hotlora.engine.optimizers import build_optimizer, build_scheduler
from hotlora.engine.options import build

CPU = torch.device("cpu")


def make(**options):
    config = build(RunConfig, options)
    parameter = torch.nn.Parameter(torch.ones(4))
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
    assert bool(warnings) == ("8bit" in name)
    assert description.endswith("AdamW") if "8bit" in name else name.lower() in description.lower()


def test_8bit_says_why_it_cannot_run_here():
    *_, warnings = make(optimizer="PagedAdamW8bit")
    assert "NVIDIA GPU" in warnings[0] and "AdamW is used" in warnings[0]


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
