"""Several folders in one run, on a real, tiny U-Net: each picture counts as it would in a run of its folder alone, times its weight."""

import json

import pytest
import torch
from finished import train_tiny
from hotlora.engine.control import Control
from hotlora.engine.events import Step
from hotlora.engine.interfaces import Draws
from hotlora.engine.loop import train
from hotlora.engine.options import build
from hotlora.engine.recipe import read_options
from hotlora.engine.run import Run
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.sd.trainee import ImageBatch
from pictures import make_pictures
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import tiny_sd1_file, tiny_sdxl

COMMON = {"min_bucket_reso": 32, "bucket_reso_steps": 32, "lora_rank": 2, "batch_size": 2, "cache_latents": "memory", "tensorboard": False}
CATS = {"trigger_word": "zwx", "resolution": 96, "flip_aug": True, "shuffle_caption": True, "caption_dropout_rate": 0.2}
DOGS = {"resolution": 64, "caption_prefix": "a", "enable_wildcard": True, "caption_tag_dropout_rate": 0.3}
PEOPLE = {"resolution": 64, "keep_tokens": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    tiny_sdxl(folder / "model")
    for number, name in enumerate(("cats", "dogs", "people")):
        make_pictures(folder / name, 2, (96, 64), first=10 * number)
    return folder


def borrow(world, **options):
    config = build(ImageConfig, {"base_model": str(world / "model"), "output_dir": str(world / "run"), **COMMON, **options})
    trainee = DiffusersHost().borrow(config)
    for _ in trainee.prepare():
        pass
    return trainee


def test_a_picture_counts_as_in_a_run_of_its_folder_alone_times_its_weight(world):
    entries = [
        {"folder": str(world / "cats"), **CATS, "weight": 3.0},
        {"folder": str(world / "dogs"), **DOGS},
        {"folder": str(world / "people"), **PEOPLE, "regularisation": True, "weight": 0.5},
    ]
    several = borrow(world, datasets=entries, prior_loss_weight=0.25)
    alone = {
        "cats": (borrow(world, train_data_dir=str(world / "cats"), **CATS), 3.0),
        "dogs": (borrow(world, train_data_dir=str(world / "dogs"), **DOGS), 1.0),
        "people": (borrow(world, train_data_dir=str(world / "people"), **PEOPLE), 0.125),
    }
    assert len(several.stock.examples) == 6
    with torch.no_grad():
        for place, example in enumerate(several.stock.examples):
            single, weight = alone[example.path.parent.name]
            (there,) = [number for number, other in enumerate(single.stock.examples) if other.path == example.path]
            for step in range(3):
                mine = several.loss(ImageBatch((place,)), Draws(7, step))
                theirs = single.loss(ImageBatch((there,)), Draws(7, step))
                assert mine.total.item() == pytest.approx(weight * theirs.total.item(), rel=1e-6) and mine.count == theirs.count == 1


def test_captions_are_foreseen_as_they_are_drawn(world):
    """Where text encoders wait elsewhere, all captions of many steps are encoded before the first."""
    trainee = borrow(world, datasets=[{"folder": str(world / "cats"), **CATS}, {"folder": str(world / "dogs"), **DOGS}], crop="random")
    steps = [(ImageBatch((place,)), Draws(1, step)) for step in range(4) for place in range(4)]
    trainee.foresee(steps)
    asked = []
    encode = trainee.model.encode_text
    trainee.model.encode_text = lambda captions, **how: asked.append(captions) or encode(captions, **how)
    with torch.no_grad():
        for batch, draws in steps:
            trainee.loss(batch, draws)
    assert not asked


def make_config(folder, **options):
    """A run of three folders, two of them to learn from, one of these at two sizes."""
    for number, name in enumerate(("cats", "dogs", "people")):
        make_pictures(folder / name, 3, (96, 64), first=10 * number)
    entries = [
        {"folder": str(folder / "cats"), **CATS, "repeats": 2, "weight": 2.0, "resolution": [64, 96]},
        {"folder": str(folder / "dogs"), **DOGS, "trigger_word": "dgx"},
        {"folder": str(folder / "people"), "regularisation": True, "class_words": "person"},
    ]
    values = {"base_model": str(tiny_sd1_file(folder / "base.safetensors")), "output_dir": str(folder / "run"), "datasets": entries}
    return build(ImageConfig, {**values, **COMMON, "max_steps": 6, "save_precision": "fp32", "sheet_weights": [], **options})


def train_on(config, run, stop_at=None):
    host = DiffusersHost()
    control = Control(host, run, 60.0)
    for event in train(host.borrow(config), config, control):
        if isinstance(event, Step) and event.step == stop_at:
            control.stop()
    run.close()


def test_stopped_and_resumed_equals_never_stopped(tmp_path):
    whole, cut = make_config(tmp_path / "whole"), make_config(tmp_path / "cut")
    train_on(whole, Run.start(whole))
    train_on(cut, Run.start(cut), stop_at=2)
    for stop_at in (3, None):
        config = read_options({ImageConfig.TASK: ImageConfig}, resume=tmp_path / "cut" / "run")
        train_on(config, Run.reopen(config), stop_at)
    first, second = (load_file(str(tmp_path / name / "run" / "run.safetensors")) for name in ("whole", "cut"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_one_entry_trains_what_the_folder_alone_trains(tmp_path):
    options = {"flip_aug": True, "shuffle_caption": True, "trigger_word": "zwx"}
    train_tiny(tmp_path / "alone", 4, **options)
    make_pictures(tmp_path / "entry" / "data", 4)
    train_tiny(tmp_path / "entry", 4, **{"train_data_dir": "", "datasets": [{"folder": str(tmp_path / "entry" / "data"), **options}]})
    first, second = (load_file(str(tmp_path / name / "run" / "run.safetensors")) for name in ("alone", "entry"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_file_tells_of_every_folder_and_of_nobodys_disk(tmp_path):
    config = make_config(tmp_path, max_steps=1)
    train_on(config, Run.start(config))
    path = tmp_path / "run" / "run.safetensors"
    with safe_open(str(path), "pt") as file:
        told = file.metadata()
    assert not any(str(tmp_path) in value for value in told.values())
    assert json.loads(told["ss_dataset_dirs"]) == {
        "cats": {"n_repeats": 2, "img_count": 3},
        "cats (2)": {"n_repeats": 2, "img_count": 3},
        "dogs": {"n_repeats": 1, "img_count": 3},
    }
    assert json.loads(told["ss_reg_dataset_dirs"]) == {"people": {"n_repeats": 1, "img_count": 3}}
    assert set(json.loads(told["ss_tag_frequency"])) == {"cats", "dogs"} and json.loads(told["ss_tag_frequency"])["dogs"]["dgx"] == 3
    assert sorted(entry["resolution"] for entry in json.loads(told["ss_datasets"])) == [[64, 64], [96, 96]]
    assert told["ss_num_train_images"] == "15" and told["modelspec.resolution"] == "96x96"
    assert told["modelspec.trigger_phrase"] == "zwx, dgx" and "ss_flip_aug" not in told and told["ss_keep_tokens"] == "0"
    assert [entry["folder"] for entry in json.loads(told["hotlora_config"])["datasets"]] == ["cats", "dogs", "people"]
    sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert sidecar["activation text"] == "zwx, dgx" and "64, 96 px" in sidecar["notes"]
