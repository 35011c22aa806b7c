"""Crops set by hand: everything is as if the file had been cut so before, and no file of a picture is changed."""

import random

import numpy as np
import pytest
import torch
from hotlora.captioning.writing import write_captions
from hotlora.engine.errors import UserError
from hotlora.pictures.album import open_album
from hotlora.pictures.dataset import read_dataset, split_validation
from hotlora.pictures.editor import PictureEditor
from hotlora.pictures.folder_facts import count_buckets
from hotlora.pictures.health import report_health
from hotlora.pictures.labels import LabelFile
from hotlora.pictures.measuring import find_inside
from hotlora.pictures.reading import make_thumbnail
from PIL import Image, ImageOps
from test_focus import average, config, stock, write
from test_health import texture

SIZE = (200, 150)
CROP = (0.25, 0.1, 0.85, 1)
BOX = (50, 15, 170, 150)  # of that size
FOCUS = (0.4, 0.8)
SIDEWAYS = 6  # EXIF: shown turned by 90 degrees


def scene(seed, size=SIZE, mode="RGB"):
    channels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(mode)), dtype=np.uint8)
    return Image.fromarray(channels, mode)


def make(folder, picture, **how):
    folder.mkdir(parents=True)
    picture.save(folder / "a.png", **how)
    (folder / "a.txt").write_text("a thing", encoding="utf-8")
    return folder


def pair(tmp_path, picture, mask=None):
    """Folders with the same picture: cropped by hand, and cut beforehand; the mask likewise."""
    uncut, cut = make(tmp_path / "by hand", picture), make(tmp_path / "beforehand", picture.crop(BOX))
    write(uncut, {"a.png": {"crop": CROP, "focus": FOCUS}})
    (width, height), (left, top, right, bottom) = picture.size, BOX
    write(cut, {"a.png": [(FOCUS[0] * width - left) / (right - left), (FOCUS[1] * height - top) / (bottom - top)]})
    if mask:
        for folder, drawn in ((uncut, mask), (cut, mask.crop(BOX))):
            (folder / ".masks").mkdir()
            drawn.save(folder / ".masks" / "a.png")
    return uncut, cut


@pytest.mark.parametrize("options", [{}, {"flip_aug": True}, {"bucket_no_upscale": True}, {"enable_bucket": False}, {"crop": "random"}])
@pytest.mark.parametrize("masked", ["", "file", "alpha"])
def test_all_is_bit_for_bit_as_of_a_picture_that_was_cut_beforehand(tmp_path, options, masked):
    picture = scene(1, mode="RGBA" if masked == "alpha" else "RGB")
    folders = pair(tmp_path, picture, scene(2).convert("L") if masked == "file" else None)
    by_hand, beforehand = (stock(folder, max_bucket_reso=128, masked_loss=bool(masked), **options) for folder in folders)
    assert by_hand.fits == beforehand.fits and by_hand.fits[0].bucket[0] < SIZE[0]
    assert by_hand.examples[0].size == beforehand.examples[0].size == (120, 135)
    facts = [count_buckets(made.dataset, made.fits) for made in (by_hand, beforehand)]
    assert facts[0] == facts[1]
    for flipped in (False, True):
        one, other = (made.cache.get(made.examples[0], made.fits[0], flipped, rng=random.Random(3)) for made in (by_hand, beforehand))
        assert torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)
        assert one.size_ids() == other.size_ids() and one.size_ids()[:2] == (135, 120)
        assert torch.equal(one.mask, other.mask) if masked else one.mask is None and other.mask is None
    assert picture.size == SIZE


def test_without_a_point_what_is_cut_at_random_is_cut_within_the_crop(tmp_path):
    folder = make(tmp_path / "data", scene(1, (300, 100)))
    write(folder, {"a.png": {"crop": [0, 0, 0.5, 1]}})
    made = stock(folder, crop="random")
    cuts = {made.latent(0, random.Random(seed)).size_ids() for seed in range(30)}
    assert len(cuts) > 5 and {ids[:2] for ids in cuts} == {(100, 150)}


