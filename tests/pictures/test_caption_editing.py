"""A caption that is corrected is what training reads from then on, and nothing else is changed."""

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.caption_editing import read_caption, write_caption
from hotlora.pictures.dataset import read_dataset
from hotlora.sd.config import ImageConfig
from pictures import make_pictures


@pytest.fixture
def config(tmp_path):
    """Four pictures: one without a caption, one with a .txt, one with a .caption, one in a folder with an accent."""
    folder = tmp_path / "my data ü"
    make_pictures(folder, 3)
    make_pictures(folder / "2_Kätzchen", 1, first=3)
    paths = sorted(folder.glob("*.png"))
    for path, name in zip([*paths, *(folder / "2_Kätzchen").glob("*.png")], ("a.png", "b.v2.png", "c.png", "d.png"), strict=True):
        path.rename(path.with_name(name))
    for text in folder.rglob("*.txt"):
        text.unlink()
    (folder / "b.v2.txt").write_text("a blue square\n", encoding="utf-8")
    (folder / "c.caption").write_text("a cyan square", encoding="utf-8")
    return build(ImageConfig, {"train_data_dir": str(folder), "trigger_word": "zwx", "on_bad_data": "skip"})


def content(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and ".hotlora-cache" not in path.parts}


def learned(config):
    return {example.path.name: example.caption for example in read_dataset(config).train}


def test_every_picture_of_the_album_is_found_by_its_name(config):
    captions = {example.name: read_caption(config, example.name) for example in look_at_pictures(config).examples}
    assert captions == {"a.png": "", "b.v2.png": "a blue square", "c.png": "a cyan square", "2_Kätzchen/d.png": ""}


def test_what_is_written_is_what_is_learned(config, tmp_path):
    folder = tmp_path / "my data ü"
    for name, text in {"a.png": " 一只猫, <b>sitting</b>\n", "b.v2.png": "two\nlines", "c.png": "c", "2_Kätzchen/d.png": "d"}.items():
        write_caption(config, name, text)
    expected = {"a.png": "一只猫, <b>sitting</b>", "b.v2.png": "two\nlines", "c.png": "c", "d.png": "d"}
    assert learned(config) == expected
    texts = {"a.txt", "b.v2.txt", "c.caption", "2_Kätzchen/d.txt"}
    assert content(folder) == texts | {"a.png", "b.v2.png", "c.png", "2_Kätzchen/d.png"}


def test_an_empty_caption_takes_the_file_away(config, tmp_path):
    for name in ("a.png", "b.v2.png", "c.png"):
        write_caption(config, name, " \n")
        assert read_caption(config, name) == ""
    assert content(tmp_path / "my data ü") == {"a.png", "b.v2.png", "c.png", "2_Kätzchen/d.png"}


def test_pictures_to_judge_by_have_captions_too(config, tmp_path):
    make_pictures(tmp_path / "judge", 1, first=9)
    config.validation_dir = str(tmp_path / "judge")
    (name,) = [example.name for example in look_at_pictures(config).examples if example.name.startswith("judge/")]
    path = write_caption(config, name, "new")
    assert path.parent == tmp_path / "judge" and path.read_text(encoding="utf-8") == "new\n"


def test_a_caption_in_a_table_is_not_hidden_behind_a_text(config, tmp_path):
    table = tmp_path / "my data ü" / "metadata.csv"
    table.write_text("filename,prompt\na.png,from the table\n", encoding="utf-8")
    for refused in (lambda: read_caption(config, "a.png"), lambda: write_caption(config, "a.png", "new")):
        with pytest.raises(UserError, match=r"cannot change the caption of 'a\.png' here: it stands in .*metadata\.csv line 2"):
            refused()
    assert not (tmp_path / "my data ü" / "a.txt").exists()


@pytest.mark.parametrize("name", ["../other/x.png", "{other}/x.png", "none.png", "..", "", ".", "2_Kätzchen/../../other/x.png", "b.v2.txt"])
def test_no_caption_is_written_elsewhere(config, tmp_path, name):
    make_pictures(tmp_path / "other", 1)
    next((tmp_path / "other").glob("*.png")).rename(tmp_path / "other" / "x.png")
    before = content(tmp_path)
    with pytest.raises(UserError, match="there is no such picture any more"):
        write_caption(config, name.format(other=tmp_path / "other"), "stolen")
    assert content(tmp_path) == before
