import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures import index as picture_index
from hotlora.pictures.buckets import choose_bucket
from hotlora.pictures.caption_files import MetadataCaptions
from hotlora.pictures.dataset import Example, match_regularisation, read_dataset, scan_dataset, split_validation
from hotlora.pictures.folder_facts import count_buckets, count_folders, count_tags
from hotlora.pictures.index import choose_cache_folder
from hotlora.sd.config import ImageConfig
from PIL import Image

_count = 0


def picture(path: Path, size=(8, 8), mode="RGB") -> Path:
    """Write a picture that is unlike every other."""
    global _count
    _count += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (_count % 256, _count // 256, 7)).save(path)
    return path


def text(path: Path, content: str, encoding="utf-8") -> Path:
    path.write_text(content, encoding=encoding)
    return path


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "mein Ordner ü"
    folder.mkdir()
    return folder


def read(data: Path, **values):
    return read_dataset(config(data, **values))


def config(data: Path, **values) -> ImageConfig:
    return build(ImageConfig, {"train_data_dir": str(data), "output_dir": str(data.parent / "run"), **values})


def captions(data: Path, **values) -> dict[str, str]:
    return {e.path.relative_to(data).as_posix(): e.caption for e in read(data, **values).train}


def complaint(data: Path, **values) -> str:
    with pytest.raises(UserError) as caught:
        read(data, **values)
    return str(caught.value)


# -- captions ------------------------------------------------------------------------------------------------------------


def test_captions_come_from_the_first_place_that_has_one(data):
    for name in "abcde":
        picture(data / f"{name}.png")
    text(data / "metadata.csv", "filename,prompt\na.png,from csv\n")
    text(data / "metadata.jsonl", "".join(json.dumps({"file_name": f"{n}.png", "text": "from jsonl"}) + "\n" for n in "ab"))
    for name in "abc":
        text(data / f"{name}.txt", "from txt\n")
    for name in "abcd":
        text(data / f"{name}.caption", "from caption")
    assert captions(data, trigger_word="sks") == {
        "a.png": "from csv",
        "b.png": "from jsonl",
        "c.png": "from txt",
        "d.png": "from caption",
        "e.png": "sks",
    }


@pytest.mark.parametrize(
    ("name", "row"), [("metadata.jsonl", {"file_name": "a" * 300 + ".png", "text": "x"}), ("metadata.json", {"a" * 300: {"caption": "x"}})]
)
def test_names_that_are_too_long_to_be_one_are_said(tmp_path, name, row):
    text(tmp_path / name, json.dumps(row))
    captions = MetadataCaptions()
    captions.read(tmp_path / name)
    assert "there is no such file" in captions.problems[0]


def test_folder_name_is_the_last_resort(data):
    picture(data / "12_sks dog" / "a.png")
    assert captions(data) == {"12_sks dog/a.png": "sks dog"}
    assert captions(data, trigger_word="ohwx") == {"12_sks dog/a.png": "ohwx"}


@pytest.mark.parametrize(
    "content, encoding",
    [
        ('filename,prompt\na.png,"red, ""big"" cat"\n', "utf-8"),
        ('filename,prompt\na.png, "red, ""big"" cat"\n', "utf-8-sig"),
        ('filename,prompt\r\na.png,"red, ""big"" cat"\r\n\r\n', "utf-8"),
        ('file_name;text\na.png;"red, ""big"" cat"\n', "utf-8"),
        ('image\tcaption\na.png\t"red, ""big"" cat"\n', "utf-16"),
        ('Prompt , FileName\n"red, ""big"" cat",.\\a.png\n', "utf-8"),
    ],
)
def test_csv_as_spreadsheets_and_people_write_it(data, content, encoding):
    picture(data / "a.png")
    (data / "metadata.csv").write_bytes(content.encode(encoding))
    assert captions(data) == {"a.png": 'red, "big" cat'}


@pytest.mark.parametrize("row", ["1,./a.png,red, big cat", "1,./a.png,red,big cat"])
def test_commas_that_nobody_quoted_stay_in_the_caption(data, row):
    picture(data / "a.png")
    text(data / "metadata.csv", f"id,filename,prompt\n{row}\n")
    assert captions(data) == {"a.png": "red, big cat"}


def test_csv_and_file_names_may_spell_accents_differently(data):
    picture(data / "caf\u00e9.png")
    text(data / "metadata.csv", "filename,prompt\ncafe\u0301.png,ein Café 猫\n")
    assert list(captions(data).values()) == ["ein Café 猫"]


def test_csv_in_subfolders_is_relative_to_its_own_folder(data):
    picture(data / "x" / "a.png")
    picture(data / "y" / "a.png")
    text(data / "metadata.csv", "filename,prompt\nx/a.png,first\n")
    text(data / "y" / "metadata.csv", "filename,prompt\na.png,second\n")
    assert captions(data) == {"x/a.png": "first", "y/a.png": "second"}


def test_metadata_path_stands_in_for_the_folders_own(data, tmp_path):
    picture(data / "a.png")
    text(data / "metadata.csv", "filename,prompt\ngone.png,stale\na.png,stale\n")
    text(data / "other.csv", "filename,prompt\na.png,chosen\n")
    elsewhere = text(tmp_path / "elsewhere.jsonl", json.dumps({"file_name": "a.png", "text": "far away"}))
    assert captions(data, metadata_path="other.csv") == {"a.png": "chosen"}
    assert captions(data, metadata_path=str(elsewhere)) == {"a.png": "far away"}


def test_metadata_path_that_is_not_there(data):
    picture(data / "a.png")
    text(data / "captions.csv", "filename,prompt\na.png,x\n")
    assert "captions.csv?" in complaint(data, metadata_path=str(data / "caption.csv"))


def test_csv_of_the_training_folder_serves_a_validation_folder_inside_it(data):
    picture(data / "a.png")
    picture(data / "val" / "b.png")
    text(data / "metadata.csv", "filename,prompt\na.png,one\nval/b.png,two\n")
    dataset = read(data, validation_dir=str(data / "val"))
    assert [e.caption for e in dataset.train] == ["one"] and [e.caption for e in dataset.validation] == ["two"]


# -- what is wrong -------------------------------------------------------------------------------------------------------


def broken_data(data: Path) -> None:
    """A folder with one picture that is fine and every kind of mistake."""
    text(picture(data / "good.png").with_suffix(".txt"), "good")
    picture(data / "half.png", size=(64, 64))
    (data / "half.png").write_bytes((data / "half.png").read_bytes()[:-30])
    text(data / "half.txt", "x")
    picture(data / "emptycaption.png")
    text(data / "emptycaption.txt", " \n")
    picture(data / "nocaption.png")
    text(picture(data / "dup1.png").with_suffix(".txt"), "x")
    (data / "dup2.png").write_bytes((data / "dup1.png").read_bytes())
    text(data / "dup2.txt", "y")
    picture(data / "twice.png")
    text(data / "notes.pdf", "not a picture")
    lines = ["filename,prompt", "missing.png,x", "twice.png,one", "twice.png,two", ",lost", "notes.pdf,x"]
    text(data / "metadata.csv", "\n".join(lines))


def test_everything_wrong_is_reported_at_once_by_name(data):
    broken_data(data)
    message = complaint(data)
    names = ["half.png", "emptycaption.png", "nocaption.png", "dup1.png", "dup2.png", "missing.png", "twice.png", "notes.pdf"]
    for name in [*names, "metadata.csv line 5"]:
        assert name in message
    assert "good" not in message
    assert "on_bad_data: skip" in message and "trigger_word" in message
    assert message.count("\n- ") == 8 and "8 problems" in message


def test_skip_leaves_the_bad_ones_out_and_tells(data):
    broken_data(data)
    dataset = read(data, on_bad_data="skip")
    assert {e.path.name: e.caption for e in dataset.train} == {"good.png": "good", "dup1.png": "x", "twice.png": "one"}
    assert len(dataset.problems) == 8


def test_both_problems_of_one_picture_are_told(data):
    text(data / "a.png", "no picture")
    message = complaint(data)
    assert "no picture" in message and "no caption" in message


def test_long_lists_are_cut(data):
    for i in range(60):
        picture(data / f"{i:02}.png")
    message = complaint(data)
    assert message.count(".png: it has no caption") == 50 and "and 10 more" in message


def test_a_list_with_nothing_usable_stops_even_when_skipping(data):
    picture(data / "a.png")
    assert "a.png" in complaint(data, on_bad_data="skip")


def test_the_same_row_twice_is_fine(data):
    picture(data / "a.png")
    text(data / "metadata.csv", "filename,prompt\na.png,x\na.png,x\n")
    assert captions(data) == {"a.png": "x"}


@pytest.mark.parametrize("content", ["a.png,a red cat\n", "foo,bar\na.png,x\n", "", "filename\na.png\n"])
def test_an_unusable_header_names_the_one_expected(data, content):
    picture(data / "a.png")
    text(data / "metadata.csv", content)
    message = complaint(data, trigger_word="sks")
    assert "metadata.csv" in message and "filename,prompt" in message


def test_captions_that_are_not_utf8(data):
    picture(data / "a.png")
    (data / "a.txt").write_bytes("größer".encode("cp1252"))
    assert "a.txt" in complaint(data) and "UTF-8" in complaint(data)
    text(data / "a.txt", "größer")
    (data / "metadata.csv").write_bytes("filename,prompt\na.png,größer".encode("cp1252"))
    assert "metadata.csv" in complaint(data) and "UTF-8" in complaint(data)


def test_bad_jsonl_lines_are_named_by_number(data):
    picture(data / "a.png")
    text(data / "metadata.jsonl", '{"file_name": "a.png", "text": "x"}\n{oops\n["a.png", "x"]\n{"file_name": "a.png"}\n')
    message = complaint(data)
    assert all(f"line {n}:" in message for n in (2, 3, 4))


def test_a_nearly_right_name_in_metadata_is_suggested(data):
    picture(data / "helicopter.png")
    text(data / "metadata.csv", "filename,prompt\nhelikopter.png,x\n")
    assert "'helicopter.png'?" in complaint(data, trigger_word="sks")


# -- folders -------------------------------------------------------------------------------------------------------------


def test_wrong_folders_say_what_to_do(data, tmp_path):
    assert "train_data_dir" in complaint(Path(""), train_data_dir="")
    assert "mein Ordner ü?" in complaint(tmp_path / "mein ordner u")
    assert "it is a file" in complaint(text(tmp_path / "f.png", ""))
    assert "empty" in complaint(data)
    text(data / "a.pdf", "x")
    assert "no pictures, only .pdf" in complaint(data)
    picture(data / "a.png")
    for option in ("reg_data_dir", "validation_dir"):
        assert option in complaint(data, trigger_word="sks", **{option: str(tmp_path / "nowhere")})


@pytest.mark.parametrize("option", ["reg_data_dir", "validation_dir"])
def test_one_folder_cannot_serve_two_purposes(data, option):
    picture(data / "a.png")
    message = complaint(data, trigger_word="sks", **{option: str(data / "." / "")})
    assert option in message and "train_data_dir" in message


def test_home_is_understood(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data.parent))
    monkeypatch.setenv("USERPROFILE", str(data.parent))
    picture(data / "a.png")
    dataset = read_dataset(build(ImageConfig, {"train_data_dir": f"~/{data.name}", "trigger_word": "sks"}))
    assert len(dataset.train) == 1 and (data / ".hotlora-cache").is_dir()


