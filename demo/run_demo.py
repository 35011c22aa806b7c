"""The demo: train the house-colours LoRA, then let another program's loader show that it works on subjects it never saw.

Training is the ordinary command, ``python train.py --config demo/demo.yaml``. The scores come from diffusers' own pipeline and
its own ``load_lora_weights``: what is measured is the file on the disk, not the trainer's idea of it.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DEMO = Path(__file__).resolve().parent
ROOT = DEMO.parent
sys.path[:0] = [str(ROOT / "extension"), str(DEMO)]

import numpy as np
import torch
from hotlora.engine.yaml_file import read_yaml
from PIL import Image
from style_score import StyleScore, ink_mask, match_silhouette, saturation

CONFIG = DEMO / "demo.yaml"
MODEL = DEMO / "model" / "emoji-sd.safetensors"
PICTURES = DEMO / "pictures"
WEIGHTS = (0.0, 0.4, 0.8, 1.0)
SAMPLING_STEPS, CFG = 25, 4.0
_FIRST_SEED = 1234
_BATCH = 10


@dataclass(frozen=True)
class Score:
    """What a set of pictures looks like; means over its subjects."""

    name: str
    style: float  # p(style)
    saturation: float
    same_subject: float  # share whose silhouette is nearest to their own subject's, of all 80


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels it could download
    parser = argparse.ArgumentParser(description="Train the demo LoRA and score it on subjects that it was not trained on.")
    parser.add_argument("--score-only", action="store_true", help="score the LoRA of the last run again")
    options = parser.parse_args(arguments)
    config = read_yaml(CONFIG)
    output = ROOT / config["output_dir"]
    lora = output / f"{config['output_name']}.safetensors"
    started = time.monotonic()
    if not options.score_only:
        shutil.rmtree(output, ignore_errors=True)  # the last demo's
        code = train()
        if code:
            return code
    print("\nscoring 40 subjects that were not in the training set, drawn by diffusers with the saved file …", flush=True)
    print_scores(score_lora(lora))
    print(f"\nDone in {time.monotonic() - started:.0f} seconds. Look at:")
    for what, path in {"the LoRA": lora, "comparison sheet": output / "comparison.png", "loss plot": output / "loss.png"}.items():
        print(f"  {what:17} {path.relative_to(ROOT)}")
    return 0


def train(*overrides: str) -> int:
    """Run the training command, with ``KEY=VALUE`` overrides; returns its exit code."""
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(CONFIG)]
    for override in overrides:
        command += ["--set", override]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # more threads than one only get in each other's way at this size
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def score_lora(lora: Path, *, weights: Sequence[float] = WEIGHTS, subjects: int = 40, steps: int = SAMPLING_STEPS) -> list[Score]:
    """Scores of pictures of unseen subjects, from the same noise at each weight; at the end those of the true pictures."""
    pipeline = load_pipeline()
    judge = Judge(pipeline)
    true = load_pictures("unseen-style")
    names = sorted(true)[:: len(true) // subjects][:subjects]
    scores, loaded = [], False
    for weight in weights:
        if weight and not loaded:  # weight 0 is the base model before it ever saw the file
            pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="demo")
            loaded = True
        if loaded:
            pipeline.set_adapters(["demo"], adapter_weights=[weight])
        scores.append(judge.score(f"{weight:g}", dict(zip(names, sample(pipeline, names, steps), strict=True))))
    return [*scores, judge.score("true pictures", dict(zip(names, through_vae(pipeline, [true[n] for n in names]), strict=True)))]


def print_scores(scores: Sequence[Score]) -> None:
    """As a table."""
    print(f"\n{'weight':>14} {'p(style)':>10} {'saturation':>12} {'same subject':>14}")
    for score in scores:
        print(f"{score.name:>14} {score.style:>10.2f} {score.saturation:>12.2f} {score.same_subject:>14.0%}")


class Judge:
    """Knows the style and every subject from true pictures, passed through the VAE as the model's own pictures are.

    The style is learned from the training set against the base's look of the scored subjects, so it never sees one of
    them in the style: that can only make it strict.
    """

    def __init__(self, pipeline):
        in_style, base = load_pictures("train"), load_pictures("unseen-base")
        self._p_style = StyleScore(through_vae(pipeline, in_style.values()), through_vae(pipeline, base.values()))
        self._silhouettes = {name: ink_mask(picture) for name, picture in {**in_style, **base}.items()}

    def score(self, name: str, pictures: dict[str, np.ndarray]) -> Score:
        """Score pictures by the subject they should show."""
        kept = [match_silhouette(picture, self._silhouettes) == subject for subject, picture in pictures.items()]
        style = self._p_style(list(pictures.values())).mean()
        return Score(name, float(style), float(np.mean([saturation(p) for p in pictures.values()])), float(np.mean(kept)))


def load_pictures(folder: str) -> dict[str, np.ndarray]:
    """Subject -> [height, width, 3] in 0..1."""
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) / 255 for path in sorted((PICTURES / folder).glob("*.png"))}


def load_pipeline():
    """diffusers' pipeline around the demo model. Only reading the checkpoint is ours: diffusers would ask the hub for its shape."""
    import diffusers
    import transformers
    from hotlora.hosts.standalone.checkpoints.recognising import describe
    from hotlora.hosts.standalone.loading import load_parts

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()  # about parts of pipelines that this model does not have
    checkpoint = describe(MODEL)
    parts = load_parts(checkpoint, vae="", device=torch.device("cpu"), dtype=torch.float32)
    pipeline = diffusers.StableDiffusionPipeline(
        unet=parts.unet,
        vae=parts.vae,
        text_encoder=parts.text_encoders[0],
        tokenizer=parts.tokenizers[0],
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def sample(pipeline, subjects: Sequence[str], steps: int) -> list[np.ndarray]:
    """A picture of each subject; its noise depends on its place in the list alone."""
    pictures = []
    for start in range(0, len(subjects), _BATCH):
        names = subjects[start : start + _BATCH]
        seeds = [torch.Generator().manual_seed(_FIRST_SEED + start + place) for place in range(len(names))]
        prompts = {
            "prompt_embeds": encode(pipeline, [name.replace("-", " ") for name in names]),
            "negative_prompt_embeds": encode(pipeline, [""] * len(names)),
        }
        options = {"width": 64, "height": 64, "num_inference_steps": steps, "guidance_scale": CFG, "output_type": "np"}
        pictures.extend(pipeline(**prompts, **options, generator=seeds).images)
    return pictures


def encode(pipeline, texts: list[str]) -> torch.Tensor:
    """[batch, 77, 64]. The pipeline's own way from texts needs a newer transformers than AUTOMATIC1111's."""
    ids = pipeline.tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    return pipeline.text_encoder(ids)[0]


@torch.no_grad()
def through_vae(pipeline, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Pictures encoded and decoded again."""
    pixels = torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).float() * 2 - 1
    decoded = pipeline.vae.decode(pipeline.vae.encode(pixels).latent_dist.mean).sample
    return list((decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())


if __name__ == "__main__":
    sys.exit(main())
