"""Each finding goes to its culprit and to no innocent neighbour; a sound set has none."""

import os
import re
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures import health, measuring
from hotlora.pictures.editor import PictureEditor
from hotlora.pictures.focus import Framing
from hotlora.pictures.health import report_health
from hotlora.sd.config import ImageConfig
from PIL import Image, ImageFilter

TRAIN = Path(__file__).resolve().parents[2] / "demo" / "pictures" / "train"


def texture(seed, size=(512, 512)):
    """Coarse and fine structure, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST), dtype=float)
        for n in (4, 16, 128)
    ]
    return Image.fromarray((0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]).astype(np.uint8))


@pytest.fixture
def data(tmp_path):
    """Six sound pictures, each with a sentence of its own."""
    for seed in range(6):
        texture(seed).save(tmp_path / f"{seed}.png")
        (tmp_path / f"{seed}.txt").write_text(f"a fine picture of thing {seed}", encoding="utf-8")
    return tmp_path


def config(data, **values):
    return build(ImageConfig, {"train_data_dir": str(data), "output_dir": str(data / "run"), **values})


def found(data, **values):
    return {finding.kind: sorted(finding.names) for finding in report_health(config(data, **values))}


def test_a_sound_set_and_the_demos_have_no_finding(data, tmp_path):
    assert found(data) == {}
    assert report_health(config(TRAIN, resolution=64, min_bucket_reso=64, cache_dir=str(tmp_path / "cache"))) == []


def test_each_trouble_is_found_where_it_is_and_nowhere_else(data):
    texture(20).filter(ImageFilter.GaussianBlur(4)).save(data / "blurred.png")
    texture(21).save(data / "crushed.jpg", quality=12)
    texture(22).save(data / "good.jpg", quality=85)
    texture(0).rotate(0.4).resize((500, 500)).save(data / "again.png")
    texture(23, (200, 200)).save(data / "tiny.png")
    texture(24, (2000, 300)).save(data / "long.png")
    for path in data.glob("*.*g"):
        path.with_suffix(".txt").write_text(f"something else about {path.stem}", encoding="utf-8")
    (data / "3.txt").write_text("ein schÃ¶nes Bild", encoding="utf-8")
    expected = {
        "blurred": ["blurred.png"],
        "jpeg": ["crushed.jpg"],
        "alike": ["0.png", "again.png"],
        "small": ["tiny.png"],
        "cut": ["long.png"],
        "encoding": ["3.png"],
    }
    assert found(data, max_bucket_reso=1024) == expected
    (data / "4.png").write_bytes(b"none")
    alone = [finding.said for finding in report_health(config(data, max_bucket_reso=1024)) if len(finding.names) == 1]
    assert len(alone) == 6 and not [said for said in alone if re.search(r"\b(them|these|they|ones)\b", said)], "one is not called many"


def test_captions_of_which_many_are_the_same(data):
    for seed in range(5):
        (data / f"{seed}.txt").write_text("a picture", encoding="utf-8")
    assert found(data) == {"identical": [f"{seed}.png" for seed in range(5)]}


def test_a_tag_that_all_have_should_be_the_trigger_and_one_that_is_missing_is_told(data):
    for seed in range(6):
        (data / f"{seed}.txt").write_text(f"zwx, thing {seed}, outside", encoding="utf-8")
    said = [finding.said for finding in report_health(config(data))]
    assert len(said) == 2 and all("every one" in text and "Make it the trigger word" in text for text in said)
    (left,) = report_health(config(data, trigger_word="zwx"))
    assert "'outside'" in left.said and {"zwx", "outside"} == {tag for text in said for tag in ("zwx", "outside") if f"'{tag}'" in text}
    for seed in range(6):
        (data / f"{seed}.txt").write_text(f"{'' if seed == 4 else 'zwx, '}thing {seed}, place {seed}", encoding="utf-8")
    assert found(data) == {"trigger": ["4.png"]}
    assert found(data, trigger_word="zwx") == {}


def write(data, captions):
    for seed, text in enumerate(captions):
        if not (data / f"{seed}.png").exists():
            texture(seed).save(data / f"{seed}.png")
        (data / f"{seed}.txt").write_text(text, encoding="utf-8")


def test_a_tag_that_all_lists_of_tags_have_is_not_said_of_every_caption(data):
    write(data, ["zwx", *(f"zwx, thing {seed}, outside" for seed in range(5))])
    (finding,) = report_health(config(data, trigger_word="zwx"))
    assert len(finding.names) == 5 and "every caption of more than one tag" in finding.said


WHERE = (
    "a beach",
    "the moon",
    "green grass",
    "a red chair",
    "wet stones",
    "snow",
    "the roof",
    "an old bridge",
    "sand",
    "a table",
    "logs",
    "ice",
)


def test_a_word_that_nearly_all_sentences_have_is_what_the_trigger_should_say(data):
    write(data, [f"a watercolour of a {thing} on {where}" for thing, where in zip("abcdefghijkl", WHERE, strict=True)])
    (finding,) = report_health(config(data))
    assert finding.kind == "absorbed" and "'watercolour'" in finding.said and "Make it the trigger word" in finding.said
    (finding,) = report_health(config(data, trigger_word="zwx"))
    assert "the trigger word alone does not call it" in finding.said and finding.remedy is None


@pytest.mark.parametrize(
    "pattern",
    [
        "a photo of zwx dog on {}",  # the class of what is learned
        "photo of {} with some other things in the background",
        "zwx on {}",
    ],
)
def test_a_sound_way_of_writing_sentences_is_no_finding(data, pattern):
    write(data, [pattern.format(where) for where in WHERE])
    assert found(data, trigger_word="zwx") == {}


def test_captions_that_are_missing_empty_or_too_long_are_told_apart(data):
    (data / "0.txt").unlink()
    (data / "1.txt").write_text(" \n", encoding="utf-8")
    (data / "2.txt").write_text(" ".join(f"word{number}" for number in range(80)), encoding="utf-8")

    def look(**values):
        findings = report_health(config(data, **values), lambda text: len(text.split()))
        return {finding.kind: (list(finding.names), finding.said) for finding in findings}

    told = look()
    assert {kind: names for kind, (names, _) in told.items()} == {"missing": ["0.png"], "empty": ["1.png"], "long": ["2.png"]}
    assert "cannot be trained on" in told["missing"][1] and "more than 75 tokens" in told["long"][1]
    assert look(max_token_length=150).keys() == {"missing", "empty"}
    for seed in range(3, 6):
        (data / f"{seed}.txt").unlink()
    assert "missing" not in look(trigger_word="zwx"), "most are learned by the trigger word alone, which is a way of training"


def test_one_picture_without_a_caption_among_many_was_forgotten(data):
    write(data, [f"thing number {seed}" for seed in range(7)])
    (data / "0.txt").unlink()
    (finding,) = report_health(config(data, trigger_word="zwx"))
    assert finding.kind == "missing" and "learned as 'zwx' alone" in finding.said and finding.names == ("0.png",)


SPOKEN = {
    "cp1252": "ein schönes Mädchen mit grünem Hut, im Gras",
    "cp1251": "девушка в зелёной шляпе сидит на траве",
    "cp932": "緑の帽子をかぶった女の子が草の上に座っている",
    "gb18030": "戴着绿色帽子的女孩坐在草地上",
    "big5hkscs": "戴著綠色帽子的女孩坐在草地上",
    "cp949": "초록색 모자를 쓴 소녀가 풀밭에 앉아 있다",
    "utf-16-le": "1girl, green hat, 草地",
    "utf-16-be": "1girl, green hat, 草地",
}


@pytest.mark.parametrize("codec", SPOKEN)
def test_captions_in_another_encoding_are_told_and_saved_as_utf8(data, codec):
    editor = PictureEditor(len)
    for seed in range(3):
        (data / f"{seed}.txt").write_bytes(f"{SPOKEN[codec]}, {seed}".encode(codec))
    before = [(data / f"{seed}.txt").read_bytes() for seed in range(6)]
    (finding,) = report_health(config(data))
    assert finding.kind == "foreign" and finding.names == ("0.png", "1.png", "2.png") and finding.remedy.text == codec
    assert SPOKEN[codec][:10] in finding.said, "so that people can see what was taken for what"
    assert editor.mend(config(data), asdict(finding.remedy)) == "Save as UTF-8: 3 files."
    assert [(data / f"{seed}.txt").read_text(encoding="utf-8") for seed in range(3)] == [f"{SPOKEN[codec]}, {seed}" for seed in range(3)]
    assert report_health(config(data)) == []
    editor.undo(config(data))
    assert [(data / f"{seed}.txt").read_bytes() for seed in range(6)] == before


def test_short_captions_are_told_by_their_neighbours(data):
    for seed, text in enumerate(("schöner Hund", "naïve", "das große Haus für Gäste, natürlich möbliert")):
        (data / f"{seed}.txt").write_bytes(text.encode("cp1252"))
    (finding,) = report_health(config(data))
    assert finding.remedy.text == "cp1252" and len(finding.names) == 3


def test_a_table_in_another_encoding_is_told_too(data):
    rows = "\r\n".join(["filename,prompt", *(f"{seed}.png,戴着绿色帽子的女孩坐在草地上{seed}" for seed in range(6))])
    (data / "metadata.csv").write_bytes(rows.encode("gbk"))
    (finding,) = report_health(config(data))
    assert finding.said.startswith("1 table (metadata.csv)") and finding.names == ("metadata.csv",)
    PictureEditor(len).mend(config(data), asdict(finding.remedy))
    assert (data / "metadata.csv").read_bytes().decode("utf-8") == rows


def test_what_cannot_be_told_has_no_button_and_what_is_not_in_it_is_refused(data):
    (data / "0.txt").write_bytes("naïve".encode("cp1252"))
    (finding,) = report_health(config(data))
    assert finding.kind == "foreign" and finding.remedy is None and finding.names == ("0.png",)
    for wish, said in (("utf-7", "it is none of"), ("cp932", "it is not in cp932")):
        with pytest.raises(UserError, match=said):
            PictureEditor(len).mend(config(data), {"operation": "utf8", "names": ["0.png"], "text": wish})
    with pytest.raises(UserError, match="it is gone, or is UTF-8 by now"):
        PictureEditor(len).mend(config(data), {"operation": "utf8", "names": ["1.png"], "text": "cp1252"})


def test_buckets_are_told_as_a_note_and_only_where_there_are_several(data):
    def note(**values):
        return [finding.said for _, found in health.find_health(config(data, **values)) for finding in found if finding.is_note]

    assert note() == []
    texture(9, (640, 400)).save(data / "wide.png")
    (data / "wide.txt").write_text("a wide one", encoding="utf-8")
    (said,) = note(batch_size=4)
    assert "512x512 (6), 640x384 (1)" in said and "1 of these 2 has a single picture" in said and "Batches of 4" in said
    assert "Batches" not in note()[0] and found(data) == {}


def test_every_finding_says_what_to_do(data):
    texture(0).rotate(0.4).save(data / "again.png")
    for finding in report_health(config(data, resolution=1024)):
        assert finding.said.endswith(".") and finding.said.count(". ") >= 1, finding.said


def test_only_what_has_changed_is_looked_at_again(data, monkeypatch):
    looked = []
    plain = health.measure_picture
    monkeypatch.setattr(health, "measure_picture", lambda path, framing: looked.append(path.name) or plain(path, framing))
    for path in data.glob("*.png"):
        os.utime(path, (1e9, 1e9))
    first = report_health(config(data))
    assert len(looked) == 6
    (data / "0.png").rename(data / "renamed.png")
    (data / "0.txt").rename(data / "renamed.txt")
    texture(30).save(data / "1.png")
    looked.clear()
    assert report_health(config(data)) == first and looked == ["1.png"]
    (data / ".hotlora-cache" / "health.json").write_text("[]", encoding="utf-8")
    looked.clear()
    report_health(config(data))
    assert len(looked) == 6


def test_a_report_that_nobody_waits_for_keeps_what_it_has_seen(data, monkeypatch):
    report = health.find_health(config(data))
    next(report)
    report.close()
    monkeypatch.setattr(health, "measure_picture", None)
    assert report_health(config(data)) == []


def test_memory_stays_flat(data):
    def peak():
        (data / ".hotlora-cache" / "health.json").unlink(missing_ok=True)
        tracemalloc.start()
        report_health(config(data))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few = peak()
    for seed in range(40, 64):
        texture(seed).save(data / f"{seed}.png")
    assert peak() < 1.2 * few + 2**20, "five times the pictures, no more memory"


@pytest.mark.parametrize("quality", [20, 30, 50, 75, 95])
def test_a_jpegs_quality_is_the_one_it_was_saved_with(data, quality):
    texture(1).save(data / "a.jpg", quality=quality)
    assert measuring.measure_picture(data / "a.jpg", Framing()).quality == quality
