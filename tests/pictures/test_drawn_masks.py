"""Masks that people draw: they lie where training finds them, nothing of another picture's changes, and what was there comes back."""

import io
from pathlib import Path

import numpy as np
import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.hosts.standalone.counting import count_tokens
from hotlora.pictures.album import open_album
from hotlora.pictures.dataset import read_dataset
from hotlora.pictures.editor import PictureEditor
from hotlora.pictures.masks import SIDE, open_drawing
from hotlora.pictures.reading import read_mask
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from PIL import Image


@pytest.fixture
def editor():
    return PictureEditor(count_tokens)


@pytest.fixture
def data(tmp_path):
    return make_pictures(tmp_path / "data", 3)


def config_of(folder, **values):
    paths = {"output_dir": str(folder.parent / "run"), "cache_dir": str(folder.parent / "cache")}
    return build(ImageConfig, {"train_data_dir": str(folder), "output_name": "x", "resolution": 64} | paths | values)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def left_half(size=(64, 64), mode="L"):
    """White at the left, black at the right."""
    image = Image.new("L", size, 0)
    image.paste(255, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def masks_of(config):
    """Picture -> mask, as a run has them."""
    return {example.path.name: example.mask for example in read_dataset(config).train}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_a_drawn_mask_is_what_training_reads(data, editor, mode):
    config = config_of(data, masked_loss=True)
    assert editor.write_mask(config, "picture 1.png", png(left_half(mode=mode))) == "Saved the mask of 'picture 1.png'."
    found = masks_of(config)
    assert found == {"picture 0.png": None, "picture 1.png": data / ".masks" / "picture 1.png", "picture 2.png": None}
    mask = np.asarray(read_mask(found["picture 1.png"]))
    assert mask.shape == (64, 64) and (mask[:, :32] == 255).all() and (mask[:, 32:] == 0).all()
    with Image.open(found["picture 1.png"]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))
    drawing = open_drawing(config, "picture 1.png")
    assert drawing.has_file and drawing.is_used and (np.asarray(Image.open(io.BytesIO(drawing.mask))) == mask).all()
    assert [card.has_mask for card in open_album(config).cards] == [False, True, False]


def test_without_masked_loss_it_is_drawn_too_and_said_not_to_be_used(data, editor):
    config = config_of(data)
    editor.write_mask(config, "picture 1.png", png(left_half()))
    album = open_album(config)
    assert [card.has_mask for card in album.cards] == [False, True, False] and not open_drawing(config, "picture 1.png").is_used
    assert "1 mask (.masks/picture 1.png) is not used: masked_loss is off. Set it to learn by these." in album.notes
    assert set(masks_of(config).values()) == {None}
    used = config_of(data, masked_loss=True)
    assert masks_of(used)["picture 1.png"] and not [note for note in open_album(used).notes if "not used" in note]
    elsewhere = data.parent / "masks"
    elsewhere.mkdir()
    notes = open_album(config_of(data, masked_loss=True, mask_dir=str(elsewhere))).notes
    assert "1 mask (.masks/picture 1.png) is not used: mask_dir is another folder. Clear it to learn by these." in notes


def test_it_goes_where_mask_dir_is(data, editor, tmp_path):
    (data / "12_cats").mkdir()
    (data / "picture 2.png").rename(data / "12_cats" / "picture 2.png")
    masks = tmp_path / "ma ü"
    masks.mkdir()
    config = config_of(data, masked_loss=True, mask_dir=str(masks), trigger_word="x")
    for name in ("picture 0.png", "12_cats/picture 2.png"):
        editor.write_mask(config, name, png(left_half()))
    assert set(files(masks)) == {"picture 0.png", "12_cats/picture 2.png"} and not (data / ".masks").exists()
    assert masks_of(config)["picture 2.png"] == masks / "12_cats" / "picture 2.png"


