"""Folders as people, cameras, network drives and other trainers leave them: what is read, and what is said of the rest."""

import json
import os
import sys

import pytest
from hotlora.engine.errors import UserError
from hotlora.pictures import reading
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.caption_editing import read_caption, write_caption
from hotlora.pictures.dataset import read_dataset
from hotlora.pictures.folder_facts import count_folders
from PIL import Image
from test_dataset import captions, complaint, config, picture, read, text

SIDE_FILES = [
    ".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "ehthumbs.db", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/old.png",
    "__MACOSX/a.png", "$RECYCLE.BIN/x.png", "a_0064x0064_sd.npz", "a_sdxl_te.npz", "README.md", "readme.txt", ".git/config", "Icon\r",
    "a.png.bak", "System Volume Information/x.txt", "notes.log", "Shortcut.lnk",
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "mein Ordner ü"
    folder.mkdir()
    return folder


def notes(data, **values) -> list[str]:
    """What training says; the page says the same."""
    found = read(data, **values).notes
    assert not set(found) - set(look_at_pictures(config(data, **values)).notes)
    return found


@pytest.mark.parametrize(
    ("caption_name", "picture_name"),
    [
        ("IMG.TXT", "IMG.png"), ("img.txt", "IMG.PNG"), ("IMG.Txt", "img.JPG"), ("a.png.txt", "a.png"), ("A.PNG.TXT", "a.png"),
        ("a.CAPTION", "a.png"), ("a.png.caption", "a.png"), ("u\u0308.txt", "\u00fc.png"), ("a.b.txt", "a.b.png"),
    ],
)  # fmt: skip
def test_captions_are_found_however_they_are_named(data, caption_name, picture_name):
    picture(data / picture_name)
    text(data / caption_name, "a cat")
    assert list(captions(data, trigger_word="x").values()) == ["a cat"]
    assert notes(data) == []


def test_the_first_of_several_caption_files_counts_and_the_rest_is_said(data):
    picture(data / "a.png")
    for name in ("a.txt", "a.caption", "a.png.txt"):
        text(data / name, name)
    assert captions(data) == {"a.png": "a.txt"}
    assert notes(data) == ["2 caption files (a.caption, a.png.txt) are not used: another one of the same picture goes before."]
    assert read_caption(config(data), "a.png") == "a.txt"


def test_the_caption_that_was_found_is_the_one_that_is_changed(data):
    picture(data / "a.png")
    text(data / "A.PNG.TXT", "old")
    assert write_caption(config(data), "a.png", "new").name == "A.PNG.TXT" and captions(data) == {"a.png": "new"}


@pytest.mark.parametrize("name", SIDE_FILES)
def test_no_false_alarm_for_what_lies_in_every_folder(data, name):
    text(picture(data / "a.png").with_suffix(".txt"), "a cat")
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    text(data / name, "x")
    assert notes(data) == [] and captions(data) == {"a.png": "a cat"}


def test_what_is_not_used_is_said_with_counts_and_first_names(data):
    text(picture(data / "a.png").with_suffix(".txt"), "a cat")
    for name in ("lonely.txt", "film.mp4", "layers.psd", "list.json", "raw.CR2", "0_off/b.png"):
        (data / name).parent.mkdir(exist_ok=True)
        picture(data / name) if name.endswith("png") else text(data / name, "x")
    text(data / "0_off" / "b.txt", "off")
    assert notes(data) == [
        "1 picture (0_off/b.png) is left out: a folder that begins with 0_ is switched off.",
        "4 files (film.mp4, layers.psd, list.json …) are not used: only pictures, captions and metadata are.",
        "1 caption file (lonely.txt) is not used: no picture has that name.",
    ]


def test_masks_that_are_not_used_are_said(data, tmp_path):
    for name in ("a.png", "b.png", "x/c.png", "0_off/d.png"):
        text(picture(data / name).with_suffix(".txt"), f"a {name}")
    masks = tmp_path / "masks"
    for name in ("a.png", "a.jpg", "x/c.png", "d.png", "r.png", "gone.png", "x/b 2.png"):
        picture(masks / name)
    text(masks / "a.npy", "x")
    text(picture(tmp_path / "reg" / "r.png").with_suffix(".txt"), "a thing")
    said = notes(data, masked_loss=True, mask_dir=str(masks), reg_data_dir=str(tmp_path / "reg"))
    assert [line for line in said if "mask" in line] == [
        "4 masks (a.png, gone.png, r.png …) are not used: no picture has that name, or it learns without masks, or has another.",
        "1 file in mask_dir (a.npy) is not used: masks are pictures.",
        "1 picture without a mask in mask_dir (b.png) is learned by its alpha channel, or as a whole where it has none.",
    ]


@pytest.mark.parametrize("ending", ["-masklabel", "_mask", "-mask"])
def test_masks_among_the_pictures_are_said(data, ending):
    for name in ("a.png", f"a{ending}.png", f"b{ending}.png"):
        picture(data / name)
        picture(data / f"d.{name}")
    said = notes(data, trigger_word="x")
    shown = f"a{ending}.png, d.a{ending}.png"
    assert len(said) == 1 and said[0].startswith(f"2 pictures called as a mask ({shown}) are learned like any other. Move masks to")


def test_masks_for_a_run_without_masked_loss_are_a_sentence(data, tmp_path):
    picture(data / "a.png")
    with pytest.raises(UserError, match="cannot use mask_dir: masked_loss is off. Set masked_loss: true."):
        config(data, mask_dir=str(tmp_path)).check()


def test_only_switched_off_folders_are_a_sentence(data):
    picture(data / "0_cat" / "a.png")
    with pytest.raises(UserError, match="begin with 0_"):
        read(data)


@pytest.mark.parametrize(("name", "repeats"), [("10_mys", 10), ("1_person", 1), ("3_a cat", 3)])
def test_a_repeat_folder_may_be_the_data_folder_itself(data, name, repeats):
    picture(data / name / "a.png")
    dataset = read(data / name)
    assert dataset.count() == repeats and dataset.train[0].caption == name.partition("_")[2]
    assert count_folders(dataset) == {name: {"n_repeats": repeats, "img_count": 1}}
    said = notes(data / name)
    assert (len(said) == 1 and f"{repeats} times" in said[0]) if repeats > 1 else said == []


@pytest.mark.parametrize("name", ["2024_holiday", "20240105_cats", "0_x"])
def test_a_year_is_no_number_of_repeats(data, name):
    picture(data / name / "a.png")
    assert read(data / name, trigger_word="x").count() == 1 and notes(data / name, trigger_word="x") == []


def test_regularisation_folder_given_itself_has_its_class_words(data, tmp_path):
    text(picture(data / "a.png").with_suffix(".txt"), "a cat")
    picture(tmp_path / "reg" / "1_person" / "r.png")
    dataset = read(data, reg_data_dir=str(tmp_path / "reg" / "1_person"))
    assert [e.caption for e in dataset.train if e.is_reg] == ["person"]


@pytest.mark.parametrize("name", ["meta_cap.json", "META_LAT.json", "meta_clean.json", "metadata.json"])
@pytest.mark.parametrize("key", ["a.png", "a", "/content/train/a.png", "C:\\train\\a.png"])
def test_metadata_of_sd_scripts(data, name, key):
    picture(data / "a.png")
    text(data / name, json.dumps({key: {"caption": "a cat", "tags": "solo, outdoors", "train_resolution": [64, 64]}}))
    assert captions(data) == {"a.png": "a cat, solo, outdoors"} and notes(data) == []


def test_only_tags_or_a_list_of_records(data):
    picture(data / "a.png")
    text(data / "meta_cap.json", json.dumps({"a": {"tags": "solo"}}))
    assert captions(data) == {"a.png": "solo"}
    text(data / "meta_cap.json", json.dumps([{"image": "a.png", "text": "a cat"}]))
    assert captions(data) == {"a.png": "a cat"}
    assert captions(data, metadata_path="meta_cap.json") == {"a.png": "a cat"}


@pytest.mark.parametrize("content", ["{", "7", '"x"', "[1]", "[" * 100_000])
def test_broken_json_is_a_sentence(data, content):
    picture(data / "a.png")
    text(data / "meta_cap.json", content)
    with pytest.raises(UserError, match=r"meta_cap\.json"):
        read(data, trigger_word="x")


def test_a_table_may_be_called_in_any_case(data):
    picture(data / "a.png")
    text(data / "Metadata.CSV", "file_name,text\na.png,a cat\n")
    assert captions(data) == {"a.png": "a cat"} and notes(data) == []


def test_another_table_than_the_named_one_is_said(data):
    picture(data / "a.png")
    text(data / "metadata.csv", "file_name,text\na.png,one\n")
    text(data / "mine.csv", "file_name,text\na.png,two\n")
    said = notes(data, metadata_path="mine.csv")
    assert captions(data, metadata_path="mine.csv") == {"a.png": "two"}
    assert "1 metadata file (metadata.csv) is not read, because metadata_path names another." in said


@pytest.mark.parametrize(("suffix", "kind"), [(".tif", "TIFF"), (".TIFF", "TIFF"), (".gif", "GIF"), (".jfif", "JPEG"), (".jpe", "JPEG")])
def test_further_kinds_of_pictures_are_read(data, suffix, kind):
    Image.new("RGB", (8, 8), "red").save(data / f"a{suffix}", kind)
    assert list(captions(data, trigger_word="x")) == [f"a{suffix}"]
    assert bool(notes(data, trigger_word="x")) == (kind == "GIF")


def test_apples_pictures_are_listed_where_nothing_reads_them(data, monkeypatch):
    monkeypatch.setattr(reading, "can_read_heif", lambda: False)
    text(picture(data / "a.png").with_suffix(".txt"), "a cat")
    text(data / "b.HEIC", "x")
    text(data / "b.txt", "x")
    said = notes(data)
    assert said[0] == "1 picture (b.HEIC) is left out. Install pillow-heif to read HEIC, or convert to PNG or JPEG."
    with pytest.raises(UserError, match=r"only \.heic"):
        (data / "a.png").unlink()
        (data / "a.txt").unlink()
        (data / "b.txt").unlink()
        read(data)


def test_apples_pictures_are_read_where_the_package_is(data, monkeypatch):
    class Plugin:
        @staticmethod
        def register_heif_opener():
            Image.register_open("FAKEHEIF", lambda *a: None, lambda head: False)

    monkeypatch.setitem(sys.modules, "pillow_heif", Plugin)
    monkeypatch.setattr(reading, "can_read_heif", lambda: True)
    (data / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 30)
    with pytest.raises(UserError, match="content is no picture"):
        read(data, trigger_word="x")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_linked_folders_are_read_once_and_circles_end(data, tmp_path):
    picture(tmp_path / "elsewhere" / "a.png")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (data / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(data)
    assert list(captions(data, trigger_word="x")) == ["again/a.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_pipes_are_not_waited_for(data):
    text(picture(data / "a.png").with_suffix(".txt"), "a cat")
    for name in ("b.png", "c.txt", "metadata.csv"):
        os.mkfifo(data / name)
    assert notes(data) == ["3 files (b.png, c.txt, metadata.csv) are not used: only pictures, captions and metadata are."]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_are_said(data):
    text(picture(data / "a.png").with_suffix(".txt"), "a cat")
    with open(os.fsencode(data) + b"/caf\xe9.png", "wb") as file:
        file.write((data / "a.png").read_bytes())
    assert notes(data) == ["1 file (caf\\udce9.png) is not used: only pictures, captions and metadata are."]


def test_captions_of_several_lines_are_counted(data):
    text(picture(data / "a.png").with_suffix(".txt"), "1girl\nsolo\n")
    assert notes(data) == [
        "1 caption of several lines (a.png) is joined into one line. Set enable_wildcard to learn one of the lines each time."
    ]
    assert notes(data, enable_wildcard=True) == []
    assert read_dataset(config(data)).train[0].caption == "1girl\nsolo"


def test_learning_by_masks_that_are_nowhere_is_said(data):
    picture(data / "a.png")
    assert any("masked_loss has nothing to go by" in note for note in notes(data, masked_loss=True, trigger_word="x"))
    Image.new("RGBA", (8, 8), (1, 2, 3, 100)).save(data / "b.png")
    assert notes(data, masked_loss=True, trigger_word="x") == []


def test_regularisation_pictures_among_the_others_are_said(data):
    picture(data / "img" / "10_mrx woman" / "a.png")
    picture(data / "reg" / "1_woman" / "b.png")
    (said,) = notes(data)
    assert said.startswith("1 picture in a folder called as regularisation (reg/1_woman/b.png) is learned like any other. Set reg_data_dir")
    assert notes(data, reg_data_dir=str(data / "reg")) == []


def test_pictures_without_a_caption_among_others_are_said(data):
    for name in ("a.png", "b.png"):
        picture(data / name)
    assert notes(data, trigger_word="mrx") == []
    text(data / "a.txt", "a cat")
    (said,) = notes(data, trigger_word="mrx")
    assert said.startswith("1 picture without a caption (b.png) is learned as 'mrx', where others")


def test_rows_that_another_table_goes_before_are_said(data):
    picture(data / "a.png")
    text(data / "metadata.csv", "filename,prompt\na.png,a cat\n")
    text(data / "metadata.jsonl", '{"file_name": "a.png", "text": "a dog"}\n')
    assert captions(data) == {"a.png": "a cat"}
    assert notes(data) == ["1 caption in metadata.jsonl (a.png) is not used: another metadata file goes before."]
    text(data / "metadata.jsonl", '{"file_name": "a.png", "text": "a cat"}\n')
    assert notes(data) == []


@pytest.mark.parametrize("written", ["A.PNG", "a", "a.jpg"])
def test_the_picture_that_a_row_may_mean_is_named(data, written):
    picture(data / "a.png")
    text(data / "metadata.csv", f"filename,prompt\n{written},a cat\n")
    if not (data / written).exists():  # some disks do not tell A from a
        assert "Did you mean 'a.png'?" in complaint(data)


def test_a_folder_is_no_metadata_file(data):
    picture(data / "a.png")
    with pytest.raises(UserError, match="it is a folder. Correct metadata_path"):
        read(data, metadata_path=str(data))
