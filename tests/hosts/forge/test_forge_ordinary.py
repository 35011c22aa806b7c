"""Weights as autograd takes them, over the same numbers, whatever inference mode has done to them."""

import pytest
import torch
from hotlora.hosts.forge.ordinary import is_ordinary, make_ordinary
from torch import nn


def born_in_inference_mode():
    with torch.inference_mode():
        return nn.Linear(3, 3)


def born_there_and_moved():
    layer = born_in_inference_mode()
    return layer.to(torch.float64)


def moved_there():
    layer = nn.Linear(3, 3)
    with torch.inference_mode():
        return layer.to(torch.float64)


STATES = [born_in_inference_mode, born_there_and_moved, moved_there, lambda: nn.Linear(3, 3)]


@pytest.mark.parametrize("make", STATES)
def test_a_gradient_passes_and_no_number_is_copied(make):
    layer = make().requires_grad_(False)
    place, numbers = layer.weight.data_ptr(), layer.weight.tolist()
    make_ordinary([layer])
    assert all(map(is_ordinary, layer.parameters()))
    assert layer.weight.data_ptr() == place and layer.weight.tolist() == numbers
    x = torch.randn(2, 3, dtype=layer.weight.dtype, requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("make", STATES[:3])
def test_without_it_no_gradient_passes(make):
    layer = make()
    with pytest.raises(RuntimeError, match=r"[Ii]nference"):
        layer(torch.randn(2, 3, dtype=layer.weight.dtype, requires_grad=True)).square().sum().backward()


def test_what_is_trained_stays_the_object_that_the_optimizer_knows():
    layer = nn.Linear(3, 3)
    known = list(layer.parameters())
    optimizer = torch.optim.AdamW(known)
    with torch.inference_mode():
        layer.to(torch.float64).to(torch.float32)
    make_ordinary([layer])
    assert all(now is before and now.requires_grad for now, before in zip(layer.parameters(), known, strict=True))
    before = layer.weight.tolist()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    assert layer.weight.tolist() != before


def test_one_object_in_two_places_stays_one_and_buffers_count():
    tree = nn.Module()
    with torch.inference_mode():
        tree.first, tree.second = nn.Embedding(4, 2), nn.Module()
        tree.second.weight = tree.first.weight
        tree.register_buffer("ids", torch.arange(3))
    make_ordinary([tree, tree])
    assert tree.second.weight is tree.first.weight
    assert is_ordinary(tree.ids) and tree.ids.tolist() == [0, 1, 2]
