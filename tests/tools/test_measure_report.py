"""The health report of many pictures: memory does not grow with their number, and a second one costs nearly nothing."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import measure_report


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(measure_report, "SIDES", (64, 72))
    monkeypatch.setattr(measure_report, "_DRAWN", 50)


def test_twice_the_pictures_take_no_more_memory_and_a_second_look_no_time(small, tmp_path):
    taken = {}
    for count in (60, 600, 1200):  # the first one loads what all of them need
        measure_report.make_varied_pictures(tmp_path / str(count), count)
        taken[count] = measure_report.measure(tmp_path / str(count), str(count))
    assert taken[1200][1] < taken[600][1] + 24 * 2**20
    again, _ = measure_report.measure(tmp_path / "1200", "again")
    assert again < 0.5 * taken[1200][0]


def test_each_picture_is_another_file(small, tmp_path):
    measure_report.make_varied_pictures(tmp_path, 120)
    contents = {path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".txt"}
    assert len(contents) == 120 == len(list(tmp_path.glob("*.txt")))
