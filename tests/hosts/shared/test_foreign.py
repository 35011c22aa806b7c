"""Other extensions' hooks: told from the program's own, off for a turn, and back as the same objects in the same order."""

import functools
import sys
from types import ModuleType

import pytest
import torch
from hotlora.hosts.shared.foreign import LIBRARIES, find_irremovable, foreign_hooks_off, is_own, name_foreign, name_owner
from torch import nn
from torch.nn.utils import parametrize

OWN = LIBRARIES | {"modules"}
SOURCE = """
import functools
from torch import nn

def hook(module, inputs, output=None):
    return None

def doubled(function):
    def forward(*inputs):
        return function(*inputs) * 2
    return forward

def wrapped(function):
    @functools.wraps(function)
    def forward(*inputs):
        return function(*inputs) * 2
    return forward

class Lora(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.found = layer.forward
    def forward(self, x):
        return self.found(x) * 2

class Caller:
    def __init__(self, function=None):
        self.function = function
    def __call__(self, *inputs):
        return self.function(*inputs) * 2 if self.function else None
    def called(self, module, inputs, output=None):
        return None

class Bare(nn.Linear):
    pass

class Halving(nn.Module):
    def forward(self, weight):
        return weight / 2
"""


def make_python_module(monkeypatch, name, file, registered=True):
    made = ModuleType(name)
    exec(compile(SOURCE, file, "exec"), vars(made))
    if registered:
        monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.fixture
def host(monkeypatch):
    """One of the program's own Python modules."""
    return make_python_module(monkeypatch, "modules.lowvram", "/webui/modules/lowvram.py")


@pytest.fixture
def guest(monkeypatch):
    """An extension's."""
    return make_python_module(monkeypatch, "scripts.lora_compvis", "C:\\webui\\extensions\\additional-networks\\scripts\\lora_compvis.py")


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), nn.Conv1d(3, 3, 1)).eval()


