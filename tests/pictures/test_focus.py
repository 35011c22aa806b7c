"""Focus points: a picture is cut around what somebody has said matters in it, and nothing else changes."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.buckets import Fit, crop_offset
from hotlora.pictures.dataset import read_dataset
from hotlora.pictures.editor import PictureEditor
from hotlora.pictures.folder_facts import list_datasets
from hotlora.pictures.health import report_health
from hotlora.pictures.stock import Stock
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from PIL import Image

WIDE, TALL = (96, 64), (64, 128)


def average(pixels):
    """Stands in for a VAE."""
    small = torch.nn.functional.avg_pool2d(pixels, 8)
    mean = torch.cat([small, small.mean(1, keepdim=True)], dim=1)
    return mean, torch.ones_like(mean)


def config(folder, **values):
    sizes = {"resolution": 64, "min_bucket_reso": 64, "max_bucket_reso": 64, "bucket_reso_steps": 64}
    return build(ImageConfig, {"train_data_dir": str(folder), "output_dir": f"{folder} run", **sizes, **values})


def stock(folder, encode=average, **values):
    options = config(folder, **values)
    made = Stock(read_dataset(options), options, encode, "vae", Path(f"{folder} cache"))
    list(made.fill())
    return made


def write(folder, points):
    (folder / "hotlora_focus.json").write_text(points if isinstance(points, str) else json.dumps(points), encoding="utf-8")


def nearest(at, scaled, kept):
    """Written otherwise: of all places where the cut can begin, the one whose middle is nearest to the point; of two the first."""
    return min(range(scaled - kept + 1), key=lambda begin: (abs(begin + kept / 2 - at * scaled), begin))


@pytest.mark.parametrize("seed", range(40))
def test_the_point_comes_as_near_to_the_middle_as_the_picture_allows(seed):
    chance = random.Random(seed)
    fit = Fit((64, 128), (64 + chance.randint(0, 9), 128 + chance.randint(0, 200)))
    point = (round(chance.random(), 4), round(chance.random(), 4))
    assert crop_offset(fit, focus=point) == (nearest(point[1], fit.scaled[1], 128), nearest(point[0], fit.scaled[0], 64))
    assert crop_offset(fit, focus=(0.5, 0.5)) == crop_offset(fit)
    assert crop_offset(fit, random.Random(1), focus=point) == crop_offset(fit, focus=point)


@pytest.mark.parametrize(("x", "first"), [(0.0, 0), (0.3, 0), (0.4, 6), (0.5, 16), (0.6, 26), (1.0, 32)])
def test_the_pixels_are_those_around_the_point_and_their_mirror_image(tmp_path, x, first):
    folder = make_pictures(tmp_path / "bilder ü", 1, WIDE)
    write(folder, {"picture 0.png": [x, 0.5]})
    seen = []

    def encode(pixels):
        seen.append(pixels)
        return average(pixels)

    made = stock(folder, encode, flip_aug=True)
    whole = torch.from_numpy(np.array(Image.open(folder / "picture 0.png"))).permute(2, 0, 1).float() / 127.5 - 1
    assert abs(first - (x * 96 - 32)) <= 0.5 or first in (0, 32)
    kept = whole[:, :, first : first + 64]
    assert len(seen) == 2 and {torch.equal(pixels[0], kept) for pixels in seen} == {True, False}
    assert any(torch.equal(pixels[0], kept.flip(-1)) for pixels in seen)
    plain, mirrored = (made.cache.get(made.examples[0], made.fits[0], flipped) for flipped in (False, True))
    assert torch.equal(mirrored.mean, average(kept.flip(-1)[None])[0][0])
    # SDXL is told where each was really cut
    assert plain.size_ids() == (64, 96, 0, first, 64, 64) and mirrored.size_ids() == (64, 96, 0, 32 - first, 64, 64)


def test_a_mask_is_cut_as_its_picture(tmp_path):
    folder = make_pictures(tmp_path / "data", 1, TALL)
    mask = np.zeros((128, 64), dtype=np.uint8)
    mask[:40] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "picture 0.png")
    write(folder, {"picture 0.png": [0.5, 0.25]})
    made = stock(folder, masked_loss=True, mask_dir=str(tmp_path / "masks"))
    latent = made.fixed_latent(0)
    assert latent.crop_top_left == (0, 0) and latent.mask.shape == (1, 8, 8)
    assert torch.equal(latent.mask[0, :, 0], torch.tensor([1.0] * 5 + [0.0] * 3))


def test_without_one_everything_is_as_before_and_with_one_only_that_picture_changes(tmp_path):
    folder = make_pictures(tmp_path / "data", 3, TALL)
    before = stock(folder)
    # as it was computed before there were focus points
    whole = hashlib.sha256()
    for example in before.dataset.train:
        whole.update(repr((example.digest, example.caption, example.mask_digest, example.repeats, example.is_reg)).encode())
    assert before.fingerprint == whole.hexdigest()
    assert [before.fixed_latent(place).crop_top_left for place in range(3)] == [(32, 0)] * 3

    counted = []
    write(folder, {"picture 1.png": [0.5, 0.1]})
    after = stock(folder, lambda pixels: counted.append(len(pixels)) or average(pixels))
    assert counted == [1], "only that one is encoded anew"
    assert [after.fixed_latent(place).crop_top_left for place in range(3)] == [(32, 0), (0, 0), (32, 0)]
    assert torch.equal(after.fixed_latent(0).mean, before.fixed_latent(0).mean)
    assert not torch.equal(after.fixed_latent(1).mean, before.fixed_latent(1).mean)
    assert after.fingerprint != before.fingerprint
    write(folder, {"picture 1.png": [0.5, 0.9]})
    assert stock(folder).fingerprint not in (before.fingerprint, after.fingerprint)
    (folder / "hotlora_focus.json").unlink()
    assert stock(folder).fingerprint == before.fingerprint


def test_a_point_goes_before_cutting_at_random_and_that_is_said(tmp_path):
    folder = make_pictures(tmp_path / "data", 2, TALL)
    write(folder, {"picture 1.png": [0.5, 0.9]})
    made = stock(folder, crop="random", shuffle_caption=True, flip_aug=True)
    cuts = [{made.latent(place, random.Random(seed)).crop_top_left for seed in range(20)} for place in (0, 1)]
    assert len(cuts[0]) > 5 and cuts[1] == {(64, 0)}
    for place in (0, 1):  # captions that are foreseen are those that are learned
        for seed in range(20):
            foreseen, chance = made.foresee_caption(place, random.Random(seed)), random.Random(seed)
            made.latent(place, chance)
            assert made.caption(place, chance) == foreseen
    assert "1 picture (picture 1.png) is cut around a focus point each time, and not at random." in made.dataset.notes
    options = config(folder, crop="random")
    shown = PictureEditor(len).look(config(folder, crop="random")).shown
    assert {picture.name: picture.random for picture in shown} == {"picture 0.png": True, "picture 1.png": False}
    for points, told in (([], True), (["picture 0.png", "picture 1.png"], False)):
        write(folder, {name: [0.5, 0.5] for name in points})
        data = read_dataset(options)
        ((subset,),) = [entry["subsets"] for entry in list_datasets(data, [data.fit(e) for e in data.train], 1)]
        assert subset["random_crop"] is told


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "it is no JSON"),
        ("[1, 2]", 'it should be {"a.png": [0.5, 0.2]}'),
        ('{"picture 0.png": [0.5]}', "[0.5] as a focus point"),
        ('{"picture 0.png": [0.5, 1.5]}', "[0.5, 1.5] as a focus point"),
        ('{"picture 0.png": [NaN, 0.5]}', "[nan, 0.5] as a focus point"),
        ('{"picture 0.png": [true, 0.5]}', "[True, 0.5] as a focus point"),
        ('{"picture 0.png": "middle"}', "'middle' as a focus point"),
    ],
)
def test_a_file_that_says_something_else_is_a_sentence_before_training(tmp_path, content, said):
    folder = make_pictures(tmp_path / "data", 2)
    write(folder, content)
    with pytest.raises(UserError, match="hotlora_focus.json") as refused:
        read_dataset(config(folder))
    assert said in str(refused.value)
    assert any(said in note for note in look_at_pictures(config(folder)).notes)
    with pytest.raises(UserError, match="focus point"):
        PictureEditor(len).set_focus(config(folder), "picture 1.png", [0.5, 0.5])
    assert (folder / "hotlora_focus.json").read_text(encoding="utf-8") == content


def test_names_of_no_picture_are_only_noted_and_the_file_is_not_unknown(tmp_path):
    folder = make_pictures(tmp_path / "data", 2)
    make_pictures(folder / "more", 1, first=7)
    write(folder, "\ufeff" + json.dumps({"picture 0.png": [0, 1], "gone.png": [0.5, 0.5], "more/picture 7.png": [0.1, 0.1]}))
    write(folder / "more", {"picture 7.png": [0.2, 0.2]})
    data = read_dataset(config(folder))
    assert {e.path.name: e.focus for e in data.train} == {"picture 0.png": (0, 1), "picture 1.png": None, "picture 7.png": (0.2, 0.2)}
    assert data.notes == ["1 line of hotlora_focus.json (gone.png) is not used: no picture beside that file has that name."]
    assert dict(look_at_pictures(config(folder)).facts)["with a focus point"] == "2"


def test_what_a_bucket_cuts_off_is_not_told_of_where_somebody_has_said_what_is_kept(tmp_path):
    folder = make_pictures(tmp_path / "data", 3, TALL)
    write(folder, {"picture 1.png": [0.5, 0.1]})
    report = {finding.kind: finding.names for finding in report_health(config(folder))}
    assert report["cut"] == ("picture 0.png", "picture 2.png")
    assert [bool(e.warning) for e in look_at_pictures(config(folder)).examples] == [True, True, False]


def test_set_in_the_album_changed_cleared_undone_and_kept_while_left_out(tmp_path):
    folder = make_pictures(tmp_path / "data", 3, TALL)
    make_pictures(folder / "sub", 1, TALL, first=5)
    options, editor, file = config(folder), PictureEditor(len), folder / "hotlora_focus.json"

    def focus():
        return {shown.name: shown.focus for shown in editor.look(options).shown if shown.focus}

    assert editor.set_focus(options, "picture 2.png", [0.5, 0.123456]) == "Focus point saved."
    editor.set_focus(options, "picture 0.png", (1, 0))
    editor.set_focus(options, "sub/picture 5.png", [0.25, 0.75])
    assert file.read_text(encoding="utf-8") == '{\n  "picture 0.png": [1.0, 0.0],\n  "picture 2.png": [0.5, 0.1235]\n}\n'
    assert focus() == {"picture 0.png": (1, 0), "picture 2.png": (0.5, 0.1235), "sub/picture 5.png": (0.25, 0.75)}
    shown = {shown.name: shown for shown in editor.look(options).shown}
    (cut,) = shown["sub/picture 5.png"].cuts
    assert (cut.bucket, cut.left, cut.top, cut.width, cut.height) == ((64, 64), 0, 0.5, 1, 0.5)

    names = ["picture 2.png", "sub/picture 5.png"]
    editor.leave_out(options, names)
    assert focus() == {"picture 0.png": (1, 0)} and read_dataset(options).notes[:-1] == []
    editor.bring_back(options, names)
    assert len(focus()) == 3

    assert "removed" in editor.set_focus(options, "sub/picture 5.png", None)
    assert not (folder / "sub" / "hotlora_focus.json").exists()
    assert editor.undo(options) == "Undone: focus point of sub/picture 5.png"
    assert len(focus()) == 3
    for _ in range(5):
        editor.undo(options)
    assert focus() == {} and not file.exists()
    for name, point in (("gone.png", [0.5, 0.5]), ("picture 0.png", [2, 0]), ("picture 0.png", "x")):
        with pytest.raises(UserError, match="focus point"):
            editor.set_focus(options, name, point)


def test_each_resolution_tells_what_it_keeps(tmp_path):
    folder = make_pictures(tmp_path / "data", 1, (100, 300))
    options = config(folder, resolution=[64, 128], max_bucket_reso=256)
    (shown,) = PictureEditor(len).look(options).shown
    data = read_dataset(options)
    assert [cut.bucket for cut in shown.cuts] == sorted((data.fit(e).bucket for e in data.train), reverse=True)
    for example in data.train:
        fit = data.fit(replace(example, focus=None))
        (cut,) = [cut for cut in shown.cuts if cut.bucket == fit.bucket]
        top, left = crop_offset(fit)
        assert (cut.top, cut.left) == (round(top / fit.scaled[1], 4), round(left / fit.scaled[0], 4))