@pytest.mark.parametrize("name", ["picture 1.png", "picture 1.PNG", "picture 1.jpg"])
def test_a_mask_that_was_there_comes_back_byte_for_byte(data, editor, tmp_path, name):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("RGB", (30, 30), "white").save(masks / name)
    before, config = files(masks), config_of(data, masked_loss=True, mask_dir=str(masks))
    for _ in range(2):
        editor.write_mask(config, "picture 1.png", png(left_half()))
        (path,) = masks.iterdir()
        assert masks_of(config)["picture 1.png"] == path and path.suffix.lower() == ".png"
        assert np.asarray(read_mask(path)).mean() == pytest.approx(127.5)
    editor.remove_mask(config, "picture 1.png")
    assert not files(masks) and masks_of(config)["picture 1.png"] is None
    assert [editor.undo(config) for _ in range(3)][0] == "Undone: mask of picture 1.png removed"
    assert files(masks) == before


def test_pictures_of_one_name_keep_masks_of_their_own(data, editor):
    for folder in ("a", "b"):
        make_pictures(data / folder, 1)
    config = config_of(data, masked_loss=True)
    with pytest.raises(UserError, match=r"for 'picture 0.png' alone: 'a/picture 0.png', 'b/picture 0.png' would get it too"):
        editor.write_mask(config, "picture 0.png", png(left_half()))
    assert not (data / ".masks").exists()
    Image.new("L", (64, 64), 255).save((data / ".masks").mkdir() or data / ".masks" / "picture 0.png")  # somebody's, for all three
    editor.write_mask(config, "a/picture 0.png", png(left_half()))
    assert set(files(data / ".masks")) == {"picture 0.png", "a/picture 0.png"}
    assert np.asarray(read_mask(data / ".masks" / "picture 0.png")).min() == 255
    with pytest.raises(UserError, match="it is that of 'picture 0.png' too"):
        editor.remove_mask(config, "b/picture 0.png")
    editor.write_mask(config, "b/picture 0.png", png(left_half()))
    editor.write_mask(config, "picture 0.png", png(left_half()))
    assert all(np.asarray(read_mask(path)).min() == 0 for path in (data / ".masks").rglob("*.png"))


def test_pictures_that_differ_in_their_ending_only_cannot_have_masks_of_their_own(data, editor):
    Image.new("RGB", (64, 64)).save(data / "picture 0.jpg")
    with pytest.raises(UserError, match="'picture 0.png' would get it too, by the name. Rename one"):
        editor.write_mask(config_of(data, trigger_word="x"), "picture 0.jpg", png(left_half()))


def test_folders_of_a_run_have_their_own_masks(data, editor, tmp_path):
    make_pictures(tmp_path / "more", 2)
    make_pictures(tmp_path / "reg", 1, first=5)
    config = config_of(data, masked_loss=True, datasets=[str(tmp_path / "more")], reg_data_dir=str(tmp_path / "reg"))
    editor.write_mask(config, "more/picture 0.png", png(left_half()))
    assert files(tmp_path / "more" / ".masks") and not (data / ".masks").exists()
    with pytest.raises(UserError, match="regularisation pictures are learned whole"):
        editor.write_mask(config, "reg/picture 5.png", png(left_half()))
    masks = tmp_path / "masks"
    masks.mkdir()
    shared = config_of(data, masked_loss=True, datasets=[str(tmp_path / "more")], mask_dir=str(masks))
    with pytest.raises(UserError, match="'more/picture 0.png' would get it too"):
        editor.write_mask(shared, "picture 0.png", png(left_half()))


def test_it_goes_with_a_picture_that_is_left_out_and_comes_back(data, editor):
    editor.write_mask(config_of(data, masked_loss=True), "picture 1.png", png(left_half()))
    before, config = files(data), config_of(data)
    editor.leave_out(config, ["picture 1.png"])
    assert {"left out/picture 1.png", ".masks/left out/picture 1.png"} <= set(files(data)) and not (data / ".masks/picture 1.png").exists()
    editor.bring_back(config, ["picture 1.png"])
    assert files(data) == before


