"""Linear layers of a class that peft does not know are adapted as torch's own are."""

import pytest
import torch
import torch.nn.functional as F
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.interfaces import Target
from hotlora.engine.linear import as_linear, is_linear
from torch import nn


class Odd(nn.Module):
    def __init__(self, plain):
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = nn.Parameter(plain.weight.detach().clone()), nn.Parameter(plain.bias.detach().clone())

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


KINDS = {
    "lora": {},
    "dropout": {"dropout": 0.5},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora-input": {"use_dora": True, "dora_axis": "input"},
    "pissa": {"start": "pissa"},
    "loha": {"kind": "loha"},
    "lokr": {"kind": "lokr"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_gradients_are_those_of_torchs_class(kind):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8))
    odd, x, found = nn.Sequential(Odd(plain[0])), torch.randn(3, 6), []
    for net in (plain, odd):
        adapters = AdapterSet({"layer": Target(net[0], 2, 2, 1e-3)}, **KINDS[kind])
        for parameter in adapters.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        before, layer = net(x), net[0]
        with adapters.attached([net]):
            adapters.set_training(True)
            torch.manual_seed(2)
            answer = net(x)
            answer.square().sum().backward()
        assert net[0] is layer and torch.equal(net(x), before) and not torch.equal(answer, before)
        found.append((answer, [parameter.grad for parameter in adapters.parameters()], adapters.tensors()))
    (answer, gradients, tensors), (odd_answer, odd_gradients, odd_tensors) = found
    assert torch.equal(answer, odd_answer)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(odd_gradients, gradients, strict=True))
    assert odd_tensors["layer"].keys() == tensors["layer"].keys()


def test_what_is_no_plain_matrix_of_numbers_is_left_to_peft():
    class Packed(nn.Module):
        in_features, out_features = 6, 8

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(24, 1, dtype=torch.uint8), requires_grad=False)

    packed, plain = Packed(), nn.Linear(6, 8)
    assert not is_linear(packed) and as_linear(packed) is packed
    assert as_linear(plain) is plain and not is_linear(nn.Conv2d(1, 1, 1)) and not is_linear(nn.Embedding(8, 6))


def test_other_weights_on_the_held_layer_count_at_once():
    odd = Odd(nn.Linear(6, 8))
    held = as_linear(odd)
    odd.weight = nn.Parameter(torch.ones(8, 6))
    assert torch.equal(held.weight, torch.ones(8, 6)) and torch.equal(held(torch.ones(6)), odd(torch.ones(6)))