def test_folders_are_read_recursively_but_not_what_is_no_data(data):
    wanted = {"a.png", "deep/er/b.JPG", "c.webp"}
    for name in [*wanted, ".hotlora-cache/x.png", ".hidden/y.png", "masks/a.png", "run/samples/z.png", "._a.png"]:
        picture(data / name)
    found = captions(data, trigger_word="sks", masked_loss=True, mask_dir=str(data / "masks"), output_dir=str(data / "run"))
    assert set(found) == wanted


def test_kohya_repeat_folders(data):
    for name in ("10_sks cat/a.png", "10_sks cat/deep/b.png", "3_dog/c.png", "plain/d.png", "e.png", "0_off/f.png"):
        picture(data / name)
    dataset = read(data, trigger_word="sks")
    assert {e.path.name: (e.repeats, e.folder) for e in dataset.train} == {
        "a.png": (10, "10_sks cat"),
        "b.png": (10, "10_sks cat"),
        "c.png": (3, "3_dog"),
        "d.png": (1, data.name),
        "e.png": (1, data.name),
    }
    assert dataset.count() == 25
    assert count_folders(dataset)["10_sks cat"] == {"n_repeats": 10, "img_count": 2}


def test_metadata_counts_are_those_sd_scripts_wrote(tmp_path):
    fixture = Path(__file__).parents[1] / "fixtures" / "sdscripts-sd15-r2.json"
    expected = json.loads(fixture.read_text(encoding="utf-8"))["metadata"]
    folder = tmp_path / "1_shapes"
    for color in ("red", "green", "blue", "orange"):
        for shape in ("circle", "square", "triangle"):
            text(picture(folder / f"{color}-{shape}.png").with_suffix(".txt"), f"{color} {shape}, flat shape, noisy paper")
    dataset = read(tmp_path)
    assert count_folders(dataset) == json.loads(expected["ss_dataset_dirs"])
    assert count_folders(dataset, is_reg=True) == json.loads(expected["ss_reg_dataset_dirs"])
    assert count_tags(dataset) == json.loads(expected["ss_tag_frequency"])
    assert str(dataset.count()) == expected["ss_num_train_images"]
    assert str(dataset.count(is_reg=True)) == expected["ss_num_reg_images"]


