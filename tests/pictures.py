"""Small picture folders for tests, and what a file's metadata says of a run."""

from pathlib import Path

import numpy as np
from PIL import Image

NOTES = {
    "step": 1,
    "epoch": 1,
    "total_steps": 1,
    "steps_per_epoch": 1,
    "started_at": 0.0,
    "finished_at": 1.0,
    "session_id": 1,
    "optimizer": "x",
}
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def make_pictures(folder: Path, count: int = 4, size: tuple[int, int] = (64, 64), *, first: int = 0) -> Path:
    """Noisy pictures with a caption file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"picture {number}.png")
        (folder / f"picture {number}.txt").write_text(f"{COLOURS[number % 6]} square, number {number}", encoding="utf-8")
    return folder
