"""A U-Net that is held in few bits: what of it is packed, that a LoRA is learned on it as on the whole one, and what is refused."""

import importlib.util
import json

import pytest
import tiny
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Step
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.standalone import few_bits
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersHost, DiffusersModel
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from safetensors import safe_open
from safetensors.torch import load_file
from toy import run_toy

CPU = torch.device("cpu")
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None  # not among AUTOMATIC1111's packages
needs_bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not here")
BITS = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"sd1": tiny.tiny_sd1_file(folder / "one.safetensors"), "sdxl": tiny.tiny_sdxl_file(folder / "two.safetensors")}


def image_config(place, checkpoint, **options):
    pictures = place.parent / "pictures"
    if not pictures.exists():
        make_pictures(pictures)
    values = {"base_model": str(checkpoint), "train_data_dir": str(pictures), "output_dir": str(place), "output_name": "a"}
    values |= {"resolution": 64, "min_bucket_reso": 64, "sample_steps": 2, "sheet_weights": [1.0], "save_steps": 2}
    return build(ImageConfig, values | {"tensorboard": False, "lora_rank": 4, "max_steps": 5, **options})


def losses(events):
    return [event.loss for event in events if isinstance(event, Step)]


@needs_bitsandbytes
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("bits", BITS)
def test_the_blocks_are_packed_and_nothing_else(tmp_path, checkpoints, family, bits):
    whole, small = (
        DiffusersModel(describe(checkpoints[family]), image_config(tmp_path / kind, checkpoints[family], quantization=kind), CPU)
        for kind in ("none", bits)
    )
    kinds = {path: type(layer).__name__ for path, layer in small.unet.named_modules()}
    for path, layer in whole.unet.named_modules():
        is_packed = type(layer) is torch.nn.Linear and ".transformer_blocks." in path
        assert kinds[path] == (BITS[bits] if is_packed else type(layer).__name__), path
    assert few_bits.is_packed(small.unet) and list(small.unet_layers()) == list(whole.unet_layers())
    sizes = [sum(p.numel() * p.element_size() for p in model.unet.parameters()) for model in (whole, small)]
    assert sizes[1] < sizes[0]


@needs_bitsandbytes
@pytest.mark.parametrize("options", [{}, {"conv_rank": 4, "gradient_checkpointing": True}])
@pytest.mark.parametrize("bits", BITS)
def test_a_lora_is_learned_as_on_the_whole_model(tmp_path, checkpoints, bits, options):
    exact, rough = (
        run_toy(image_config(tmp_path / kind, checkpoints["sd1"], quantization=kind, **options), host=DiffusersHost())
        for kind in ("none", bits)
    )
    assert rough[0][-1].reason == "done"
    assert losses(rough[0]) == pytest.approx(losses(exact[0]), rel=0.05)
    first, second = (load_file(run.final_path) for _, _, run in (exact, rough))
    assert {key: value.shape for key, value in first.items()} == {key: value.shape for key, value in second.items()}
    with safe_open(rough[2].final_path, "pt") as file:
        assert json.loads(file.metadata()["hotlora_config"])["quantization"] == bits


@needs_bitsandbytes
@pytest.mark.parametrize("bits", BITS)
def test_stopped_and_resumed_equals_never_stopped_across_samples(tmp_path, checkpoints, bits):
    options = {"quantization": bits, "sample_prompts": ["a cat"], "sample_every_steps": 2}
    events, _, whole = run_toy(image_config(tmp_path / "whole", checkpoints["sd1"], **options), host=DiffusersHost())
    config = image_config(tmp_path / "cut", checkpoints["sd1"], **options)
    run_toy(config, host=DiffusersHost(), steps=3)
    resumed, _, cut = run_toy(config, host=DiffusersHost(), run=Run.reopen(config))
    assert isinstance(resumed[-1], Finished) and losses(resumed) == losses(events)[2:]
    first, second = (load_file(run.final_path) for run in (whole, cut))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "kind, options", [("DoRA", {"use_dora": True}), ("loha", {"network_type": "loha"}), ("lokr", {"network_type": "lokr"})]
)
def test_what_reads_the_weights_is_refused_on_packed_ones(tmp_path, kind, options):
    with pytest.raises(UserError, match=f"cannot train {kind} on a model in 4bit"):
        image_config(tmp_path / "a", "x", quantization="4bit", **options)


@pytest.mark.parametrize("found", ["", "0.45.5"])
def test_where_bitsandbytes_cannot_do_it_a_sentence_says_so(tmp_path, checkpoints, monkeypatch, found):
    monkeypatch.setattr(few_bits, "find_spec", lambda name: found or None)
    monkeypatch.setattr(few_bits, "version", lambda name: found)
    with pytest.raises(UserError, match=f"needs the package bitsandbytes 0.50 or newer, and {found or 'it'} is"):
        DiffusersHost().borrow(image_config(tmp_path / "a", checkpoints["sd1"], quantization="4bit"))
