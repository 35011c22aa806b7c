"""Our swap around peft's layers: same numbers as peft's own injection, and nothing left behind."""

import copy

import pytest
import torch
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.interfaces import Target
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.one = nn.Conv2d(8, 8, 1)
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8))

    def forward(self, x):
        return self.inner(self.one(torch.tanh(self.conv(x))).flatten(2).transpose(1, 2))


LAYERS = {"conv": "conv", "one": "one", "lin_a": "inner.0", "lin_b": "inner.2"}


def make_net():
    torch.manual_seed(0)
    return Net().eval()


def adapters_for(net, kind="lora", rank=4, alpha=2.0, **options):
    targets = {name: Target(net.get_submodule(path), rank, alpha, 1e-3) for name, path in LAYERS.items()}
    return AdapterSet(targets, kind, **options)


def randomise(adapters):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


PEFT = {
    "lora": lambda names: LoraConfig(r=4, lora_alpha=2, target_modules=names),
    "rslora": lambda names: LoraConfig(r=4, lora_alpha=2, target_modules=names, use_rslora=True),
    "loha": lambda names: LoHaConfig(r=4, alpha=2, target_modules=names, use_effective_conv2d=True),
    "lokr": lambda names: LoKrConfig(r=4, alpha=4, target_modules=names, use_effective_conv2d=True),  # some versions leave the scale out
    "dora": lambda names: LoraConfig(r=4, lora_alpha=2, target_modules=names, use_dora=True),
}


def name_of(path):
    """Our name and tensor name of a parameter that peft put into the net."""
    name = next(n for n, p in LAYERS.items() if path.startswith(p + "."))
    return name, next(part for part in path.split(".") if part.startswith(("lora", "hada", "lokr")))


