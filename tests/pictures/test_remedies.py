"""What the health report offers is done to the pictures it names and to no others, is gone from the next report, and can be undone."""

import json

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.caption_changes import OPERATIONS, mend_letters
from hotlora.pictures.editor import PictureEditor
from hotlora.pictures.health import report_health
from hotlora.pictures.remedies import CUT_BORDERS, LEAVE_OUT, REMEDIES, SAVE_UTF8
from hotlora.sd.config import ImageConfig
from PIL import ImageFilter, ImageOps
from test_health import texture

EDITOR = PictureEditor(lambda text: len(text.split()))


@pytest.fixture
def data(tmp_path):
    """Six sound pictures, each with tags of its own behind a word that all begin with."""
    folder = tmp_path / "cats ü"
    folder.mkdir()
    for seed in range(6):
        texture(seed).save(folder / f"{seed}.png")
        (folder / f"{seed}.txt").write_text(f"zwx, thing {seed}, place {seed}", encoding="utf-8")
    return folder


def config(data, **values):
    return build(ImageConfig, {"train_data_dir": str(data), "output_dir": str(data.parent / "run"), "trigger_word": "zwx", **values})


def read_all(data):
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*.*")) if ".hotlora-cache" not in path.parts}


def blur(data):
    texture(20).filter(ImageFilter.GaussianBlur(4)).save(data / "new.png")


def crush(data):
    texture(21).save(data / "new.jpg", quality=12)


def shrink(data):
    texture(22, (200, 200)).save(data / "new.png")


def put_frame_around(data):
    """A dark one within a light one, as a scanned print has."""
    ImageOps.expand(ImageOps.expand(texture(23, (600, 560)), 30, "black"), 25, "white").save(data / "new.png")


def cut_short(data):
    (data / "new.png").write_bytes((data / "0.png").read_bytes()[:5000])


def copy(data):
    (data / "new.png").write_bytes((data / "0.png").read_bytes())


def repeat(data):
    texture(0).rotate(0.4).resize((500, 500)).save(data / "new.png")


def garble(data):
    (data / "3.txt").write_text("zwx, ein schÃ¶nes Bild, Â“so“, it isâ€™", encoding="utf-8")


def double(data):
    (data / "3.txt").write_text("zwx, thing 3, place, Thing 3", encoding="utf-8")


def share(data):
    for path in data.glob("*.txt"):
        path.write_text(f"{path.read_text(encoding='utf-8')}, outside", encoding="utf-8")


def write_in_japanese(data):
    (data / "3.txt").write_bytes("zwx, 青い空の下で眠る猫、庭の椅子の上".encode("cp932"))


def nearly_share(data):
    """Twelve pictures, of which eleven have a tag."""
    for seed in range(6, 12):
        texture(seed).save(data / f"{seed}.png")
    for seed in range(12):
        (data / f"{seed}.txt").write_text(f"zwx, thing {seed}, {'red hair, ' * (seed != 4)}place {seed}", encoding="utf-8")


def forget_trigger(data):
    for path in data.glob("*.txt"):
        path.write_text(path.read_text(encoding="utf-8").replace("zwx", "abc"), encoding="utf-8")
    (data / "4.txt").write_text("thing 4, place 4", encoding="utf-8")


ALL = tuple(f"{seed}.png" for seed in range(6))
CASES = {
    "small": (shrink, ("new.png",), None),
    "blurred": (blur, ("new.png",), None),
    "jpeg": (crush, ("new.jpg",), None),
    "borders": (put_frame_around, ("new.png",), None),
    "broken": (cut_short, ("new.png",), None),
    "same": (copy, ("new.png",), None),
    "alike": (repeat, ("new.png",), None),
    "encoding": (garble, ("3.png",), "zwx, ein schönes Bild, Â“so“, it is’"),
    "foreign": (write_in_japanese, ("3.png",), "zwx, 青い空の下で眠る猫、庭の椅子の上"),
    "absorbed": (nearly_share, tuple(f"{seed}.png" for seed in sorted({*range(12)} - {4}, key=str)), "zwx, thing 3, place 3"),
    "doubles": (double, ("3.png",), "zwx, thing 3, place"),
    "everywhere": (share, ALL, "zwx, thing 3, place 3"),
    "trigger": (forget_trigger, ("4.png",), None),
}


def test_there_is_a_case_for_each_remedy_and_an_operation():
    assert CASES.keys() == REMEDIES.keys()
    assert {way.operation for way in REMEDIES.values()} <= {CUT_BORDERS, LEAVE_OUT, SAVE_UTF8, *OPERATIONS}


