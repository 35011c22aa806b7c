"""Large files do not get into the repository unnoticed."""

import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
tool = runpy.run_path(str(ROOT / "tools" / "check_sizes.py"))
measure, find_faults = tool["measure_tracked"], tool["find_faults"]
MOST = tool["MOST_BYTES"]


def test_a_large_file_is_refused_by_name_also_before_it_is_added(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("output/\n")
    for name, size in {"größe.bin": MOST + 1, "just.bin": MOST, "output/run.bin": MOST + 1, "demo/model/net.bin": MOST + 1}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    faults = find_faults(measure(tmp_path), {})
    assert len(faults) == 1 and faults[0].startswith("cannot take größe.bin: it has 200 kB")


def test_an_exception_is_taken_and_one_that_is_not_needed_is_told():
    assert find_faults({"docs/tab.png": MOST + 1}, {"docs/tab.png": "seen by people"}) == []
    told = find_faults({"docs/tab.png": MOST}, {"docs/tab.png": "seen by people", "gone.bin": "was large"})
    assert [sentence.split(":")[0] for sentence in told] == ["cannot find a large file docs/tab.png", "cannot find a large file gone.bin"]


def test_nothing_in_this_repository_is_too_large():
    try:
        sizes = measure(ROOT)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    assert find_faults(sizes) == []


def test_every_exception_says_why():
    assert all(tool["ALLOWED"].values())