@pytest.mark.parametrize("kind", PEFT)
def test_output_and_gradients_equal_pefts(kind):
    net, reference = make_net(), make_net()
    options = {"use_rslora": kind == "rslora", "use_dora": kind == "dora"}
    adapters = adapters_for(net, kind if kind in ("loha", "lokr") else "lora", alpha=4.0 if kind == "lokr" else 2.0, **options)
    randomise(adapters)
    inject_adapter_in_model(PEFT[kind](list(LAYERS.values())), reference, "default")
    theirs = {name: parameter for name, parameter in reference.named_parameters() if parameter.requires_grad}
    ours = adapters.tensors()
    with torch.no_grad():
        for path, parameter in theirs.items():
            name, suffix = name_of(path)
            parameter.copy_(ours[name][suffix].reshape(parameter.shape))
    x = torch.randn(2, 3, 8, 8)
    expected = reference(x)
    expected.square().sum().backward()
    with adapters.attached([net]):
        result = net(x)
        result.square().sum().backward()
    assert torch.allclose(result, expected, atol=1e-6)
    gradients = {key: parameter.grad for key, parameter in adapters.trained}
    assert len(gradients) == len(theirs)
    for path, parameter in theirs.items():
        name, suffix = name_of(path)
        assert torch.allclose(gradients[name, suffix].reshape(parameter.shape), parameter.grad, atol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_adapters_start_the_same_whatever_the_order_of_the_tree(kind):
    """A model in CompVis classes lists its layers in another order than the same model in diffusers classes."""
    net = make_net()
    targets = {name: Target(net.get_submodule(path), 4, 2.0, 1e-3) for name, path in LAYERS.items()}
    one, other = AdapterSet(targets, kind, seed=5), AdapterSet(dict(reversed(targets.items())), kind, seed=5)
    for name, tensors in one.tensors().items():
        for suffix, tensor in tensors.items():
            assert torch.equal(tensor, other.tensors()[name][suffix])
    assert [tuple(p.shape) for p in one.parameters()] == [tuple(p.shape) for p in other.parameters()]  # what optimizers number


def test_everything_is_as_found_after_a_turn():
    net = make_net()
    net.inner.train()
    net.one.weight.requires_grad_(False)
    modules, state = list(net.named_modules()), copy.deepcopy(net.state_dict())
    flags = [p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]
    attributes = [sorted(m.__dict__) for m in net.modules()]
    x = torch.randn(1, 3, 8, 8)
    before = net(x)
    adapters = adapters_for(net)
    for turn in range(3):
        randomise(adapters)
        try:
            with adapters.attached([net]):
                assert [name for name, p in net.named_parameters() if p.requires_grad and "lora" not in name] == []
                net(x).sum().backward()
                if turn == 1:
                    raise ValueError
        except ValueError:
            assert turn == 1
        assert list(net.named_modules()) == modules
        assert ([p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]) == flags
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert torch.equal(net(x), before)
        assert [sorted(m.__dict__) for m in net.modules()] == attributes
        assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
@pytest.mark.parametrize("dora", [False, True])
def test_weight_scales_the_change_of_the_weights(kind, dora):
    if dora and kind != "lora":
        return
    net = make_net()
    adapters = adapters_for(net, kind, use_dora=dora, dora_axis="input")
    randomise(adapters)
    layer, x = net.inner[0], torch.randn(2, 8)
    plain = layer(x)
    with adapters.attached([net]):
        with adapters.at_weight(0.0):
            assert torch.allclose(net.inner[0](x), plain, atol=1e-7)
        full = net.inner[0](x)
        with adapters.at_weight(0.4):
            partly = net.inner[0](x)
        assert torch.equal(net.inner[0](x), full)
    assert not torch.allclose(full, plain, atol=1e-3)
    assert torch.allclose(partly - plain, 0.4 * (full - plain), atol=1e-6)


@pytest.mark.parametrize("path", ["conv", "one", "inner.0"])
def test_dora_follows_the_formula_that_image_programs_apply(path):
    net = make_net()
    layer = net.get_submodule(path)
    adapters = AdapterSet({"x": Target(layer, 4, 2.0, 1e-3)}, use_dora=True, dora_axis="input")
    x = torch.randn(2, layer.weight.shape[1], *([6, 6] if layer.weight.dim() == 4 else []))
    with adapters.attached([net]), torch.no_grad():
        assert torch.allclose(net.get_submodule(path)(x), layer(x), atol=1e-6)  # starts as the base
    randomise(adapters)
    tensors = adapters.tensors()["x"]
    down, up = tensors["lora_A"].flatten(1), tensors["lora_B"].flatten(1)
    weight = layer.weight.detach()
    merged = weight + (2.0 / 4) * (up @ down).reshape(weight.shape)
    columns = merged.transpose(0, 1).flatten(1).norm(dim=1)
    shape = [1, -1] + [1] * (weight.dim() - 2)
    wanted = copy.deepcopy(layer)
    wanted.weight.data = merged * (tensors["dora_scale"] / columns.reshape(shape))
    assert tensors["dora_scale"].shape == (1, weight.shape[1], *[1] * (weight.dim() - 2))
    with adapters.attached([net]), torch.no_grad():
        assert torch.allclose(net.get_submodule(path)(x), wanted(x), atol=1e-5)


@pytest.mark.parametrize("path", ["conv", "one", "inner.0"])
@pytest.mark.parametrize(("dora_axis", "axis"), [("input", 1), ("rows", 0)])
def test_doras_gradients_are_those_of_the_merged_weight(path, dora_axis, axis):
    """With the norm as a constant, which is what the paper and peft do."""
    net = make_net()
    layer = net.get_submodule(path)
    adapters = AdapterSet({"x": Target(layer, 4, 2.0, 1e-3)}, use_dora=True, dora_axis=dora_axis)
    randomise(adapters)
    x = torch.randn(2, layer.weight.shape[1], *([6, 6] if layer.weight.dim() == 4 else []), requires_grad=True)
    parameters = {tensor: parameter for (_, tensor), parameter in adapters.trained}
    wanted = [x, *parameters.values()]
    with adapters.attached([net]):
        ours = torch.autograd.grad(net.get_submodule(path)(x).square().sum(), wanted)
    change = parameters["lora_B"].flatten(1) @ parameters["lora_A"].flatten(1)
    merged = layer.weight.detach() + (2.0 / 4) * change.reshape(layer.weight.shape)
    norm = torch.linalg.vector_norm(merged, dim=[a for a in range(merged.dim()) if a != axis], keepdim=True).detach()
    weight = merged * (parameters["dora_scale"] / norm)
    answer = torch.func.functional_call(layer, {"weight": weight, "bias": layer.bias.detach()}, (x,))
    for one, other in zip(ours, torch.autograd.grad(answer.square().sum(), wanted), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_ranks_alphas_and_rates_are_each_targets_own():
    net = make_net()
    targets = {"a": Target(net.inner[0], 2, 2.0, 1e-3), "b": Target(net.inner[2], 6, 3.0, 5e-4)}
    adapters = AdapterSet(targets)
    assert [adapters.tensors()[n]["lora_A"].shape[0] for n in "ab"] == [2, 6]
    assert sorted(g["lr"] for g in adapters.parameter_groups()) == [5e-4, 1e-3]
    assert adapters.layers["a"].scaling["default"] == 1.0 and adapters.layers["b"].scaling["default"] == 0.5


def test_half_precision_base_gets_fp32_adapters_and_the_same_start_for_the_same_seed():
    net = make_net().half()
    first, second = adapters_for(net, seed=5), adapters_for(net, seed=5)
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), adapters_for(net, seed=6).parameters(), strict=True))


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_norms_are_limited(kind):
    net = make_net()
    adapters = adapters_for(net, kind)
    randomise(adapters)
    before = {name: layer.get_delta_weight("default").detach().clone() for name, layer in adapters.layers.items()}
    bound = sorted(d.norm().item() for d in before.values())[1] * 1.0001
    assert adapters.limit_norms(bound) == 2
    for name, layer in adapters.layers.items():
        ratio = min(1.0, bound / before[name].norm().item())
        assert torch.allclose(layer.get_delta_weight("default"), before[name] * ratio, atol=1e-5)


def test_lokr_is_scaled_by_alpha_over_rank():
    net = make_net()
    adapters = adapters_for(net, "lokr", alpha=1.0)
    randomise(adapters)
    tensors = adapters.tensors()["lin_a"]
    wanted = torch.kron(tensors["lokr_w1"], tensors["lokr_w2"]) * (1.0 / 4)
    assert torch.allclose(adapters.layers["lin_a"].get_delta_weight("default"), wanted, atol=1e-6)


def test_a_model_that_changed_between_turns_is_noticed():
    net = make_net()
    adapters = adapters_for(net)
    with adapters.attached([net]):
        pass
    net.inner[0] = nn.Linear(8, 16)
    with pytest.raises(RuntimeError, match="changed between turns"), adapters.attached([net]):
        pass
