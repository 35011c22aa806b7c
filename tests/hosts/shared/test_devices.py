"""The precision that a run computes in: what is asked for, what a device is made for, what a program holds."""

import re

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.precision import describe_precision
from hotlora.hosts.shared import devices
from hotlora.hosts.shared.devices import choose_dtype
from hotlora.hosts.webui.models import choose_compute_dtype
from hotlora.sd.config import ImageConfig

CPU, CARD = torch.device("cpu"), torch.device("cuda")
CARDS = [  # compute capability, name, what auto takes
    ((9, 0), "NVIDIA H100 80GB HBM3", torch.bfloat16),
    ((8, 6), "NVIDIA GeForce RTX 3060", torch.bfloat16),
    ((7, 5), "NVIDIA GeForce RTX 2080", torch.float16),
    ((7, 5), "NVIDIA GeForce GTX 1660 SUPER", torch.float32),
    ((6, 1), "NVIDIA GeForce GTX 1080", torch.float16),
]


@pytest.fixture
def put_in(monkeypatch):
    """A card into this machine, as far as torch says."""

    def put_in(capability, name):
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)

    return put_in


@pytest.mark.parametrize(("capability", "name", "dtype"), CARDS)
def test_auto_is_what_a_device_is_made_for(put_in, capability, name, dtype):
    put_in(capability, name)
    assert ImageConfig().mixed_precision == "auto"
    assert choose_dtype("auto", CARD) == dtype
    assert choose_dtype("auto", CPU) == choose_dtype("auto", torch.device("mps")) == torch.float32


def test_what_is_asked_for_is_taken_or_refused_in_a_sentence(monkeypatch):
    assert choose_dtype("no", CPU) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    if devices.can_compute(CPU, torch.float16):
        assert choose_dtype("fp16", CPU) == torch.float16
    monkeypatch.setattr(devices, "can_compute", lambda device, dtype: dtype != torch.float16)
    with pytest.raises(UserError, match=re.escape("does not compute in that. Set it to no (or bf16).")):
        choose_dtype("fp16", CPU)


@pytest.mark.parametrize(("held", "chosen"), [(torch.float16, torch.float16), (torch.bfloat16, torch.bfloat16), (torch.float32, None)])
def test_a_program_that_computes_in_half_precision_is_followed(monkeypatch, put_in, held, chosen):
    """One that does not may have been told so; bf16 keeps the range of fp32, so it is taken all the same."""
    monkeypatch.setattr(devices, "can_compute", lambda device, dtype: True)
    words = {"name": "one.safetensors", "remedy": "Do something."}
    for capability, name, dtype in CARDS:
        put_in(capability, name)
        wanted = chosen or (dtype if dtype == torch.bfloat16 else held)
        assert choose_compute_dtype(ImageConfig(), held, CARD, **words) == wanted
        assert choose_compute_dtype(ImageConfig(mixed_precision="no"), held, CARD, **words) == held
        assert choose_compute_dtype(ImageConfig(mixed_precision="fp16"), held, CARD, **words) == torch.float16
    if chosen is None:
        assert choose_compute_dtype(ImageConfig(), held, CPU, **words) == held


def test_what_was_chosen_is_told():
    assert describe_precision("auto", torch.bfloat16) == "bf16 (auto)"
    assert describe_precision("fp16", torch.float16) == "fp16"
    assert describe_precision("no", torch.float32) == "fp32"


def test_each_of_several_processes_has_a_card_of_its_own(monkeypatch):
    for key, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(key, value)
    set_to = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", set_to.append)
    assert devices.choose_device() == torch.device("cuda", 1) and set_to == [1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="cannot train in 4 processes on this computer: it has 2 GPUs"):
        devices.choose_device()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert devices.choose_device() == torch.device("cuda")
