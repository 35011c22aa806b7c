"""``tools/gpu_check.py`` without a card: all pieces run through with tiny shapes, and each row says that no card was looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "gpu_check.py"
PIECES = {"base", "memory", "fp16", "vae", "plain", "gaps", "steps", "predicted", "resume", "whole", "levers"}


def run(folder: Path, *options: str) -> list[dict]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TOOL), "--tiny", "--output", str(folder), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "gpu.json").read_text("utf-8"))["rows"]


def test_every_piece_runs_through_and_says_that_no_card_was_looked_at(tmp_path):
    rows = run(tmp_path)
    assert {row["piece"] for row in rows} == PIECES
    told = (tmp_path / "gpu.md").read_text("utf-8").splitlines()
    assert sum("no card was looked at" in line for line in told) == len(rows)
    assert any("tensors bit-equal" in row["result"] for row in rows)


def test_what_time_did_not_allow_is_said(tmp_path):
    (row,) = run(tmp_path, "--only", "steps", "--seconds", "0")
    assert row["result"] == "not checked: the time was over"
