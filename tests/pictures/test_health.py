"""Each finding goes to its culprit and to no innocent neighbour; a sound set has none."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hotlora.engine.options import build
from hotlora.pictures import health
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


def test_every_finding_says_what_to_do(data):
    texture(0).rotate(0.4).save(data / "again.png")
    for finding in report_health(config(data, resolution=1024)):
        assert finding.said.endswith(".") and finding.said.count(". ") >= 1, finding.said


def test_only_what_has_changed_is_looked_at_again(data, monkeypatch):
    looked = []
    plain = health.measure_picture
    monkeypatch.setattr(health, "measure_picture", lambda path: looked.append(path.name) or plain(path))
    for path in data.glob("*.png"):
        os.utime(path, (1e9, 1e9))
    first = report_health(config(data))
    assert len(looked) == 6
    (data / "0.png").rename(data / "renamed.png")
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
    assert health.measure_picture(data / "a.jpg").quality == quality