def test_a_large_picture_is_drawn_on_small_and_its_mask_is_as_large(tmp_path, editor):
    data = tmp_path / "data"
    data.mkdir()
    picture, exif = Image.new("RGB", (3000, 2001), "red"), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture.save(data / "a.jpg", exif=exif)
    config = config_of(data, masked_loss=True, trigger_word="x")
    drawing = open_drawing(config, "a.jpg")
    small = Image.open(io.BytesIO(drawing.picture))
    assert small.size == (683, SIDE) and drawing.size == (2001, 3000) and not drawing.mask
    editor.write_mask(config, "a.jpg", png(left_half(small.size)))
    mask = np.asarray(read_mask(data / ".masks" / "a.png"))
    assert mask.shape == (3000, 2001) and mask[:, :990].min() == 255 and mask[:, 1010:].max() == 0


def test_what_is_not_drawn_over_stays_as_fine_as_it_was(tmp_path, editor):
    data = make_pictures(tmp_path / "data", 1, size=(2048, 2048))
    fine = np.indices((2048, 2048)).sum(0) % 2 * 255  # a chequerboard of single pixels: grey, once it is small
    (data / ".masks").mkdir()
    Image.fromarray(fine.astype(np.uint8)).save(data / ".masks" / "picture 0.png")
    config = config_of(data, masked_loss=True)
    small = Image.open(io.BytesIO(open_drawing(config, "picture 0.png").mask))
    assert small.size == (SIDE, SIDE)
    small.paste(0, (0, 0, 100, SIDE))
    editor.write_mask(config, "picture 0.png", png(small))
    mask = np.asarray(read_mask(data / ".masks" / "picture 0.png"))
    assert mask[:, :190].max() == 0 and (mask[:, 210:] == fine[:, 210:]).all()


def test_an_alpha_channel_is_what_drawing_begins_with(data, editor):
    picture = Image.open(data / "picture 0.png").convert("RGBA")
    picture.putalpha(left_half())
    picture.save(data / "picture 0.png")
    drawing = open_drawing(config_of(data), "picture 0.png")
    assert not drawing.has_file and png(Image.open(io.BytesIO(drawing.mask))) == png(left_half())


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"no picture", "it is no PNG picture"),
        (b"", "it is no PNG picture"),
        (b"\x89PNG\r\n\x1a\n", "it is no PNG picture"),
        (png(left_half())[:80], "it is broken"),
        (png(left_half((65, 64))), "65x64 pixels, and its picture 64x64. Send one that is not larger"),
        (png(left_half((64, 40))), "64x40 pixels, and its picture 64x64. Send one of the same shape"),
        (png(left_half()) + b"x" * 16_000_000, "more than 16000000. Send a smaller PNG"),
    ],
)
def test_what_is_no_mask_is_refused_and_nothing_is_written(data, editor, sent, said):
    before, config = files(data), config_of(data)
    with pytest.raises(UserError, match=f"cannot take the mask: .*{said}"):
        editor.write_mask(config, "picture 0.png", sent)
    assert files(data) == before and editor.count_steps(config) == 0


@pytest.mark.parametrize("name", ["gone.png", "../run/x.png", str(Path.cwd() / "x.png"), ""])
def test_only_pictures_of_the_album_have_masks(data, editor, name):
    config = config_of(data)
    for act in (lambda: editor.write_mask(config, name, png(left_half())), lambda: editor.open_mask(config, name)):
        with pytest.raises(UserError, match="there is no such picture any more. Look at them again"):
            act()
    with pytest.raises(UserError, match="it has none in a file"):
        editor.remove_mask(config, "picture 0.png")


def test_a_folder_that_cannot_be_written_is_a_sentence(data, editor, monkeypatch):
    def refuse(path, content, **how):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hotlora.pictures.caption_editing.write_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot write .*picture 0.png: Permission denied. Give it and its folder the rights"):
        editor.write_mask(config_of(data), "picture 0.png", png(left_half()))
    (data / ".masks").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot read .*picture 0.png: "):
        editor.write_mask(config_of(data), "picture 0.png", png(left_half()))