def test_bucket_counts_follow_repeats(data):
    picture(data / "5_a" / "a.png", size=(100, 100))
    picture(data / "2_b" / "b.png", size=(100, 200))
    dataset = read(data)
    info = count_buckets(dataset, [choose_bucket(*e.size, config(data)) for e in dataset.train])
    assert {tuple(b["resolution"]): b["count"] for b in info["buckets"].values()} == {(512, 512): 5, (320, 704): 2}


def test_example_carries_size_and_digest(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(data / "a.jpg", exif=exif)
    (example,) = read(data, trigger_word="sks").train
    assert example.size == (10, 20)
    assert example.digest == hashlib.sha256((data / "a.jpg").read_bytes()).hexdigest()


# -- masks ---------------------------------------------------------------------------------------------------------------


def test_masks_are_found_by_name(data, tmp_path):
    masks = tmp_path / "masks"
    for name in ("x/a.png", "y/b.png", "c.png"):
        picture(data / name)
    for name in ("x/a.png", "b.jpg"):
        picture(masks / name)
    dataset = read(data, trigger_word="sks", masked_loss=True, mask_dir=str(masks))
    found = {e.path.name: e.mask and e.mask.relative_to(masks).as_posix() for e in dataset.train}
    assert found == {"a.png": "x/a.png", "b.png": "b.jpg", "c.png": None}
    assert all(bool(e.mask) == bool(e.mask_digest) for e in dataset.train)


def test_broken_and_misshapen_masks_are_named(data, tmp_path):
    masks = tmp_path / "masks"
    for name in ("a.png", "b.png", "c.png"):
        picture(data / name, size=(30, 20))
    picture(masks / "a.png", size=(20, 30))
    picture(masks / "c.png", size=(15, 10))
    text(masks / "b.png", "no picture")
    message = complaint(data, trigger_word="sks", masked_loss=True, mask_dir=str(masks))
    assert str(masks / "a.png") in message and str(masks / "b.png") in message and "c.png" not in message


def test_masks_that_leave_nothing_are_named(data, tmp_path):
    masks = tmp_path / "masks"
    for name in ("a.png", "b.png", "c.png"):
        picture(data / name)
        picture(masks / name)
    Image.new("L", (8, 8)).save(masks / "b.png")
    Image.new("RGBA", (8, 8)).save(masks / "c.png")  # transparent, which is white
    long_ago = time.time() - 60
    os.utime(masks / "b.png", (long_ago, long_ago))
    for _ in range(2):  # looked at, and remembered
        notes = read(data, trigger_word="sks", masked_loss=True, mask_dir=str(masks)).notes
        assert [note for note in notes if "black" in note] == [
            f"1 mask ({masks / 'b.png'}) is black all over: nothing is learned there. Draw it white where something is to be learned."
        ]


# -- regularisation and validation ---------------------------------------------------------------------------------------


def reg(repeats: int, name: str) -> Example:
    return Example(Path(name), "a", repeats, True, None, (8, 8), name, "reg")


@pytest.mark.parametrize(
    "repeats, wanted, expected",
    [
        ([1, 1, 1], 7, [3, 2, 2]),  # repeated, in turn
        ([1, 1, 1], 2, [1, 1]),  # cut off
        ([5, 1], 4, [4]),
        ([2, 3], 9, [4, 5]),
        ([1], 0, []),
        ([], 5, []),
    ],
)
def test_regularisation_is_matched_to_training(repeats, wanted, expected):
    matched = match_regularisation([reg(r, str(i)) for i, r in enumerate(repeats)], wanted)
    assert [e.repeats for e in matched] == expected


def test_regularisation_pictures(data, tmp_path):
    regs = tmp_path / "reg"
    for i in range(3):
        picture(data / "4_sks dog" / f"{i}.png")
    for i in range(5):
        picture(regs / "1_dog" / f"{i}.png")
    dataset = read(data, trigger_word="sks", reg_data_dir=str(regs))
    assert dataset.count() == dataset.count(is_reg=True) == 12
    assert {e.caption for e in dataset.train if e.is_reg} == {"dog"}, "never the trigger word"
    assert count_folders(dataset, is_reg=True) == {"1_dog": {"n_repeats": 1, "img_count": 5}}
    assert set(count_tags(dataset)) == {"4_sks dog"}


def test_regularisation_picture_without_words_is_a_problem(data, tmp_path):
    picture(data / "a.png")
    picture(tmp_path / "reg" / "b.png")
    message = complaint(data, trigger_word="sks", reg_data_dir=str(tmp_path / "reg"))
    assert "b.png" in message and "1_person" in message


def test_split_keeps_whole_pictures_back(data, tmp_path):
    for i in range(20):
        picture(data / "7_x" / f"{i}.png")
    picture(tmp_path / "reg" / "1_y" / "r.png")
    dataset = read(data, validation_split=0.2, reg_data_dir=str(tmp_path / "reg"))
    train = [e for e in dataset.train if not e.is_reg]
    assert len(train) == 16 and len(dataset.validation) == 4
    assert not {e.path for e in train} & {e.path for e in dataset.validation}
    assert not any(e.is_reg for e in dataset.validation)
    assert {e.repeats for e in dataset.validation} == {1} and {e.repeats for e in train} == {7}
    assert dataset.count(is_reg=True) == dataset.count() == 16 * 7


def examples(count: int) -> list[Example]:
    return [Example(Path(f"{i}.png"), "a", 3, False, None, (8, 8), f"digest {i}", "f") for i in range(count)]


def test_split_depends_on_seed_and_content_alone():
    def kept_back(items, seed):
        return {e.digest for e in split_validation(items, 0.3, seed)[1]}

    items = examples(30)
    assert kept_back(items, 1) == kept_back(items[::-1], 1)
    assert kept_back(items, 1) != kept_back(items, 2)
    assert len(kept_back(items, 1) - kept_back(examples(31), 1)) <= 1


@pytest.mark.parametrize("count, share, expected", [(10, 0.01, 1), (10, 0.25, 2), (2, 0.9, 1), (100, 0.1, 10)])
def test_split_leaves_at_least_one_on_each_side(count, share, expected):
    train, validation = split_validation(examples(count), share, 0)
    assert len(validation) == expected and len(train) == count - expected


def test_split_of_a_single_picture_is_refused(data):
    picture(data / "a.png")
    assert "validation_split" in complaint(data, trigger_word="sks", validation_split=0.5)


# -- the index -----------------------------------------------------------------------------------------------------------


def make_old(folder: Path) -> None:
    """Files younger than a file system's clock are always read again."""
    for path in folder.rglob("*.png"):
        os.utime(path, (time.time() - 1000, time.time() - 1000))


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the picture files that were read."""
    names = []
    real = picture_index.read_bytes
    monkeypatch.setattr(picture_index, "read_bytes", lambda path: names.append(path.name) or real(path))
    return names


def test_starting_again_reads_no_unchanged_picture(data, opened):
    for i in range(5):
        picture(data / f"{i}.png", size=(8 + i, 8))
    make_old(data)
    first = read(data, trigger_word="sks")
    assert sorted(opened) == [f"{i}.png" for i in range(5)]
    opened.clear()
    assert read(data, trigger_word="sks") == first
    assert opened == []


def test_a_changed_picture_is_read_again(data, opened):
    for i in range(3):
        picture(data / f"{i}.png")
    make_old(data)
    before = read(data, trigger_word="sks").train
    opened.clear()
    size = (data / "1.png").stat().st_size
    picture(data / "1.png")
    assert (data / "1.png").stat().st_size == size, "else the size alone would tell"
    os.utime(data / "1.png", (time.time() - 500, time.time() - 500))
    after = read(data, trigger_word="sks").train
    assert opened == ["1.png"]
    assert [a.digest == b.digest for a, b in zip(after, before, strict=True)] == [True, False, True]


def test_a_fresh_picture_is_not_trusted_to_its_time_stamp(data, opened):
    picture(data / "a.png")
    read(data, trigger_word="sks")
    read(data, trigger_word="sks")
    assert opened == ["a.png", "a.png"]


def test_a_damaged_index_is_only_slower(data, opened):
    picture(data / "a.png")
    make_old(data)
    first = read(data, trigger_word="sks")
    index = data / ".hotlora-cache" / "index.json"
    assert index.is_file()
    good = index.read_text(encoding="utf-8")
    changed = json.loads(good)
    next(iter(changed["pictures"].values()))[-1] += 8  # the picture's height
    for number, damaged in enumerate((good[:20], json.dumps(changed), "{}", "[]", '{"sha256": 1, "pictures": {"a": 3}}'), 2):
        index.write_text(damaged, encoding="utf-8")
        again = read(data, trigger_word="sks")
        assert again.train == first.train and opened == ["a.png"] * number
        assert "index.json was damaged" in again.notes[-1] and not first.notes


def test_scanning_shows_progress(data):
    for i in range(70):
        picture(data / f"{i}.png")
    steps = list(scan_dataset(config(data, trigger_word="sks")))
    assert [s.done for s in steps] == sorted(s.done for s in steps) and steps[-1].done == steps[-1].total == 70
    assert len(steps) > 1


def test_cache_folder_is_beside_the_pictures_or_where_one_can_write(data, tmp_path):
    assert choose_cache_folder(config(data)) == data / ".hotlora-cache"
    assert choose_cache_folder(config(data, cache_dir=str(tmp_path / "c"))) == tmp_path / "c"
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    text(blocked / ".hotlora-cache", "a file of that name stands in for a folder that cannot be written")
    assert choose_cache_folder(config(blocked)) == tmp_path / "run" / ".hotlora-cache"
    with pytest.raises(UserError, match="cache_dir"):
        choose_cache_folder(config(data, cache_dir=str(blocked / ".hotlora-cache")))
