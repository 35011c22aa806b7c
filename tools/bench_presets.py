"""What the image presets learn, each against a plain rank-8 run of as many steps: ``make bench-presets``.

On the demo's tiny base and its 40 pictures in a style; few of them for the preset that is made for few. Rates are thirty times the
presets', as in the demo, and steps a fraction, because so small a model learns sooner. What is scored is the finished file, which diffusers
loads, on subjects that no run has seen: how much a picture is in the style, and whether it still shows its subject. A preset is to beat the
plain run in the product of both. It says nothing about how good a LoRA on a big model will be.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "extension"), str(ROOT / "demo")]

from hotlora.engine.events import Failed, Started  # noqa: E402
from hotlora.engine.job import Job  # noqa: E402
from hotlora.engine.options import build  # noqa: E402
from hotlora.engine.run import Run  # noqa: E402
from hotlora.engine.yaml_file import read_yaml  # noqa: E402
from hotlora.hosts.standalone.images import DiffusersHost  # noqa: E402
from hotlora.sd.config import ImageConfig  # noqa: E402
from hotlora.tasks import IMAGES  # noqa: E402
from run_demo import MODEL, PICTURES, Score, score_lora  # noqa: E402

FASTER = 30  # rates of the demo's model, by those of a big one
FEW = 8  # pictures for the preset that is made for few
PLAIN = {"lora_rank": 8, "lora_alpha": 8, "learning_rate": 1e-4}
RATES = ("learning_rate", "text_encoder_lr")
HERE = {  # what the demo's pictures and an unattended run ask for
    "base_model": str(MODEL), "resolution": 64, "enable_bucket": False, "min_bucket_reso": 64, "cache_latents": "memory",
    "sample_prompts": [], "sample_every_steps": 0, "sample_every_epochs": 0, "sample_steps": 1, "sheet_weights": [1.0], "save_steps": 0,
    "save_epochs": 0, "tensorboard": False, "trigger_word": "", "flip_aug": False, "sample_sampler": "DDIM",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", help="names; all where none is given")
    parser.add_argument("--shorter", type=int, default=4, help="steps are divided by this (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="try the presets with an option changed")
    options = parser.parse_args()
    changed = dict(item.split("=", 1) for item in options.set)
    print("| preset | steps | pictures a step | in the style | the plain run | shows its subject | the plain run | seconds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    worse = []
    for name in options.presets or IMAGES.presets:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            values = read_values(IMAGES.presets[name]) | changed
            (mine, steps), plain = compare(Path(folder), values, options.shorter, few="validation_split" in values)
        print(
            f"| {name} | {steps:,} | {values.get('batch_size', 1)} | {mine.style:.2f} | {plain.style:.2f} | {mine.same_subject:.0%} "
            f"| {plain.same_subject:.0%} | {time.monotonic() - began:.0f} |",
            flush=True,
        )
        if worth(mine) <= worth(plain):
            worse.append(name)
    print(f"\nnot above the plain run: {', '.join(worse)}" if worse else "\neach is above the plain run")
    return 1 if worse else 0


def worth(score: Score) -> float:
    """In the style, and still its subject."""
    return score.style * score.same_subject


def read_values(path: Path) -> dict[str, Any]:
    """A preset's options, but those that name somebody's data."""
    return {
        key: value for key, value in read_yaml(path).items() if key not in ("train_data_dir", "metadata_path", "output_dir", "task_type")
    }


def compare(folder: Path, values: Mapping[str, Any], shorter: int, *, few: bool) -> tuple[tuple[Score, int], Score]:
    """The preset's score and the steps it took, and the score of the plain run of as many."""
    data = folder / "pictures"
    shutil.copytree(PICTURES / "train", data)
    for number, picture in enumerate(sorted(data.glob("*.png"))):
        if few and number >= FEW:
            picture.unlink()
    if few:
        (data / "metadata.csv").write_text("".join(_lines_of(data)), encoding="utf-8")
    faster = {key: float(values[key]) * FASTER for key in RATES if key in values}
    wanted = count_steps(dict(values) | HERE | {"train_data_dir": str(data)}) // shorter
    length = {"max_steps": wanted, "warmup_steps": int(values.get("warmup_steps", 0)) // shorter}
    mine, steps = train(folder / "preset", {**values, **faster, **length, **HERE, "train_data_dir": str(data)})
    plain_values = {
        **PLAIN,
        "learning_rate": PLAIN["learning_rate"] * FASTER,
        "batch_size": values.get("batch_size", 1),
        "max_steps": steps,
    }
    plain, _ = train(folder / "plain", {**plain_values, **HERE, "train_data_dir": str(data)})
    return (mine, steps), plain


def _lines_of(data: Path) -> list[str]:
    """Of the table of captions, its head and what is said of pictures that are there."""
    lines = (data / "metadata.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for number, line in enumerate(lines) if not number or (data / line.split(",")[0]).is_file()]


def count_steps(values: Mapping[str, Any]) -> int:
    """So many as the preset would take on these pictures."""
    with tempfile.TemporaryDirectory() as folder:
        config = build(ImageConfig, {**values, "output_dir": folder, "output_name": "x"})
        job = Job(DiffusersHost(), config, Run.start(config))
        found: list[int] = []

        def look(event: Any) -> None:
            if isinstance(event, Started):
                found.append(event.total_steps)
                job.control.stop()

        job.subscribe(look)
        _raise_failed(job.work())
        return found[0]


def train(folder: Path, values: Mapping[str, Any]) -> tuple[Score, int]:
    """The finished file's score, and its steps."""
    config = build(ImageConfig, {**values, "output_dir": str(folder), "output_name": "x"})
    run = Run.start(config)
    outcome = _raise_failed(Job(DiffusersHost(), config, run).work())
    file = run.best_path if run.best_path.exists() else run.final_path
    score = score_lora(file, weights=[1.0], subjects=20, steps=15)[0]
    return score, outcome.step


def _raise_failed(outcome: Any) -> Any:
    if isinstance(outcome, Failed):
        raise SystemExit(outcome.message)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
