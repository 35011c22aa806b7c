"""A caption that is corrected is what training reads from then on, and nothing else is changed."""

import shutil
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.caption_editing import read_caption, write_caption
from hotlora.pictures.caption_files import Row
from hotlora.pictures.caption_tables import change_rows
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


TABLES = {  # name -> (before, the caption of a.png in it changed to 'new, "one"', the same emptied)
    "metadata.csv": (
        "filename,prompt\r\n c.png , 'c', with commas\r\na.png,from the table\r\n\r\nb.v2.png,\"b, quoted\"\r\n",
        'filename,prompt\r\n c.png , \'c\', with commas\r\na.png,"new, ""one"""\r\n\r\nb.v2.png,"b, quoted"\r\n',
        "filename,prompt\r\n c.png , 'c', with commas\r\n\r\nb.v2.png,\"b, quoted\"\r\n",
    ),
    "nested/metadata.csv": (
        'text;rating;file_name\n"of two\nlines";5;../c.png\nfrom the table;4;../a.png',
        'text;rating;file_name\n"of two\nlines";5;../c.png\n"new, ""one""";4;../a.png',
        'text;rating;file_name\n"of two\nlines";5;../c.png\n;4;../a.png',
    ),
    "metadata.jsonl": (
        '{"file_name": "c.png", "text":   "ü"}\n\n{"file_name": "a.png", "text": "from the table"}\n',
        '{"file_name": "c.png", "text":   "ü"}\n\n{"file_name": "a.png", "text": "new, \\"one\\""}\n',
        '{"file_name": "c.png", "text":   "ü"}\n\n',
    ),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_caption_in_a_table_is_changed_there_and_every_other_byte_stays(config, tmp_path, name, encoding):
    table = tmp_path / "my data ü" / name
    table.parent.mkdir(exist_ok=True)
    before, changed, emptied = TABLES[name]
    table.write_bytes(before.encode(encoding))
    assert read_caption(config, "a.png") == "from the table"
    assert write_caption(config, "a.png", ' new, "one"\n') == table
    assert table.read_bytes() == changed.encode(encoding)
    assert read_caption(config, "a.png") == 'new, "one"' == learned(config)["a.png"]
    write_caption(config, "a.png", "")
    assert table.read_bytes() == emptied.encode(encoding)
    assert not (tmp_path / "my data ü" / "a.txt").exists()


def test_the_demos_captions_are_edited_in_its_own_form(tmp_path):
    source, folder = Path(__file__).resolve().parents[2] / "demo" / "pictures" / "train", tmp_path / "train"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".hotlora-cache"))
    config = build(ImageConfig, {"train_data_dir": str(folder)})
    write_caption(config, "whale.png", "a whale, seen from the side")
    before, after = ((path / "metadata.csv").read_text(encoding="utf-8").splitlines() for path in (source, folder))
    different = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert len(different) == 1 and different[0][1] == 'whale.png,"a whale, seen from the side"'
    assert read_caption(config, "whale.png") == "a whale, seen from the side"


def test_a_table_that_cannot_be_changed_here_says_so(config, tmp_path):
    table = tmp_path / "my data ü" / "metadata.json"
    table.write_text('{"a.png": {"caption": "a cat", "tags": "cat, grass"}}', encoding="utf-8")
    for refused in (lambda: read_caption(config, "a.png"), lambda: write_caption(config, "a.png", "new")):
        with pytest.raises(UserError, match=r"cannot change the caption of 'a\.png' here: it stands in .*metadata\.json line 1"):
            refused()
    assert not (tmp_path / "my data ü" / "a.txt").exists()


def test_a_table_that_has_changed_meanwhile_is_left_alone(config, tmp_path):
    for name, (text, _, _) in TABLES.items():
        table = tmp_path / "my data ü" / name
        table.parent.mkdir(exist_ok=True)
        table.write_text("changed", encoding="utf-8")
        line = {"metadata.csv": 3, "nested/metadata.csv": 4, "metadata.jsonl": 3}[name]
        header = text.splitlines()[0] if name.endswith("csv") else ""
        for now in (header, f"{header}\nx,y,z\nx,y,z\nx,y,z\n"):
            table.write_text(now, encoding="utf-8")
            with pytest.raises(UserError, match="has changed meanwhile"):
                change_rows(table, [(Row(tmp_path / "a.png", "from the table", table, line), "new")])
            assert table.read_text(encoding="utf-8") == now


@pytest.mark.parametrize("name", ["../other/x.png", "{other}/x.png", "none.png", "..", "", ".", "2_Kätzchen/../../other/x.png", "b.v2.txt"])
def test_no_caption_is_written_elsewhere(config, tmp_path, name):
    make_pictures(tmp_path / "other", 1)
    next((tmp_path / "other").glob("*.png")).rename(tmp_path / "other" / "x.png")
    before = content(tmp_path)
    with pytest.raises(UserError, match="there is no such picture any more"):
        write_caption(config, name.format(other=tmp_path / "other"), "stolen")
    assert content(tmp_path) == before