@pytest.mark.parametrize("kind", CASES)
def test_a_remedy_does_what_it_says_to_those_it_names_and_is_undone(data, kind):
    spoil, names, mended = CASES[kind]
    spoil(data)
    for path in data.glob("new.*"):
        path.with_suffix(".txt").write_text("zwx, something else, elsewhere", encoding="utf-8")
    before, chosen = read_all(data), config(data)
    (finding,) = report_health(chosen)
    assert finding.kind == kind and finding.remedy and finding.remedy.names == names
    told = EDITOR.mend(chosen, {"operation": finding.remedy.operation, "names": names, "text": finding.remedy.text})
    after = read_all(data)
    touched = {name.rpartition(".")[0] for name in before if after.get(name) != before[name]}
    if REMEDIES[kind].operation == CUT_BORDERS:
        assert not touched and set(after) - set(before) == {"hotlora_focus.json"}, "a picture's file stays as it is"
    else:
        assert touched == {name.rpartition(".")[0] for name in names}, "nothing else was touched"
    left = ["everywhere"] if kind == "trigger" else []  # now all have that word, and it is not the trigger word
    assert [found.kind for found in report_health(chosen)] == left
    assert str(len(names)) in told and EDITOR.count_steps(chosen) == 1
    if REMEDIES[kind].operation == LEAVE_OUT:
        assert {name.partition("/")[2] for name in after if name.startswith("left out")} == {names[0], f"{names[0].partition('.')[0]}.txt"}
    if mended:
        assert after["3.txt"].decode("utf-8").strip() == mended
    if kind == "trigger":
        assert after["4.txt"].decode("utf-8").strip() == "abc, thing 4, place 4"
    EDITOR.undo(chosen)
    assert read_all(data) == before and report_health(chosen) == [finding]


def test_of_alike_pictures_the_largest_stays(data):
    texture(0).rotate(0.4).resize((700, 700)).save(data / "larger.png")
    (data / "larger.txt").write_text("zwx, something else", encoding="utf-8")
    (finding,) = report_health(config(data))
    assert finding.names == ("0.png", "larger.png") and finding.remedy.names == ("0.png",)


def test_nothing_is_offered_that_would_spoil_something(data):
    (everything_small,) = report_health(config(data, resolution=1024))
    assert everything_small.kind == "small" and everything_small.remedy is None, "a folder would be left without pictures"
    (all_begin_with,) = report_health(config(data, trigger_word=""))
    assert all_begin_with.kind == "everywhere" and all_begin_with.remedy is None, "it is a trigger word, and not to be removed"
    (data / "3.txt").write_text("zwx, lost \ufffd, letters", encoding="utf-8")
    (lost,) = report_health(config(data))
    assert lost.kind == "encoding" and lost.remedy is None, "nothing says which letter it was"


def test_a_caption_that_cannot_be_changed_is_not_named(data):
    double(data)
    rows = [{"filename": "3.png", "text": "zwx, thing 3, thing 3"}]
    (data / "4.txt").write_text("zwx, place, thing, place", encoding="utf-8")
    (data / "metadata.json").write_text(json.dumps({row["filename"]: {"caption": row["text"]} for row in rows}), encoding="utf-8")
    chosen = config(data, metadata_path=str(data / "metadata.json"))
    (finding,) = [found for found in report_health(chosen) if found.kind == "doubles"]
    assert finding.names == ("3.png", "4.png") and finding.remedy.names == ("4.png",)


@pytest.mark.parametrize(
    ("garbled", "right"),
    [
        ("schÃ¶n", "schön"),
        ("Ã\x81rbol, niÃ±o", "Árbol, niño"),
        ("cafÃ© â€“ â€œbarâ€\x9d", "café – “bar”"),
        ("ä¸­æ–‡, Ã¼ber", "中文, über"),
        ("schön, naïve, 中文, 20Â°", "schön, naïve, 中文, 20°"),
        ("déjà vu", "déjà vu"),
    ],
)
def test_letters_are_mended_where_they_are_garbled_and_nowhere_else(garbled, right):
    assert mend_letters(garbled) == right
    assert mend_letters(right) == right


def test_what_is_no_remedy_is_refused(data):
    for wish, said in (
        ({"operation": "delete", "names": ["0.png"]}, "there is no such operation"),
        ({"operation": LEAVE_OUT, "names": ["gone.png"]}, "there is no such picture any more"),
        ({"operation": LEAVE_OUT}, "none is chosen"),
    ):
        with pytest.raises(UserError, match=said):
            EDITOR.mend(config(data), wish)
