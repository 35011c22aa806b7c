"""Pictures are learned in half precision on a processor, and with 8-bit optimizers, close to what is learned in fp32."""

import importlib.util

import pytest
import tiny
import torch
from hotlora.engine.events import Finished, Step
from hotlora.engine.options import build
from hotlora.hosts.shared.devices import can_compute
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from safetensors import safe_open
from toy import run_toy

CPU = torch.device("cpu")
PRECISIONS = [name for name, dtype in {"bf16": torch.bfloat16, "fp16": torch.float16}.items() if can_compute(CPU, dtype)]
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None  # not among AUTOMATIC1111's packages


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.tiny_sd1_file(tmp_path_factory.mktemp("models") / "one.safetensors")


def image_config(place, checkpoint, **options):
    pictures = place.parent / "pictures"
    if not pictures.exists():
        make_pictures(pictures)
    values = {"base_model": str(checkpoint), "train_data_dir": str(pictures), "output_dir": str(place), "output_name": "a"}
    values |= {"resolution": 64, "min_bucket_reso": 64, "sample_steps": 2, "sheet_weights": [1.0]}
    return build(ImageConfig, values | {"tensorboard": False, "lora_rank": 4, "max_steps": 3, **options})


def losses(events):
    assert isinstance(events[-1], Finished) and events[-1].reason == "done"
    return [event.loss for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_learns_as_fp32_does(tmp_path, checkpoint, precision):
    exact, rough = (
        run_toy(image_config(tmp_path / name, checkpoint, mixed_precision=name), host=DiffusersHost()) for name in ("no", precision)
    )
    assert losses(rough[0]) == pytest.approx(losses(exact[0]), rel=0.05)
    with safe_open(rough[2].final_path, "pt") as file:
        assert file.metadata()["ss_mixed_precision"] == precision


def test_an_8bit_optimizer_learns_as_adamw_does(tmp_path, checkpoint):
    """And the file says which it was."""
    options = {"optimizer": "AdamW8bit", "optimizer_args": {"min_8bit_size": 64}}
    exact = run_toy(image_config(tmp_path / "exact", checkpoint), host=DiffusersHost())
    rough = run_toy(image_config(tmp_path / "rough", checkpoint, **options), host=DiffusersHost())
    assert losses(rough[0]) == pytest.approx(losses(exact[0]), rel=0.05)
    with safe_open(rough[2].final_path, "pt") as file:
        assert ("8bit" in file.metadata()["ss_optimizer"]) == HAS_BITSANDBYTES
