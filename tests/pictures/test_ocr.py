"""Text and watermarks are found by a real OCR package, where there is one; where there is none, the report says that it did not look."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from hotlora.engine.options import build
from hotlora.pictures import health, ocr
from hotlora.pictures.health import find_health
from hotlora.sd.config import ImageConfig
from PIL import Image, ImageDraw, ImageFont
from test_health import texture


def look(folder, **values):
    config = build(ImageConfig, {"train_data_dir": str(folder), "output_dir": str(folder / "run"), **values})
    return {finding.kind: finding for _, found in find_health(config) for finding in found}


def save(path, seed, text="", colour="white", size=40, side=512):
    picture = texture(seed, (side, side))
    if text:
        ImageDraw.Draw(picture).text((side // 6, side - 2 * size), text, fill=colour, font=ImageFont.load_default(size))
    picture.save(path)
    path.with_suffix(".txt").write_text(f"thing {seed}", encoding="utf-8")


@pytest.mark.skipif(find_spec("rapidocr") is None, reason="rapidocr is installed beside the newest packages only")
def test_text_and_watermarks_are_found_where_they_are_and_nowhere_else(tmp_path):
    for seed, (text, colour, size) in enumerate(
        (("", "", 0), ("(c) photo-agency.com", "white", 24), ("2024-05-01", "orange", 20), ("", "", 0))
    ):
        save(tmp_path / f"{seed}.png", seed, text, colour, size)
    found = look(tmp_path)
    assert set(found) == {"text"} and sorted(found["text"].names) == ["1.png", "2.png"]
    assert "photo-agency" in found["text"].said and "Crop it" in found["text"].said


class FakeEngine:
    """What the package gives of each picture, in turn."""

    def __init__(self, results):
        self.results, self.seen = list(results), []

    def __call__(self, picture):
        self.seen.append(picture.shape)
        return self.results.pop(0)


def put_engine(monkeypatch, results):
    engine = FakeEngine(results)
    monkeypatch.setattr(ocr, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=lambda params: engine))
    return engine


def said(*lines):
    return SimpleNamespace(txts=[text for text, _ in lines], scores=[score for _, score in lines])


def test_a_picture_is_read_once_and_what_was_read_is_remembered(tmp_path, monkeypatch):
    nothing = SimpleNamespace(txts=None, scores=None)
    for seed in range(4):
        save(tmp_path / f"{seed}.png", seed, side=900 if seed == 0 else 300)
    save(tmp_path / "small.png", 5, side=100)
    engine = put_engine(monkeypatch, [said(("ab", 0.99), ("SAMPLE", 0.95)), said(("SAMPLE", 0.5)), nothing, nothing])
    assert look(tmp_path, resolution=64)["text"].names == ("0.png",), "neither an unsure text nor two letters count"
    assert max(map(max, engine.seen)) == 736 and len(engine.seen) == 4, "the small one is not read"
    assert look(tmp_path, resolution=64)["text"].names == ("0.png",) and len(engine.seen) == 4


def test_what_was_measured_without_the_package_is_read_when_it_has_come(tmp_path, monkeypatch):
    save(tmp_path / "0.png", 0)
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    assert "the package rapidocr is not installed" in look(tmp_path)["unread"].said and look(tmp_path)["unread"].is_note
    monkeypatch.setattr(health, "measure_picture", None)
    put_engine(monkeypatch, [said(("SAMPLE", 0.95))])
    assert set(look(tmp_path)) == {"text"}


def test_of_very_many_pictures_only_some_are_read_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(ocr, "_MOST", 2)
    for seed in range(5):
        save(tmp_path / f"{seed}.png", seed, side=200)
    engine = put_engine(monkeypatch, [said(("SAMPLE", 0.95))] * 5)
    found = look(tmp_path, resolution=64)
    assert found["text"].names == ("0.png", "3.png") and len(engine.seen) == 2
    assert "in 2 of 5 pictures" in found["unread"].said


def test_a_package_that_does_not_work_is_told_and_spoils_nothing(tmp_path, monkeypatch):
    save(tmp_path / "0.png", 0)
    monkeypatch.setattr(ocr, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    found = look(tmp_path)
    assert set(found) == {"unread"} and "does not work here" in found["unread"].said
    assert Image.open(tmp_path / "0.png").size == (512, 512)