def test_a_crop_is_of_the_upright_picture_and_a_mask_of_another_size_is_stretched_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    folder = make(tmp_path / "data", scene(1), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(folder / "a.png"))
    (folder / ".masks").mkdir()
    upright.resize((75, 100)).convert("L").save(folder / ".masks" / "a.png")
    write(folder, {"a.png": {"crop": [0, 0, 1, 0.5]}})
    (example,) = read_dataset(config(folder, masked_loss=True)).train
    assert upright.size == (150, 200) and example.size == (150, 100) and example.crop == (0, 0, 150, 100)
    cut = make(tmp_path / "cut", upright.crop((0, 0, 150, 100)))
    (cut / ".masks").mkdir()
    mask = Image.open(folder / ".masks" / "a.png").resize((150, 200), Image.Resampling.BILINEAR)
    mask.crop((0, 0, 150, 100)).save(cut / ".masks" / "a.png")
    one, other = (stock(each, masked_loss=True).fixed_latent(0) for each in (folder, cut))
    assert torch.equal(one.mean, other.mean) and torch.equal(one.mask, other.mask)


def test_what_is_transparent_only_outside_of_the_crop_has_no_mask_as_if_it_were_cut(tmp_path):
    picture = scene(1).convert("RGBA")
    picture.putalpha(255)
    picture.paste((0, 0, 0, 0), (0, 0, 20, 150))
    made, cut = (stock(folder, masked_loss=True).fixed_latent(0) for folder in pair(tmp_path, picture))
    assert made.mask is None and cut.mask is None and torch.equal(made.mean, cut.mean)


def test_only_that_picture_is_encoded_anew_and_a_crop_of_all_of_it_is_none(tmp_path):
    folder = make(tmp_path / "data", scene(1))
    scene(2).save(folder / "b.png")
    (folder / "b.txt").write_text("b", encoding="utf-8")
    before, counted = stock(folder), []

    def encode(pixels):
        counted.append(len(pixels))
        return average(pixels)

    write(folder, {"b.png": {"crop": [0, 0, 1, 1]}})
    assert stock(folder, encode).fingerprint == before.fingerprint and not counted
    write(folder, {"b.png": {"crop": [0, 0, 0.5, 1]}})
    half = stock(folder, encode)
    assert counted == [1] and torch.equal(half.fixed_latent(0).mean, before.fixed_latent(0).mean)
    write(folder, {"b.png": {"crop": [0.5, 0, 1, 1]}})
    other = stock(folder, encode)
    assert counted == [1, 1] and len({before.fingerprint, half.fingerprint, other.fingerprint}) == 3
    assert not torch.equal(half.fixed_latent(1).mean, other.fixed_latent(1).mean), "the same bucket, and not the same latent"


def test_a_file_that_is_there_twice_is_two_pictures_where_it_is_cropped_otherwise(tmp_path):
    folder = make(tmp_path / "data", scene(1))
    for name in ("b", "c"):
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
        (folder / f"{name}.txt").write_text(name, encoding="utf-8")
        scene(ord(name)).save(folder / f"other {name}.png")
        (folder / f"other {name}.txt").write_text(name, encoding="utf-8")
    write(folder, {"b.png": {"crop": [0, 0, 0.5, 0.5]}, "c.png": {"crop": [0, 0, 0.5, 0.5]}})
    data = read_dataset(config(folder, on_bad_data="skip"))
    assert [e.path.name for e in data.train] == ["a.png", "b.png", "other b.png", "other c.png"]
    assert [card.name for card in open_album(config(folder)).cards if card.wrong] == ["c.png"]
    (same,) = [finding for finding in report_health(config(folder)) if finding.kind == "same"]
    assert same.names == ("b.png", "c.png") and same.remedy.names == ("c.png",)
    for seed in range(20):
        train, kept_back = split_validation(data.train, 0.3, seed)
        assert {e.digest for e in train}.isdisjoint(e.digest for e in kept_back) and train and kept_back


@pytest.mark.parametrize(
    "value",
    [
        {"crop": [0, 0, 1]},
        {"crop": [0.5, 0, 0.5, 1]},
        {"crop": [0, 0.6, 1, 0.5]},
        {"crop": [0, 0, 1, 1.5]},
        {"crop": [float("nan"), 0, 1, 1]},
        {"crop": None},
        {"crop": [0, 0, 1, 1], "zoom": 2},
        {"focus": [0.5]},
        {},
        [0, 0, 1, 1],
    ],
)
def test_a_file_that_says_something_else_is_a_sentence_before_training(tmp_path, value):
    folder = make(tmp_path / "data", scene(1))
    write(folder, {"a.png": value})
    with pytest.raises(UserError, match="'a.png' in .*hotlora_focus.json"):
        read_dataset(config(folder))


