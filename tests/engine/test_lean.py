"""The shorter forward of plain LoRA layers: peft's own numbers but for rounding, whatever the shapes and precisions."""

import contextlib

import pytest
import torch
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.interfaces import Target
from torch import nn

LAYERS = {
    "rows": (lambda: nn.Linear(12, 20), (5, 12)),
    "tokens": (lambda: nn.Linear(12, 20, bias=False), (2, 7, 12)),
    "empty": (lambda: nn.Linear(12, 20), (0, 12)),
    "one by one": (lambda: nn.Conv2d(12, 20, 1), (3, 12, 6, 4)),
    "strided": (lambda: nn.Conv2d(12, 20, 1, stride=2), (3, 12, 6, 4)),
    "three by three": (lambda: nn.Conv2d(12, 20, 3, stride=2, padding=1), (3, 12, 6, 4)),
    "dilated": (lambda: nn.Conv2d(12, 20, 3, dilation=2, padding="same"), (2, 12, 8, 8)),
}
# base's precision, the input's, autocast's, and how far apart numbers of about 1 may be
PRECISIONS = {
    "fp32": (torch.float32, torch.float32, None, 1e-5),
    "bf16 by autocast": (torch.float32, torch.float32, torch.bfloat16, 4e-2),
    "bf16 base, bf16 input": (torch.bfloat16, torch.bfloat16, torch.bfloat16, 4e-2),
    "bf16 base without autocast": (torch.bfloat16, torch.bfloat16, None, 4e-2),
}


def build(make, dtype):
    torch.manual_seed(0)
    layer = make().to(dtype).requires_grad_(False)
    adapters = AdapterSet({"layer": Target(layer, 4, 2.0, 1e-3)})
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.normal_(0, 0.3)
    return adapters, adapters.layers["layer"]


def answer_of(forward, x, dtype, parameters):
    """Answer, and the gradients of input and adapter."""
    x = x.clone().requires_grad_(True)
    with torch.autocast("cpu", dtype) if dtype else contextlib.nullcontext():
        answer = forward(x)
    weights = torch.linspace(-1, 1, answer.numel()).view_as(answer)
    return answer, torch.autograd.grad((answer.float() * weights).sum(), [x, *parameters])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_it_computes_what_peft_does(name, precision):
    make, shape = LAYERS[name]
    base, given, cast, limit = PRECISIONS[precision]
    adapters, layer = build(make, base)
    assert "forward" in vars(layer)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(given)
    ours, our_gradients = answer_of(layer, x, cast, adapters.parameters())
    theirs, their_gradients = answer_of(lambda x: type(layer).forward(layer, x), x, cast, adapters.parameters())
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    for one, other in zip([ours, *our_gradients], [theirs, *their_gradients], strict=True):
        assert one.dtype == other.dtype
        scale = other.abs().max().item() if other.numel() else 1.0
        assert torch.allclose(one, other, atol=limit * max(scale, 1.0), rtol=0)


def test_what_has_more_to_it_keeps_pefts():
    layers = {"dropout": {"dropout": 0.5}, "dora": {"use_dora": True}, "other kind": {"kind": "loha"}}
    for options in layers.values():
        adapters = AdapterSet({"layer": Target(nn.Linear(8, 8), 4, 2.0, 1e-3)}, **options)
        assert "forward" not in vars(adapters.layers["layer"])