def snapshot(net):
    """All that can be seen of hooks and forwards, with the objects' identities."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    hooks = [[(id(getattr(m, kind)), [(key, id(hook)) for key, hook in getattr(m, kind).items()]) for kind in kinds] for m in net.modules()]
    return hooks, [{name: id(value) for name, value in vars(m).items() if name.endswith("forward")} for m in net.modules()]


FORWARDS = {
    "a function": lambda guest, layer: guest.doubled(layer.forward),
    "a function that took the class's name": lambda guest, layer: guest.wrapped(layer.forward),
    "a method of a layer of theirs": lambda guest, layer: guest.Lora(layer).forward,
    "an object that is called": lambda guest, layer: guest.Caller(layer.forward),
    "a partial": lambda guest, layer: functools.partial(guest.Caller(layer.forward)),
    "behind a decorator of torch": lambda guest, layer: torch.no_grad()(guest.doubled(layer.forward)),
    "a method that they inherited from torch": lambda guest, layer: guest.Bare(3, 3).forward,
    "another layer's": lambda guest, layer: nn.Linear(3, 3).forward,
}


@pytest.mark.parametrize("kind", FORWARDS)
def test_a_foreign_forward_is_off_for_the_turn_and_back_as_the_same_object(net, guest, kind):
    x, layer = torch.randn(2, 3), net[1][0]
    plain = layer(x)
    layer.forward = FORWARDS[kind](guest, layer)
    changed, before = layer(x), snapshot(net)
    assert not torch.equal(changed, plain)
    with foreign_hooks_off(net.modules(), OWN):
        assert torch.equal(layer(x), plain)
        assert "forward" not in vars(layer)
    assert snapshot(net) == before
    if kind != "another layer's" and "inherited" not in kind:
        assert torch.equal(layer(x), changed)


def test_foreign_hooks_are_off_for_the_turn_and_back_in_the_same_order(net, host, guest):
    layer = net[0]
    for owner in (host, guest, host, guest):
        layer.register_forward_pre_hook(owner.hook)
        layer.register_forward_hook(owner.Caller())
        layer.register_forward_hook(owner.Caller().called, with_kwargs=False)
        layer.register_full_backward_hook(owner.hook)
    before = snapshot(net)
    with pytest.raises(ZeroDivisionError), foreign_hooks_off(net.modules(), OWN):
        assert list(layer._forward_pre_hooks.values()) == [host.hook] * 2
        assert len(layer._forward_hooks) == 4 and len(layer._backward_hooks) == 2
        assert all(is_own(hook, OWN) for hook in layer._forward_hooks.values())
        1 / 0  # noqa: B018
    assert snapshot(net) == before


def test_what_changes_during_the_turn_stays_changed(net, guest):
    layer, other = net[0], net[1][0]
    layer.forward = other.forward = guest.doubled(layer.forward)
    first = layer.register_forward_hook(guest.hook)
    second = layer.register_forward_hook(guest.Caller())
    with foreign_hooks_off(net.modules(), OWN):
        newer = other.forward = guest.doubled(other.forward)
        third = layer.register_forward_hook(guest.Caller())
    assert other.forward is newer
    assert list(layer._forward_hooks) == [first.id, second.id, third.id]


def test_the_programs_own_keep_working(net, host, guest):
    calls = []
    net[0].register_forward_pre_hook(host.hook)
    net[0].forward = host.doubled(net[0].forward)
    net[1][0].register_forward_hook(torch.nn.utils.weight_norm)  # whatever torch's own utilities hook in
    net[1][1].forward = net[1][1].forward  # its class's, as others leave it when they go
    before = snapshot(net)
    with foreign_hooks_off(net.modules(), OWN):
        assert snapshot(net) == before
    assert not name_foreign(net.modules(), OWN) and not calls


def test_a_built_in_extension_is_the_programs_own_and_a_script_is_not_what_it_calls_itself(monkeypatch, net):
    built_in = make_python_module(monkeypatch, "hypertile_script.py", "/webui/extensions-builtin/hypertile/scripts/x.py", registered=False)
    script = make_python_module(monkeypatch, "modules.py", "/webui/extensions/other/scripts/modules.py", registered=False)
    assert is_own(built_in.hook, OWN) and is_own(built_in.Caller(), OWN)
    assert not is_own(script.hook, OWN) and not is_own(script.Caller(), OWN)
    assert name_owner(script.Caller()) == "the extension other (modules.py)"


def test_who_it_is_is_named_once(net, guest, monkeypatch):
    other = make_python_module(monkeypatch, "their_library.hooks", "/venv/site-packages/their_library/hooks.py")
    for layer in (net[0], net[1][0]):
        layer.forward = guest.Lora(layer).forward
    net[0].register_forward_hook(other.hook)
    assert name_foreign(net.modules(), OWN) == [
        "the Python module their_library.hooks",
        "the extension additional-networks (scripts.lora_compvis)",
    ]


class Foreign(nn.Parameter):
    pass


def shadow(layer, guest):
    weight = layer.weight.detach() * 2
    vars(layer)["weight"] = weight


IRREMOVABLE = {
    "a parametrization": (lambda layer, guest: parametrize.register_parametrization(layer, "weight", guest.Halving()), "lora_compvis"),
    "a tensor before the weight": (shadow, "an extension"),
    "a parameter of another class": (lambda layer, guest: setattr(layer, "weight", Foreign(layer.weight.data)), __name__),
    "a mark of merged weights": (lambda layer, guest: setattr(layer, "_merged", {}), "merger"),
    "over accelerate's": (
        lambda layer, guest: (setattr(layer, "_hf_hook", object()), setattr(layer, "forward", guest.doubled(layer.forward))),
        "additional-networks",
    ),
}


@pytest.mark.parametrize("kind", IRREMOVABLE)
def test_what_cannot_be_put_back_bit_for_bit_is_told_with_whose_it_is(net, guest, kind):
    spoil, owner = IRREMOVABLE[kind]
    find = functools.partial(find_irremovable, own=OWN, marks={"_merged": "the extension merger"})
    assert find(net.modules()) is None
    spoil(net[1][0], guest)
    assert owner in find(net.modules())


def test_torchs_own_ways_of_computing_a_weight_are_the_models(net):
    torch.nn.utils.parametrizations.spectral_norm(net[0])
    torch.nn.utils.weight_norm(net[1][0])
    assert find_irremovable(net.modules(), OWN, {}) is None
    net[0].forward = net[0].forward
    assert find_irremovable(net.modules(), OWN, {}) is None
