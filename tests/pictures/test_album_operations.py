"""Filters, operations on many captions, undo, and pictures that are left out."""

import json
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.hosts.standalone.counting import count_tokens
from hotlora.pictures.caption_changes import OPERATIONS, make_change, read_change
from hotlora.pictures.caption_filter import Described, count_tags, read_filter, split_tags
from hotlora.pictures.caption_history import CaptionHistory
from hotlora.pictures.dataset import read_dataset
from hotlora.pictures.editor import PictureEditor
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from PIL import Image

CAPTIONS = {"a 1": "cat, blue sky", "b 2": "A dog, Cat, grass", "c 3": "bird", "d 4": "", "e 5": "a catalogue, dog"}


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", "abcde"),
        ("cat", "abe"),
        ("cat -dog", "a"),
        ('cat -dog "blue sky" | bird', "ac"),
        ("tag:cat", "ab"),
        ("-tag:CAT", "cde"),
        ('tag:"blue sky"', "a"),
        ("“blue sky” ｜ bird", "ac"),
        ('""', "d"),
        ('-"" dog', "be"),
        ("name:3 | name:4", "cd"),
        ('-"blue sky', "bcde"),
        ("| bird |", "c"),
        ("-", ""),
        ("nothing", ""),
    ],
)
def test_a_filter_shows_what_it_says(query, shown):
    listed = [Described(name, text, tuple(split_tags(text))) for name, text in CAPTIONS.items()]
    assert "".join(seen.name[0] for seen in filter(read_filter(query), listed)) == shown


def test_tags_are_counted_once_a_caption_and_braces_hold_together():
    listed = [Described("a", "", tuple(split_tags(text))) for text in ("cat, Cat, dog", "CAT", "{red, blue|green} hat, dog\nfish")]
    assert count_tags(listed) == [("cat", 2), ("dog", 2), ("fish", 1), ("{red, blue|green} hat", 1)]
    assert split_tags("a;b, c;", ";") == ["a", "b, c"]


