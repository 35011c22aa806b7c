"""What people see of their pictures is what training would use, and nothing a file holds can keep them from seeing it."""

import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures import album
from hotlora.pictures.album import UPLOAD_SUFFIXES, look_at_pictures
from hotlora.pictures.dataset import read_dataset
from hotlora.pictures.reading import SUFFIXES, make_thumbnail
from hotlora.sd.config import ImageConfig
from PIL import Image, ImageOps


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "meine Bilder ü"


def picture(path: Path, size=(512, 512), caption: str | None = "a cat") -> Path:
    """A noisy picture, unlike every other of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*path.name.encode()])
    Image.fromarray(rng.integers(0, 256, (max(1, size[1] // 16), max(1, size[0] // 16), 3), dtype=np.uint8)).resize(size, 0).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def config(data: Path, **values) -> ImageConfig:
    return build(ImageConfig, {"train_data_dir": str(data), "output_dir": str(data.parent / "run"), **values})


def look(data: Path, **values):
    return look_at_pictures(config(data, **values))


def problems(view) -> dict[str, str]:
    return {example.name: example.problem or example.warning for example in view.examples}


def test_a_sound_data_set_is_shown_with_its_captions_and_without_a_complaint(data):
    for name in ("a.png", "b.png", "sub folder/c.png"):
        picture(data / name, caption=f"caption of {name}")
    view = look(data, trigger_word="sks", caption_suffix="photo")
    assert view.count == 3 and view.notes == () and set(problems(view).values()) == {""}
    assert {e.name: e.text for e in view.examples} == {
        "a.png": "sks, caption of a.png photo",
        "b.png": "sks, caption of b.png photo",
        "sub folder/c.png": "sks, caption of sub folder/c.png photo",
    }
    assert dict(view.facts) == {"pictures": "3", "with caption": "3 of 3", "trained at": "512x512 (3)"}


def test_captions_are_shown_whole_whatever_chance_does_to_them_in_training(data):
    picture(data / "a.png", caption="one, two, {three|drei}, four")
    shown = look(data, shuffle_caption=True, caption_dropout_rate=1.0, caption_tag_dropout_rate=0.9, enable_wildcard=True).examples[0]
    assert shown.text == "one, two, {three|drei}, four"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_thumbnails_are_small_upright_jpegs(data, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    path = picture(data / f"a{suffix}")
    across, down = np.meshgrid(np.linspace(0, 255, 640), np.linspace(0, 255, 320))
    Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8)).save(path, exif=exif, quality=95)
    shown = look(data).examples[0]
    with Image.open(io.BytesIO(shown.thumbnail)) as thumbnail, Image.open(path) as image:
        assert thumbnail.format == "JPEG" and thumbnail.mode == "RGB" and thumbnail.size == (80, 160)
        expected = np.asarray(ImageOps.exif_transpose(image).resize((80, 160), Image.Resampling.LANCZOS), dtype=float)
        assert np.abs(np.asarray(thumbnail, dtype=float) - expected).mean() < 3
    assert len(shown.thumbnail) < 20_000


def test_what_is_transparent_is_white_in_a_thumbnail_and_small_pictures_stay_small(tmp_path):
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    with Image.open(io.BytesIO(make_thumbnail(tmp_path / "a.png", 160))) as thumbnail:
        assert thumbnail.size == (40, 20) and thumbnail.getpixel((5, 5)) == (255, 255, 255)


def test_a_thumbnail_follows_its_picture(data):
    path = picture(data / "a.png")
    before = look(data).examples[0].thumbnail
    Image.new("RGB", (512, 512), "blue").save(path)
    os.utime(path, (time.time() + 5, time.time() + 5))
    after = look(data).examples[0].thumbnail
    assert before != after
    with Image.open(io.BytesIO(after)) as thumbnail:
        assert thumbnail.convert("RGB").getpixel((50, 50))[2] > 240


def make_troubled(data: Path) -> dict[str, str]:
    """A data set with one of each trouble; what is to be said under each picture."""
    picture(data / "a sound.png")
    (data / "b no picture.png").write_text("hello")
    (data / "c empty.jpg").write_bytes(b"")
    whole = picture(data / "d cut short.png").read_bytes()
    (data / "d cut short.png").write_bytes(whole[: len(whole) // 2])
    picture(data / "e no caption.png", caption=None)
    picture(data / "f empty caption.png", caption=" \n")
    picture(data / "g not utf8.png").with_suffix(".txt").write_bytes(b"caf\xe9")
    (data / "h twin.png").write_bytes((data / "a sound.png").read_bytes())
    (data / "h twin.txt").write_text("a twin")
    picture(data / "i small.png", size=(256, 256))
    picture(data / "j long.png", size=(3000, 400))
    picture(data / "k two captions.png", caption=None)
    picture(data / "l unused caption.png", caption="what I wrote by hand")
    rows = [("k two captions.png", "one"), ("k two captions.png", "two"), ("l unused caption.png", "from the table")]
    (data / "metadata.csv").write_text("file_name,text\n" + "\n".join(",".join(row) for row in rows))
    return {
        "b no picture.png": "its content is no picture",
        "c empty.jpg": "the file is empty",
        "d cut short.png": "it is broken",
        "e no caption.png": "it has no caption yet",
        "f empty caption.png": "is empty. Write one",
        "g not utf8.png": "it is not UTF-8",
        "h twin.png": "it is the same picture as a sound.png",
        "i small.png": "256x256 pixels will be enlarged 2.0 times",
        "j long.png": "of it will be cut away to fit 1024x256",
        "k two captions.png": "it has two captions",
        "l unused caption.png": "line 4, not the one beside it",
    }


def test_every_trouble_stands_under_its_picture_and_comes_first(data):
    expected = make_troubled(data)
    view = look(data, max_bucket_reso=1024)
    found = problems(view)
    assert len(found) == view.count == 12
    for name, words in expected.items():
        assert words in found[name], (name, found[name])
    assert found["a sound.png"] == "" and list(found)[-1] == "a sound.png"
    last_wrong = max(list(found).index(name) for name in [*list(expected)[:3], *list(expected)[4:7], "k two captions.png"])
    assert last_wrong < min(list(found).index(name) for name in ("i small.png", "j long.png", "l unused caption.png"))
    thumbnails = {e.name: bool(e.thumbnail) for e in view.examples}
    assert not (thumbnails["b no picture.png"] or thumbnails["c empty.jpg"] or thumbnails["d cut short.png"])
    assert thumbnails["e no caption.png"] and thumbnails["h twin.png"]
    assert view.notes[0].startswith("7 pictures cannot be trained on")
    assert view.notes[1].startswith("1 picture without a caption. Write one, or type a trigger word")


def test_what_is_called_wrong_is_what_training_refuses_and_nothing_else(data):
    make_troubled(data)
    view = look(data)
    with pytest.raises(UserError) as refusal:
        read_dataset(config(data))
    told = str(refusal.value).replace(f"the same picture as {data / 'a sound.png'}", "")
    refused = {name for name in problems(view) if str((data / name).with_suffix("")) in told}
    assert refused == {name for name in problems(view) if name[0] in "bcdefghk"}
    called_wrong = {example.name for example in view.examples if example.problem}
    assert called_wrong == {name for name in refused if name[0] != "e"}, "what a trigger word would mend is not wrong yet"
    taken = read_dataset(config(data, on_bad_data="skip")).train
    assert {e.path.name for e in taken} == {name for name in problems(view) if name[0] in "aijkl"}


def test_what_concerns_no_picture_is_a_note(data):
    picture(data / "a.png")
    (data / "metadata.csv").write_text("file_name,text\na.png,a cat\nlost.png,a dog\n")
    view = look(data)
    assert len(view.notes) == 1 and "lost.png: there is no such file" in view.notes[0]
    assert problems(view) == {"a.png": ""}


def test_pictures_without_a_caption_of_their_own_show_what_stands_in(data):
    picture(data / "a.png", caption=None)
    picture(data / "b.png")
    view = look(data, trigger_word="sks")
    assert {e.name: (e.text, e.problem) for e in view.examples} == {"a.png": ("sks", ""), "b.png": ("sks, a cat", "")}
    assert dict(view.facts)["with caption"] == "1 of 2"
    said = "learned as 'sks', where others have captions. Write captions, or leave it so."
    assert view.notes == (f"1 picture without a caption (a.png) is {said}",)
    (data / "b.txt").unlink()
    assert look(data, trigger_word="sks").notes == ("2 pictures with no caption will be learned as 'sks'.",)


def test_repeats_sizes_regularisation_and_validation_are_counted(data, tmp_path):
    for number in range(3):
        picture(data / "10_cat" / f"a{number}.png")
    picture(data / "2_dog" / "b.png", size=(512, 768))
    for number in range(5):
        picture(tmp_path / "reg" / "1_animal" / f"r{number}.png", caption=None)
    picture(tmp_path / "judge" / "v.png")
    view = look(data, reg_data_dir=str(tmp_path / "reg"), validation_dir=str(tmp_path / "judge"), trigger_word="sks")
    facts = dict(view.facts)
    assert facts["pictures"] == "4" and facts["per epoch with repeats"] == "32" and facts["folders"] == "10_cat (3 × 10), 2_dog (1 × 2)"
    assert facts["trained at"] == "512x512 (3), 384x640 (1)"
    assert facts["regularisation pictures"] == "5" and facts["for validation"] == "1"
    texts = {e.name: e.text for e in view.examples}
    assert texts["reg/1_animal/r0.png"] == "animal" and texts["judge/v.png"] == "sks, a cat"


def test_a_validation_split_is_counted_as_training_would_take_it(data):
    for number in range(7):
        picture(data / f"{number}.png")
    for share in (0.01, 0.3, 0.9):
        expected = len(read_dataset(config(data, validation_split=share)).validation)
        assert dict(look(data, validation_split=share).facts)["for validation"] == str(expected)


def test_only_so_many_are_shown_but_all_are_counted_and_the_worst_is_among_them(data):
    for number in range(9):
        picture(data / f"{number}.png")
    picture(data / "z bad.png", caption=None)
    view = look_at_pictures(config(data), limit=3)
    assert view.count == 10 and [e.name for e in view.examples] == ["z bad.png", "0.png", "1.png"]


def test_reading_is_left_for_the_next_look_when_it_takes_too_long(data, monkeypatch):
    for number in range(40):
        picture(data / f"{number:02}.png", size=(64, 64))
        os.utime(data / f"{number:02}.png", (1e9, 1e9))
    (data / "39.png").write_bytes((data / "39.png").read_bytes()[:60])  # its head is whole
    monkeypatch.setattr(album, "_LOOK_SECONDS", -1.0)
    view = look(data, resolution=64, min_bucket_reso=64)
    assert view.count == 40 and view.notes == ("8 pictures not read to the end yet: only the size is known. Look again to go on.",)
    assert dict(view.facts)["trained at"] == "64x64 (40)"
    known = json.loads((data / ".hotlora-cache" / "index.json").read_text())["pictures"]
    assert len(known) == 32
    monkeypatch.setattr(album, "_LOOK_SECONDS", 15.0)
    assert problems(look(data, resolution=64, min_bucket_reso=64))["39.png"].startswith("cannot be read: it is broken")


def test_a_second_look_reads_no_picture_again(data, monkeypatch):
    for number in range(3):
        picture(data / f"{number}.png")
        os.utime(data / f"{number}.png", (1e9, 1e9))
    first = look(data)

    def refuse(*args):
        raise AssertionError("read again")

    monkeypatch.setattr("hotlora.pictures.index.read_bytes", refuse)
    monkeypatch.setattr(album, "make_thumbnail", refuse)
    assert look(data) == first


def test_missing_and_empty_folders_are_told(data, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        look(data)
    data.mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        look(data)
    with pytest.raises(UserError, match="train_data_dir is empty"):
        look_at_pictures(build(ImageConfig, {}))
    picture(data / "a.png")
    with pytest.raises(UserError, match="Correct reg_data_dir"):
        look(data, reg_data_dir=str(tmp_path / "none"))


def test_only_broken_pictures_are_shown_too(data):
    data.mkdir()
    (data / "a.png").write_text("hello")
    view = look(data, validation_split=0.5)
    assert view.count == 1 and "no picture" in view.examples[0].problem and "for validation" not in dict(view.facts)


def test_a_metadata_file_neither_reads_nor_finds_out_about_files_elsewhere(data, tmp_path):
    secret = picture(tmp_path / "secret.png", caption=None)
    picture(data / "a.png", caption="mine")
    for name in ("../secret.png", str(secret), "../secre.png", "//server/share/x.png"):
        (data / "metadata.csv").write_text(f"file_name,text\n{name},stolen\n")
        view = look(data)
        assert [e.name for e in view.examples] == ["a.png"] and view.examples[0].text == "mine"
        assert len(view.notes) == 1 and f"outside of the data folder, such as {name}." in view.notes[0]
    (data / "metadata.csv").write_text("file_name,text\n../secret.png,stolen\na.png,from the table\n")
    view = look(data)
    assert view.notes == ("1 caption file (a.txt) is not used: the metadata file goes before.",)
    assert view.examples[0].text == "from the table"


def test_captions_of_a_table_above_the_pictures_or_with_full_paths_are_found(data):
    picture(data / "images" / "a.png", caption=None)
    picture(data / "images" / "b.png", caption=None)
    (data / "tables").mkdir()
    (data / "tables" / "metadata.csv").write_text(f"file_name,text\n../images/a.png,one\n{data / 'images' / 'b.png'},two\n")
    assert {e.name: e.text for e in look(data).examples} == {"images/a.png": "one", "images/b.png": "two"}


def test_a_warning_is_no_problem_and_numbers_follow_the_resolution(data):
    picture(data / "a.png", caption=None)
    picture(data / "b.png", size=(256, 256))
    seen = {e.name: (e.problem, e.warning) for e in look(data).examples}
    assert seen == {"a.png": ("", "it has no caption yet."), "b.png": ("", "small: 256x256 pixels will be enlarged 2.0 times.")}
    assert problems(look(data, resolution=256, trigger_word="sks")) == {"a.png": "", "b.png": ""}
    assert dict(look(data, resolution=256).facts)["trained at"] == "256x256 (2)"


def test_what_may_be_uploaded_is_what_is_read():
    assert set(SUFFIXES) < set(UPLOAD_SUFFIXES) and {".txt", ".caption", ".csv", ".jsonl"} < set(UPLOAD_SUFFIXES)