def test_set_in_the_album_beside_a_point_cleared_undone_and_kept_while_left_out(tmp_path):
    folder = make(tmp_path / "data", scene(1))
    for name in ("b", "c"):
        scene(ord(name)).save(folder / f"{name}.png")
    options, editor, file = config(folder, trigger_word="abc"), PictureEditor(len), folder / "hotlora_focus.json"
    files = {path: path.read_bytes() for path in folder.glob("*.png")}
    editor.set_focus(options, "b.png", [0.5, 0.25])
    assert editor.set_crop(options, "b.png", [0.1, 0.2, 0.912345, 1]) == "Crop saved."
    editor.set_crop(options, "c.png", [0, 0, 0.5, 1])
    assert file.read_text(encoding="utf-8") == (
        '{\n  "b.png": {"focus": [0.5, 0.25], "crop": [0.1, 0.2, 0.9123, 1.0]},\n  "c.png": {"crop": [0.0, 0.0, 0.5, 1.0]}\n}\n'
    )
    shown = {each.name: each for each in editor.look(options).shown}
    assert shown["c.png"].crop == (0, 0, 0.5, 1) and shown["c.png"].size == SIZE and shown["a.png"].crop is None
    (cut,) = shown["c.png"].cuts  # 100x150: a square of it
    assert (cut.left, cut.top, cut.width, cut.height) == (0, pytest.approx(1 / 6, abs=0.01), 0.5, pytest.approx(2 / 3, abs=0.01))
    assert shown["a.png"].thumbnail != shown["c.png"].thumbnail
    (thumbnail,) = editor.find_thumbnails([shown["c.png"].thumbnail]).values()
    assert thumbnail == make_thumbnail(folder / "c.png", 160, (0, 0, 0.5, 1)) != make_thumbnail(folder / "c.png", 160)
    assert editor.find_preview(shown["c.png"].thumbnail) == make_thumbnail(folder / "c.png", 768), "the whole picture"
    assert dict(open_album(options).facts)["cropped by hand"] == "2"

    editor.leave_out(options, ["b.png", "c.png"])
    assert [note for note in read_dataset(options).notes if "not used" in note] == []
    editor.bring_back(options, ["b.png", "c.png"])
    assert editor.set_crop(options, "b.png", None) == "Crop removed: the whole picture is used."
    assert '"b.png": [0.5, 0.25],' in file.read_text(encoding="utf-8")
    assert editor.undo(options) == "Undone: crop of b.png"
    for _ in range(5):
        editor.undo(options)
    assert not file.exists() and {path: path.read_bytes() for path in folder.glob("*.png")} == files
    for name, crop in (("gone.png", [0, 0, 1, 0.5]), ("a.png", [0, 0, 2, 1]), ("a.png", "x"), ("a.png", [0.5, 0, 0.50001, 1])):
        with pytest.raises(UserError, match="crop"):
            editor.set_crop(options, name, crop)


def test_findings_are_about_what_is_left(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        texture(number, (1200, 300)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"thing {number}", encoding="utf-8")
    options = config(folder, resolution=256, min_bucket_reso=256, max_bucket_reso=256)
    assert {finding.kind: finding.names for finding in report_health(options)} == {"cut": ("0.png", "1.png", "2.png")}
    write(folder, {"0.png": {"crop": [0, 0, 0.25, 1]}, "1.png": {"crop": [0.9, 0, 1, 0.3]}})
    assert {finding.kind: finding.names for finding in report_health(options)} == {"small": ("1.png",), "cut": ("2.png",)}
    odd = {card.name: card.odd for card in open_album(options).cards}
    assert not odd["0.png"] and odd["1.png"].startswith("small: 120x90 pixels") and odd["2.png"].startswith("long:")


def test_borders_are_cut_off_with_what_is_mixed_into_them_and_no_more(tmp_path):
    inside = texture(1, (1600, 900))
    letterboxed = ImageOps.expand(inside, (0, 150, 0, 150), "black")
    letterboxed.save(tmp_path / "film.jpg", quality=80)
    left, top, right, bottom = find_inside(Image.open(tmp_path / "film.jpg").convert("RGB"))
    assert (left, right) == (0, 1600) and 150 <= top <= 165 and 1035 <= bottom <= 1050
    assert find_inside(inside) == (0, 0, 1600, 900)


def test_the_captioner_sees_what_is_learned(tmp_path):
    folder = make(tmp_path / "data", scene(1))
    write(folder, {"a.png": {"crop": CROP}})
    seen = []
    list(
        write_captions(
            [folder / "a.png"],
            lambda paths, images: seen.extend(images) or ["x"],
            LabelFile(folder / "metadata.csv", folder),
            batch_size=1,
            word=str,
        )
    )
    assert np.array_equal(np.asarray(seen[0]), np.asarray(scene(1).crop(BOX)))
