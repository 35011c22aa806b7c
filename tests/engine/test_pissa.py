"""PiSSA against its definition: no change at the start, along the weight's singular vectors, and a plain LoRA of twice the rank."""

import pytest
import torch
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.interfaces import Target
from torch import nn


def make_net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 7))


def make_adapters(net, rank=3, **options) -> AdapterSet:
    return AdapterSet({f"l{i}": Target(net[i], rank, 6.0, 1e-2) for i in (0, 2)}, start="pissa", **options)


@pytest.mark.parametrize("use_rslora", [False, True])
def test_it_starts_at_the_best_approximation_and_changes_nothing(use_rslora):
    net, x = make_net(), torch.randn(5, 12)
    before = net(x)
    adapters = make_adapters(net, use_rslora=use_rslora)
    scale = 6.0 / (3**0.5 if use_rslora else 3)
    for name, (down, up) in adapters.starts().items():
        weight = adapters.targets[name].layer.weight.detach()
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        torch.testing.assert_close(scale * up @ down, (u[:, :3] * s[:3]) @ v[:3], atol=1e-5, rtol=1e-4)
        tensors = adapters.tensors()[name]
        assert torch.equal(tensors["lora_A"], down) and torch.equal(tensors["lora_B"], up)
    with adapters.attached([net]):
        torch.testing.assert_close(net(x), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(net(x), before)


def test_after_training_it_is_the_difference_of_two_plain_updates():
    net, x = make_net(), torch.randn(5, 12)
    adapters = make_adapters(net)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    by_hand = make_net()
    with torch.no_grad():
        for place in (0, 2):
            down, up = adapters.starts()[f"l{place}"]
            trained = adapters.tensors()[f"l{place}"]
            by_hand[place].weight += 2.0 * (trained["lora_B"] @ trained["lora_A"] - up @ down)
    with adapters.attached([net]):
        torch.testing.assert_close(net(x), by_hand(x), atol=1e-5, rtol=1e-4)
        with adapters.at_weight(0.0):
            torch.testing.assert_close(net(x), make_net()(x), atol=1e-5, rtol=1e-4)


def test_only_rank_many_directions_are_trained():
    adapters = make_adapters(make_net())
    assert sum(p.numel() for p in adapters.parameters()) == 3 * (12 + 20) + 3 * (20 + 7)


def test_its_start_can_be_put_back():
    first, second = make_adapters(make_net()), AdapterSet({f"l{i}": Target(make_net()[i], 3, 6.0, 1e-2) for i in (0, 2)})
    assert second.starts() == {}
    second.begin_at(first.starts())
    for name, (down, up) in first.starts().items():
        assert torch.equal(second.starts()[name][0], down) and torch.equal(second.starts()[name][1], up)
