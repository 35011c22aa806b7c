"""`lora_rank: auto` on the demo's base, two styles: a file at least three times smaller that does as well, measured without any adapter."""

import shutil
from pathlib import Path

import pytest
import torch
from hotlora.engine.control import Control
from hotlora.engine.events import Finished, Warned
from hotlora.engine.loop import train
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.engine.yaml_file import read_yaml
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.toolbox.baking import bake
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
STEPS, CONV_RANK = 16, 8


def print_in_sepia(pictures, folder):
    """Another style than the demo's, of other subjects: brown ink on white paper."""
    folder.mkdir()
    for path in pictures.glob("*.png"):
        with Image.open(path) as picture:
            grey = ImageOps.grayscale(picture.convert("RGB"))
        ImageOps.colorize(grey, black="#3b1d00", mid="#b5793a", white="white").save(folder / path.name)
        (folder / f"{path.stem}.txt").write_text(path.stem.replace("-", " "), encoding="utf-8")
    return folder


@pytest.mark.parametrize("style", ["house colours", "sepia"])
def test_the_small_file_is_three_times_smaller_and_loses_nothing(tmp_path, style):
    shared = read_yaml(ROOT / "demo" / "demo.yaml")
    for key in ("sample_prompts", "sample_every_steps", "save_steps", "lora_alpha", "include"):
        shared.pop(key)
    base, data = ROOT / shared["base_model"], ROOT / shared["train_data_dir"]
    if style == "sepia":
        data = print_in_sepia(data.parent / "unseen-base", tmp_path / "sepia")
    shared |= {"base_model": str(base), "train_data_dir": str(data), "output_dir": str(tmp_path / "run"), "batch_size": 2}
    shared |= {
        "max_steps": STEPS,
        "validation_every_steps": 1000,
        "tensorboard": False,
        "sheet_weights": [],
        "warmup_steps": 2,
        "validation_split": 0.05,
    }
    config = build(ImageConfig, {**shared, "lora_rank": "auto", "conv_rank": CONV_RANK})
    host, run = DiffusersHost(), Run.start(config)
    events = list(train(host.borrow(config), config, Control(host, run, 60.0)))
    told = next(event.message for event in events if isinstance(event, Warned) and event.message.startswith("Kept-back loss"))
    assert "Written:" in told and "times smaller" in told
    files = next(event for event in events if isinstance(event, Finished)).files
    full, small = Path(files["lora"]), Path(files["small"])
    assert small.stat().st_size * 3 < full.stat().st_size
    shutil.copytree(base.parent / "emoji-sd-clip", tmp_path / "emoji-sd-clip")
    losses = [measure(config, base)]
    for name, path in (("full", full), ("small", small)):
        bake(base, [path], [1.0], tmp_path / f"{name}.safetensors", "fp32")
        shutil.copyfile(base.with_suffix(".yaml"), tmp_path / f"{name}.yaml")
        losses.append(measure(config, tmp_path / f"{name}.safetensors"))
    without, with_full, with_small = losses
    assert without > with_full and with_small <= with_full + 0.015 * (without - with_full)


def measure(config, model):
    """Kept-back loss of a checkpoint as it is."""
    other = build(ImageConfig, {**{key: getattr(config, key) for key in config.given}, "base_model": str(model)})
    trainee = DiffusersHost().borrow(other)
    for _ in trainee.prepare():
        pass
    with torch.no_grad():
        found = [trainee.validation_loss(batch) for batch in trainee.validation_batches()]
    return sum(loss.total.item() for loss in found) / sum(loss.count for loss in found)
