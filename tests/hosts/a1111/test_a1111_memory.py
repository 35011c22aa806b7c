"""VAE and text encoders wait on the CPU while the U-Net trains. Without a GPU: modules write down where they are sent."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hotlora.hosts.a1111.memory import WebuiSpare, needs_room

GPU, GIB = torch.device("cuda:1"), 2**30


class Recorder:
    def __init__(self, device):
        self.device = torch.device(device)

    def parameters(self):
        yield SimpleNamespace(device=self.device)

    def to(self, device):
        self.device = torch.device(device)


@pytest.fixture
def shared(monkeypatch):
    shared = SimpleNamespace(parallel_processing_allowed=True, opts=SimpleNamespace(unload_models_when_training=False))
    package = ModuleType("modules")
    package.shared = shared
    monkeypatch.setitem(sys.modules, "modules", package)
    monkeypatch.setitem(sys.modules, "modules.shared", shared)
    return shared


@pytest.fixture
def modules():
    """VAE, text encoder, and one that the WebUI keeps on the CPU anyway."""
    return [Recorder(GPU), Recorder(GPU), Recorder("cpu")]


def places(modules):
    return [module.device.type for module in modules]


def test_they_are_away_for_the_turn_and_at_hand_when_needed(shared, modules):
    spare = WebuiSpare(modules)
    with spare.at_hand():
        assert places(modules) == ["cuda", "cuda", "cpu"]
    with spare.away():
        assert places(modules) == ["cpu", "cpu", "cpu"] and not shared.parallel_processing_allowed
        with spare.at_hand():
            assert [module.device for module in modules] == [GPU, GPU, torch.device("cpu")]
        assert places(modules) == ["cpu", "cpu", "cpu"]
    assert [module.device for module in modules] == [GPU, GPU, torch.device("cpu")]
    assert shared.parallel_processing_allowed


def test_what_is_not_needed_stays_away_and_what_is_here_is_not_sent_off_in_between(shared, modules):
    vae, encoder, _ = modules
    spare = WebuiSpare(modules)
    with spare.away():
        with spare.at_hand(encoder):
            assert places(modules) == ["cpu", "cuda", "cpu"]
            with spare.at_hand(encoder):
                pass
            assert places(modules) == ["cpu", "cuda", "cpu"]
            with spare.at_hand():
                assert places(modules) == ["cuda", "cuda", "cpu"]
            assert places(modules) == ["cpu", "cuda", "cpu"]
        assert places(modules) == ["cpu", "cpu", "cpu"]
    with spare.at_hand(vae):
        assert places(modules) == ["cuda", "cuda", "cpu"]


def test_they_come_back_after_an_error(shared, modules):
    spare = WebuiSpare(modules)
    with pytest.raises(ZeroDivisionError), spare.away(), spare.at_hand():
        1 / 0  # noqa: B018
    assert places(modules) == ["cuda", "cuda", "cpu"]


def test_real_modules_come_back_with_every_bit(shared):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = list(module.parameters())
    with WebuiSpare([module]).away():
        pass
    assert all(torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype for name, tensor in module.state_dict().items())
    assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))


@pytest.mark.parametrize(("free", "setting", "wanted"), [(5, False, True), (7, False, False), (7, True, True)])
def test_room_is_made_where_memory_is_short_or_the_webui_is_set_to(shared, monkeypatch, free, setting, wanted):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ((free - 2) * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 6 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * GIB)
    shared.opts.unload_models_when_training = setting
    assert needs_room(GPU) is wanted
    assert needs_room(torch.device("xpu")) is setting
    assert not needs_room(torch.device("cpu")) and not needs_room(torch.device("mps"))
