"""A run with focus points and crops on a real, tiny model: what its file tells of them, and that a resumed run notices them."""

import json

import pytest
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from pictures import NOTES
from safetensors import safe_open
from test_trainee import borrow, start
from tiny import tiny_sd1


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {"sd1": tiny_sd1(tmp_path_factory.mktemp("models") / "sd1")}


def set_points(folder, *numbers):
    points = {f"picture {number}.png": [0.5, 0.1] for number in numbers}
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "hotlora_focus.json").write_text(json.dumps(points), encoding="utf-8")


def set_crop(folder):
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "hotlora_focus.json").write_text('{"picture 2.png": {"crop": [0, 0, 1, 0.5]}}', encoding="utf-8")


@pytest.mark.parametrize(
    ("crop", "numbers", "told", "at_random"),
    [
        ("center", (), None, "False"),
        ("center", (1,), "1", "False"),
        ("random", (), None, "True"),
        ("random", (0, 2), "2", "True"),
        ("random", (0, 1, 2, 3), "4", "False"),
    ],
)
def test_the_file_tells_how_many_were_cut_by_hand_and_whether_any_at_random(models, tmp_path, crop, numbers, told, at_random):
    set_points(tmp_path, *numbers)
    trainee, config = borrow(models, tmp_path, size=(64, 96), max_bucket_reso=64, crop=crop)
    session = start(trainee, config)
    path = trainee.write(session.adapters, tmp_path / "a.safetensors", NOTES)
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    assert (metadata.get("hotlora_focus_points"), metadata["ss_random_crop"]) == (told, at_random)
    assert trainee.summary().get("with a focus point") == (None if told is None else int(told))


def test_the_file_tells_how_many_were_cropped_and_of_no_other_size(models, tmp_path):
    set_crop(tmp_path)
    trainee, config = borrow(models, tmp_path, size=(64, 96), max_bucket_reso=96)
    path = trainee.write(start(trainee, config).adapters, tmp_path / "a.safetensors", NOTES)
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    assert (metadata["hotlora_crops"], metadata.get("hotlora_focus_points"), trainee.summary()["cropped by hand"]) == ("1", None, 1)
    assert trainee.stock.fixed_latent(2).size_ids()[:2] == (48, 64) and trainee.stock.fixed_latent(1).size_ids()[:2] == (96, 64)


@pytest.mark.parametrize("change", [lambda folder: set_points(folder, 2), set_crop])
def test_a_resumed_run_notices_them(models, tmp_path, change):
    trainee, config = borrow(models, tmp_path, size=(64, 96), max_bucket_reso=64)
    before = Session(trainee, config, Run.start(config)).state()["data_fingerprint"]
    change(tmp_path)
    again, _ = borrow(models, tmp_path, size=(64, 96), max_bucket_reso=64)
    assert again.data_fingerprint != before
    (tmp_path / "data" / "hotlora_focus.json").unlink()
    assert borrow(models, tmp_path, size=(64, 96), max_bucket_reso=64)[0].data_fingerprint == before
