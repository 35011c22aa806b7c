"""How long the health report of many pictures takes, and how much memory: makes a folder of small varied pictures and reports twice.

    python tools/measure_report.py --count 10000

Counts processor seconds, which other programs on the computer do not change much, and the highest memory of the process.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "extension"))

import numpy as np
import psutil
from hotlora.engine.options import build
from hotlora.pictures.health import find_health
from hotlora.sd.config import ImageConfig
from PIL import Image

_DRAWN = 1000
SIDES = (256, 384, 512, 640, 768, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="pictures")
    parser.add_argument("--folder", type=Path, help="where to make them, and leave them; a temporary folder without it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() if arguments.folder is None else contextlib.nullcontext(arguments.folder) as folder:
        make_varied_pictures(Path(folder), arguments.count)
        for told in ("first report", "second report"):
            measure(Path(folder), told)


def make_varied_pictures(folder: Path, count: int) -> None:
    """PNG and JPEG of sides from 256 to 1024 pixels, each with a caption. Behind the first thousand come the same ones with other bytes at
    their end, which decoders do not read: other files to the report, which looks into each, and made in no time."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        path = folder / f"{number:05}{_choose_suffix(number)}"
        if number < _DRAWN:
            size = tuple(int(side) for side in rng.choice(SIDES, 2))
            coarse, fine = (Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)) for n in (6, 96))
            coarse, fine = coarse.resize(size, Image.Resampling.BILINEAR), fine.resize(size, Image.Resampling.NEAREST)
            Image.blend(coarse, fine, 0.4).save(path, quality=85, compress_level=1)
        else:
            first = folder / f"{number % _DRAWN:05}{_choose_suffix(number % _DRAWN)}"
            path.write_bytes(first.read_bytes() + str(number).encode())
        path.with_suffix(".txt").write_text(f"thing {number}, place {rng.integers(0, 99)}", encoding="utf-8")
        os.utime(path, (1e9, 1e9))  # so that it counts as written long ago


def _choose_suffix(number: int) -> str:
    return ".png" if number % 4 == 0 else ".jpg"


def measure(folder: Path, told: str) -> tuple[float, int]:
    """Print what a report took; returns its processor seconds, and the bytes that it took more than before at most."""
    config = build(ImageConfig, {"train_data_dir": str(folder), "output_dir": str(folder / "run")})
    process, begun, used = psutil.Process(), time.monotonic(), time.process_time()
    before = most = process.memory_info().rss
    findings = 0
    for progress, found in find_health(config, len):
        findings += len(found)
        most = max(most, process.memory_info().rss)
        show(f"{told}: {progress.done} of {progress.total}")
    seconds, spent = time.monotonic() - begun, time.process_time() - used
    print(f"\r{told}: {spent:.1f} processor seconds ({seconds:.1f} s), {(most - before) / 2**20:.0f} MB more memory, {findings} findings")
    return spent, most - before


def show(line: str) -> None:
    """On the line that is there, where somebody sits at a terminal."""
    if sys.stdout.isatty():
        print(f"\r{line}", end="", flush=True)


if __name__ == "__main__":
    main()