@pytest.mark.parametrize(
    ("asked", "before", "after"),
    [
        (("add_front", "x, cat"), "cat, dog", "x, cat, dog"),
        (("add_front", "x"), "zwx, cat", "zwx, x, cat"),
        (("add_front", "x"), "", "x"),
        (("add_end", "x"), "a cat sits", "a cat sits, x"),
        (("add_end", "X"), "x , dog", "x , dog"),
        (("add_end", "x"), "one ||| two", "one ||| two, x"),
        (("add_front", "x"), "one, x\ntwo", "one, x\nx, two"),
        (("remove", "cat, dog"), "Cat,bird,DOG", "bird"),
        (("remove", "cat"), "cat", ""),
        (("remove", "cat"), "a catalogue", "a catalogue"),
        (("remove", "b"), "a, b ||| b, c", "a ||| c"),
        (("replace", "cat", "kitten, small"), "big, cat, kitten", "big, kitten, small"),
        (("replace", "cat", "dog"), "bird", "bird"),
        (("pattern", r"(\w+) cat", r"cat that is \1"), "a red cat", "a cat that is red"),
        (("pattern", "(?i)CAT"), "a cat ", "a"),
        (("pattern", "x+y", "z"), "a cat", "a cat"),
        (("sort",), "zwx, c, B, a", "zwx, a, B, c"),
        (("sort",), "{c, d|e}, a", "a, {c, d|e}"),
        (("drop_doubles",), "a, b, A , c, b", "a, b, c"),
        (("drop_doubles",), "a,b", "a,b"),
        (("trigger",), "cat, ZWX, dog", "zwx, cat, dog"),
        (("trigger",), "zwx sits on a cat", "zwx sits on a cat"),
        (("trigger",), "", "zwx"),
    ],
)
def test_each_operation_does_what_it_is_called(asked, before, after):
    config = build(ImageConfig, {"train_data_dir": "x", "trigger_word": "zwx", "keep_tokens_separator": "|||"})
    change = make_change(read_change(dict(zip(("operation", "text", "by"), asked, strict=False))), config)
    assert change(before) == after
    if asked[0] != "pattern" and before:
        assert change(after) == after, "a second time there is nothing to do"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("fly",), "cannot change captions by 'fly': there is no such operation. Use one of: add_front"),
        (("add_end", " "), "cannot do 'Add tags at the end': it is not said what."),
        (("replace", "cat"), "cannot do 'Replace a tag': it is not said by what."),
        (("trigger",), "cannot put the trigger word first: there is none."),
        (("pattern", "("), r"cannot read the pattern '\('"),
        (("pattern", "a", r"\9"), r"cannot replace by '\\9'"),
        (("pattern", "a", r"\g<b>"), r"cannot replace by"),
        (("pattern", "(a|b|ab)*(?=c)", "x"), r"cannot use the pattern .* it takes longer than 0.2 seconds"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(asked, said, monkeypatch):
    monkeypatch.setattr("hotlora.pictures.caption_changes._PATTERN_SECONDS", 0.2)
    config = build(ImageConfig, {"train_data_dir": "x"})
    with pytest.raises(UserError, match=said):
        make_change(read_change(dict(zip(("operation", "text", "by"), asked, strict=False))), config)(("ab" * 40 + "d") * 5)


# -- in folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path) -> Path:
    """Five pictures: two in tables, one with a .caption, one without, one in a repeat folder."""
    folder = tmp_path / "my data ü"
    make_pictures(folder, 4)
    make_pictures(folder / "2_cat", 1, first=4)
    for path in folder.glob("picture [012].txt"):
        path.unlink()
    (folder / "picture 0.caption").write_text("cat", encoding="utf-16")
    table = 'filename,rating,prompt\r\n"picture 1.png",5,"cat, red"\r\n'
    (folder / "metadata.csv").write_bytes(table.encode("utf-8-sig"))
    (folder / "metadata.jsonl").write_text('{"file_name": "2_cat/picture 4.png", "text": "cat, black"}\n', encoding="utf-8")
    return folder


def config_of(data, **values):
    return build(ImageConfig, {"train_data_dir": str(data), "resolution": 64, "trigger_word": "zwx", **values})


def content(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and ".hotlora-cache" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def learned(config):
    return {example.path.name: example.caption for example in read_dataset(config).train}


@pytest.fixture
def editor():
    return PictureEditor(count_tokens)


def test_many_captions_are_changed_where_they_stand_and_undone_byte_for_byte(data, editor):
    config, before = config_of(data), content(data)
    told = editor.change(config, {"operation": "add_end", "text": "red"})
    assert told == "Add tags at the end 'red': changed 4 captions; 1 had it already."
    assert learned(config) == {
        "picture 0.png": "cat, red",
        "picture 1.png": "cat, red",
        "picture 2.png": "red",
        "picture 3.png": "yellow square, number 3, red",
        "picture 4.png": "cat, black, red",
    }
    assert editor.change(config, {"operation": "remove", "text": "cat"}, query="tag:cat -black").startswith("Remove tags 'cat': changed 2")
    assert learned(config)["picture 1.png"] == "red" and learned(config)["picture 4.png"] == "cat, black, red"
    told = editor.change(config, {"operation": "remove", "text": "red"}, ["picture 0.png", "picture 1.png", "picture 2.png"])
    assert "changed 3 captions; 3 are empty now" in told
    editor.write(config, "picture 3.png", "by hand")
    again = PictureEditor(count_tokens)  # the program was started again
    for steps in (4, 3, 2, 1):
        assert again.look(config).steps == steps
        again.undo(config)
    assert content(data) == before
    with pytest.raises(UserError, match="cannot undo anything"):
        again.undo(config)


def test_an_undo_takes_back_nothing_that_others_wrote(data, editor):
    config = config_of(data)
    editor.change(config, {"operation": "add_end", "text": "new"})
    (data / "picture 3.txt").write_text("by another program", encoding="utf-8")
    after = content(data)
    with pytest.raises(UserError, match=r"cannot undo 'Add tags at the end .*': picture 3\.txt was changed meanwhile\. Change"):
        editor.undo(config)
    assert content(data) == after


def test_a_change_that_breaks_off_in_the_middle_can_be_undone(data, editor, monkeypatch):
    config, before = config_of(data), content(data)
    right, written = CaptionHistory.carry_out.__globals__["write_file"], []

    def fail(path, content, **options):
        if len(written) == 2:
            raise UserError("cannot write it: the disk is full. Free some.")
        written.append(path)
        right(path, content, **options)

    monkeypatch.setitem(CaptionHistory.carry_out.__globals__, "write_file", fail)
    with pytest.raises(UserError, match="the disk is full"):
        editor.change(config, {"operation": "add_end", "text": "new"})
    assert content(data) != before
    monkeypatch.undo()
    editor.undo(config)
    assert content(data) == before


def test_steps_that_lead_elsewhere_or_are_damaged_are_refused(data, editor, tmp_path):
    config = config_of(data)
    editor.change(config, {"operation": "add_end", "text": "new"})
    (step,) = (data / ".hotlora-cache").glob("undo-*/*.json")
    good = json.loads(step.read_text(encoding="utf-8"))
    for files, moves in (
        ([[str(data / ".." / "evil.txt"), "AA==", ""]], []),
        ([], [[str(tmp_path / "evil.txt"), str(data / "picture 3.txt")]]),
    ):
        step.write_text(json.dumps(good | {"files": files, "moves": moves}), encoding="utf-8")
        with pytest.raises(UserError, match="leads out of the data folders"):
            editor.undo(config)
    step.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        editor.undo(config)
    assert not (tmp_path / "evil.txt").exists()


def test_captions_that_cannot_be_changed_here_are_counted_and_left(data, editor, tmp_path):
    make_pictures(tmp_path / "reg", 1, first=7)
    (data / "metadata.json").write_text('{"picture 2.png": {"caption": "kept"}}', encoding="utf-8")
    (data / "picture 3.txt").write_bytes(b"caf\xe9")
    config = config_of(data, reg_data_dir=str(tmp_path / "reg"))
    told = editor.change(config, {"operation": "trigger"})
    assert told.startswith("Put the trigger word first: changed 3 captions; 1 of a regularisation picture, without")
    assert "; 2 cannot be changed here (picture 2.png: it stands in" in told
    assert (tmp_path / "reg" / "picture 7.txt").read_text(encoding="utf-8").startswith("green")
    assert (data / "picture 3.txt").read_bytes() == b"caf\xe9"
    for name, said in (("picture 2.png", "it stands in"), ("picture 3.png", "not UTF-8")):
        with pytest.raises(UserError, match=said):
            editor.write(config, name, "x")


def test_what_is_left_out_is_not_trained_on_and_comes_back_with_caption_row_and_mask(data, editor, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in (0, 1):
        Image.new("L", (64, 64), 255).save(masks / f"picture {number}.png")
    config = config_of(data, masked_loss=True, mask_dir=str(masks))
    before, masks_before, captions = content(data), content(masks), learned(config)
    names = ["picture 0.png", "picture 1.png", "2_cat/picture 4.png"]
    assert editor.leave_out(config, names).startswith("Left out 3 pictures")
    assert set(learned(config)) == {"picture 2.png", "picture 3.png"}, "and no row of a table is called a mistake"
    notes = " ".join(read_dataset(config).notes)
    assert "3 pictures (left out/picture 0.png, left out/picture 1.png, left out/2_cat/picture 4.png) are not trained on" in notes
    assert "mask" not in notes.replace("without a mask in mask_dir", "")
    moved = {name for name in content(data) if name.startswith("left out/")}
    files = {"picture 0.png", "picture 0.caption", "picture 1.png", "2_cat/picture 4.png", "2_cat/picture 4.txt"}
    assert moved == {f"left out/{name}" for name in files} and set(content(masks)) == {
        f"left out/picture {number}.png" for number in (0, 1)
    }
    seen = editor.look(config, aside=True)
    assert {shown.name: shown.text for shown in seen.shown} == {name: captions[Path(name).name] for name in names} and seen.left_out == 3
    editor.bring_back(config, names[:2])
    assert set(learned(config)) == set(captions) - {"picture 4.png"}
    editor.undo(config)
    editor.bring_back(config, names)
    assert content(data) == before and content(masks) == masks_before and learned(config) == captions


def test_a_shared_caption_stays_and_nothing_is_overwritten_or_left_empty(data, editor):
    config = config_of(data)
    Image.new("RGB", (64, 64), "red").save(data / "picture 3.jpg")
    editor.leave_out(config, ["picture 3.png"])
    assert (data / "picture 3.txt").exists() and not (data / "picture 3.png").exists()
    Image.new("RGB", (64, 64), "green").save(data / "picture 3.png")
    after = content(data)
    with pytest.raises(UserError, match="there is one of that name"):
        editor.leave_out(config, ["picture 3.png"])
    with pytest.raises(UserError, match="there is one of that name"):
        editor.bring_back(config, ["picture 3.png"])
    with pytest.raises(UserError, match="cannot leave out all pictures"):
        editor.leave_out(config, editor.look(config).names)
    with pytest.raises(UserError, match=r"cannot leave out '\.\./x\.png': there is no such picture"):
        editor.leave_out(config, ["../x.png"])
    assert content(data) == after


def test_pages_are_cut_from_what_the_filter_shows_and_keep_their_order(data, editor, monkeypatch):
    monkeypatch.setattr("hotlora.pictures.editor.PAGE", 2)
    config = config_of(data)
    every = editor.look(config).names
    assert len(every) == 5
    second = editor.look(config, start=3)
    assert (second.start, [shown.name for shown in second.shown]) == (2, list(every[2:4]))
    (name,) = editor.look(config, query="yellow").names
    editor.write(config, name, "gone from the filter")
    assert editor.look(config, query="yellow", order=[name], is_kept=True).names == [name]
    assert editor.look(config, query="yellow").names == []
    keys = [shown.thumbnail for shown in second.shown]
    assert all(data.startswith(b"\xff\xd8") for data in editor.find_thumbnails(keys).values())
    assert editor.find_thumbnails(["unknown"]) == {"unknown": b""}


def test_a_caption_that_is_too_long_is_told_and_tokens_are_clips(data, editor):
    (data / "picture 3.txt").write_text("photograph " * 80, encoding="utf-8")
    (long,) = [shown for shown in editor.look(config_of(data)).shown if shown.name == "picture 3.png"]
    assert long.tokens == 83  # with "zwx,", which are three
    assert "83 tokens, and what is beyond 75 is not learned." in long.warning
    assert editor.count_tokens(config_of(data, trigger_word=""), "a photograph of a cat") == 5
    assert set(OPERATIONS) == {key for key, _ in editor.list_operations()}
