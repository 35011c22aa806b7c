"""Regularisation pictures by the model itself, on a tiny one: each is the host's own sample, nothing is drawn twice, and training takes
them as they are."""

from pathlib import Path

import pytest
import torch
import yaml
from hotlora.cli import main
from hotlora.engine.errors import UserError
from hotlora.engine.events import Drawn, Finished
from hotlora.engine.interfaces import PreviewRequest
from hotlora.engine.options import build
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.pictures.class_pictures import ClassJob, ClassPlan
from hotlora.pictures.dataset import read_dataset
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from PIL import Image
from tiny import tiny_sd1

OPTIONS = {"resolution": 64, "min_bucket_reso": 64, "sample_steps": 2, "sample_seed": 5, "negative_prompt": "blurry"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_sd1(tmp_path_factory.mktemp("model") / "sd1")


@pytest.fixture
def values(model, tmp_path):
    return {"base_model": str(model), "train_data_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "run"), **OPTIONS}


def draw(values, plan, stop_after=None):
    job = ClassJob(DiffusersHost(), build(ImageConfig, values), plan)
    drawn = []

    def watch(event):
        if isinstance(event, Drawn):
            drawn.append(Path(event.path).name)
        if len(drawn) == stop_after:
            job.control.stop()

    job.subscribe(watch)
    return job.work(), drawn


def plan(tmp_path, **changed):
    return ClassPlan(**{"folder": tmp_path / "people", "words": ("person", "a man"), "count": 4, "seed": 5, **changed})


def test_each_is_the_plain_models_sample_with_its_words_as_caption(values, tmp_path):
    outcome, drawn = draw(values, plan(tmp_path))
    assert isinstance(outcome, Finished) and outcome.reason == "done" and len(drawn) == 4
    trainee = DiffusersHost().borrow(build(ImageConfig, values))
    for number, words in enumerate(("person", "a man", "person", "a man")):
        path = tmp_path / "people" / f"class {number + 1:05}.png"
        with torch.no_grad():
            wanted = trainee.preview(PreviewRequest(words, 5 + number)).picture
        with Image.open(path) as picture:
            assert picture.tobytes() == wanted.tobytes()
            said = picture.info["parameters"]
        assert said.splitlines()[0] == words and f"Seed: {5 + number}," in said and "Negative prompt: blurry" in said
        assert path.with_suffix(".txt").read_text(encoding="utf-8") == f"{words}\n"


def test_stopped_it_goes_on_and_keeps_what_people_did(values, tmp_path):
    outcome, drawn = draw(values, plan(tmp_path), stop_after=2)
    assert outcome.reason == "stopped" and len(drawn) == 2
    folder = tmp_path / "people"
    (folder / "class 00001.txt").write_text("an old person", encoding="utf-8")
    (folder / "class 00002.txt").unlink()  # as a kill between the two leaves it
    before = (folder / "class 00001.png").stat().st_mtime_ns
    _, drawn = draw(values, plan(tmp_path))
    assert drawn == ["class 00003.png", "class 00004.png"] and (folder / "class 00001.png").stat().st_mtime_ns == before
    assert (folder / "class 00001.txt").read_text(encoding="utf-8") == "an old person"
    assert (folder / "class 00002.txt").read_text(encoding="utf-8") == "a man\n"
    (folder / "left out").mkdir()
    (folder / "class 00003.png").rename(folder / "left out" / "class 00003.png")
    assert draw(values, plan(tmp_path, count=5))[1] == ["class 00005.png"]  # what was left out is not wanted


def test_pictures_that_were_drawn_otherwise_are_not_mixed(values, tmp_path):
    draw(values, plan(tmp_path, count=1))
    for changed, other, told in (({}, {"words": ("dog",)}, "prompt, words"), ({"sample_cfg": 3}, {}, "cfg")):
        outcome, drawn = draw({**values, **changed}, plan(tmp_path, count=2, **other))
        assert f"were drawn with another {told}. Choose" in outcome.message and not outcome.bug and not drawn
    (tmp_path / "people" / ".hotlora-class.json").unlink()
    assert "nothing says how its pictures were drawn" in draw(values, plan(tmp_path))[0].message


def test_what_cannot_be_drawn_is_a_sentence(values, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    config = build(ImageConfig, values)
    for changed, said in (
        ({"words": ()}, "there are no class words"),
        ({"count": 0}, "it takes 1 to 10,000"),
        ({"folder": tmp_path / "file"}, "it is a file"),
        ({"folder": tmp_path / "data"}, "it is train_data_dir. Name a folder of their own"),
    ):
        with pytest.raises(UserError, match=said):
            ClassJob(DiffusersHost(), config, plan(tmp_path, **changed))


def test_the_command_draws_and_a_run_takes_them_as_they_are(values, tmp_path, capsys):
    make_pictures(tmp_path / "data", 2)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    words = ["class", "--config", str(file), "--words", "person", "--folder", str(tmp_path / "people"), "--count", "2"]
    assert main(words) == 0 and "holds 2 pictures with captions" in capsys.readouterr().out
    data = read_dataset(build(ImageConfig, {**values, "reg_data_dir": str(tmp_path / "people"), "trigger_word": "zwx"}))
    assert [(e.caption, e.is_reg) for e in data.train if e.is_reg] == [("person", True)] * 2 and not data.notes
    assert main([*words[:-1], "0"]) == 2 and "cannot draw 0 regularisation pictures" in capsys.readouterr().err
