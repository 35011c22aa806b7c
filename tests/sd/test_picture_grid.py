"""The command that draws a grid, on a tiny model: its pictures are those of the saved files, and a kill costs one picture."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from finished import train_tiny
from hotlora.cli import main
from hotlora.engine.grid import read_grid
from hotlora.engine.interfaces import PreviewRequest
from hotlora.engine.options import build
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.toolbox.baking import bake
from PIL import Image, ImageChops

KINDS = {"lora": {"conv_rank": 2}, "loha": {"network_type": "loha"}, "dora": {"use_dora": True}}


def make_run(folder: Path, **options) -> Path:
    samples = {"sample_steps": 2, "sample_prompts": ["a cat", "a <dog> --d 7 --l 3"], "sample_every_epochs": 0}
    train_tiny(folder, 4, learning_rate=3e-2, **samples | options)
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("gridded"))


def picture_of(run: Path, base: Path, prompt: str, seed: int) -> Image.Image:
    """As a plain model draws it."""
    config = build(ImageConfig, {"base_model": str(base), "resolution": 64, "sample_steps": 2, "output_dir": str(run)})
    trainee = DiffusersHost().borrow(config)
    with torch.no_grad():
        return trainee.preview(PreviewRequest(prompt, seed)).picture


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_is_that_of_a_model_with_the_file_baked_in(tmp_path, kind):
    run = make_run(tmp_path, **KINDS[kind])
    assert main(["grid", "--run", str(run)]) == 0
    grid = read_grid(run)
    assert [cell.checkpoint for cell in grid.cells[0]] == ["step 2", "step 4", "finished"]
    plain = picture_of(run, tmp_path / "base.safetensors", "a cat", ImageConfig().sample_seed)
    for cell in grid.cells[0]:
        bake(tmp_path / "base.safetensors", [next(run.rglob(f"{cell.adapter}.safetensors"))], [1.0], tmp_path / f"{cell.name}.safetensors")
        wanted = picture_of(run, tmp_path / f"{cell.name}.safetensors", "a cat", ImageConfig().sample_seed)
        with Image.open(grid.paths()[cell.name]) as drawn:
            assert furthest(drawn, wanted) <= 2 < furthest(drawn, plain), cell
            assert f"<lora:{cell.adapter}:1>" in drawn.info["parameters"]


def furthest(one: Image.Image, other: Image.Image) -> int:
    return max(high for _, high in ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema())


def test_axes_are_what_they_say_and_nothing_is_drawn_twice(run, capsys):
    words = ["grid", "--run", str(run), "--rows", "seed", "--columns", "cfg", "--seed", "1", "2", "--cfg", "1", "5", "--prompt", "x --d 9"]
    assert main(words) == 0
    grid = read_grid(run)
    told = {(c.seed, c.cfg): Image.open(grid.paths()[c.name]).info["parameters"] for row in grid.cells for c in row}
    assert all(f"Seed: {seed}," in said and f"CFG scale: {cfg:g}," in said for (seed, cfg), said in told.items()) and len(told) == 4
    times = {path: path.stat().st_mtime_ns for path in grid.paths().values()}
    assert main(words) == 0 and {path: path.stat().st_mtime_ns for path in grid.paths().values()} == times
    page = (run / "grid" / "grid.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 4 and "cfg 5" in page
    capsys.readouterr()
    assert main([*words, "--count"]) == 0 and "4 pictures at most" in capsys.readouterr().out


def test_killed_in_the_middle_it_goes_on(tmp_path):
    run = make_run(tmp_path, sample_prompts=["a cat"])
    words = [sys.executable, "-m", "hotlora", "grid", "--run", str(run), "--rows", "seed", "--seed", *map(str, range(40))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "extension")}
    killed = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list((run / "grid").glob("*.png"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    killed.wait()
    before = {path: path.read_bytes() for path in (run / "grid").glob("*.png")}
    assert 3 <= len(before) < 120
    assert main([*words[3:4], "--run", str(run), "--rows", "seed", "--seed", *map(str, range(5))]) == 0
    assert all(path.read_bytes() == data for path, data in before.items()) and read_grid(run).count() == (15, 15)


def test_what_cannot_be_drawn_is_a_sentence(run, tmp_path, capsys):
    assert main(["grid", "--run", str(run), "--checkpoint", "step 3"]) == 2
    assert "step 2, step 4, finished" in capsys.readouterr().err
    assert main(["grid", "--run", str(tmp_path)]) == 2
