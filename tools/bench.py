"""What a training step costs here, against a plain diffusers + peft loop: ``python tools/bench.py`` (or ``make bench``).

Both train the same LoRA (rank 8 on all of a transformer block's layers) on a full-size Stable Diffusion 1.5 shape with random
weights, at 256 px, batch 1, fp32, AdamW, latents and captions encoded beforehand. Each runs in a process of its own, in
turns, so that a machine that slows down slows both; printed are the medians and their ratio.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extension"))
PIXELS, RANK = 256, 8
TARGETS = r".*(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out)"


def make_model(folder: Path) -> None:
    """A Stable Diffusion 1.5 shaped model of random weights, with a small text encoder of the right width, and a picture."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from hotlora.hosts.standalone.checkpoints.architecture import CONFIGS
    from PIL import Image
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).save_pretrained(folder / "unet")
    blocks = {
        "block_out_channels": (32, 32, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    AutoencoderKL(latent_channels=4, **blocks).save_pretrained(folder / "vae")
    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=768, num_hidden_layers=2, num_attention_heads=12, bos_token_id=49406, eos_token_id=49407
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    CLIPTokenizer.from_pretrained(str(CONFIGS / "tokenizer")).save_pretrained(folder / "tokenizer")
    DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    parts |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}), encoding="utf-8")
    (folder / "data").mkdir()
    Image.new("RGB", (PIXELS, PIXELS), "teal").save(folder / "data" / "one.png")
    (folder / "data" / "one.txt").write_text("a teal square", encoding="utf-8")


def run_plain(folder: Path, steps: int) -> list[float]:
    """The loop as training scripts usually write it."""
    import torch
    import torch.nn.functional as F
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from peft import LoraConfig

    unet = UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)
    schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    parameters = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    latents, context, seconds = torch.randn(1, 4, PIXELS // 8, PIXELS // 8), torch.randn(1, 77, 768), []
    for _ in range(steps):
        began = time.monotonic()
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (1,))
        answer = unet(schedule.add_noise(latents, noise, timesteps), timesteps, context).sample
        F.mse_loss(answer, noise).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.monotonic() - began)
    return seconds


def run_ours(folder: Path, steps: int) -> list[float]:
    """A real run through the public pieces: host, trainee, loop."""
    from hotlora.engine.control import Control
    from hotlora.engine.events import Step
    from hotlora.engine.loop import train
    from hotlora.engine.options import build
    from hotlora.engine.run import Run
    from hotlora.hosts.standalone.images import DiffusersHost
    from hotlora.sd.config import ImageConfig

    with tempfile.TemporaryDirectory() as output:
        values = {"base_model": str(folder), "train_data_dir": str(folder / "data"), "output_dir": f"{output}/run", "resolution": PIXELS}
        config = build(ImageConfig, {**values, "lora_rank": RANK, "max_steps": steps + 1, "enable_bucket": False, "scheduler": "constant"})
        host = DiffusersHost()
        control = Control(host, Run.start(config), config.slice_seconds)
        at, seconds = time.monotonic(), []
        for event in train(host.borrow(config), config, control):
            if isinstance(event, Step):  # from event to event, so that everything around a step counts too
                seconds.append(time.monotonic() - at)
                if len(seconds) == steps:
                    break
            at = time.monotonic()
        return seconds


def measure(which: str, folder: Path, steps: int) -> dict:
    """Seconds of each step and peak memory of one run in a process of its own."""
    command = [sys.executable, __file__, "--worker", which, "--folder", str(folder), "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes of each, in turns")
    parser.add_argument("--steps", type=int, default=5, help="steps in each process; the first is not counted")
    parser.add_argument("--worker", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        seconds = {"ours": run_ours, "plain": run_plain}[options.worker](options.folder, options.steps)
        print(json.dumps({"seconds": seconds[1:], "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
        return
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(
            [sys.executable, "-c", f"import runpy; runpy.run_path({__file__!r})['make_model'](__import__('pathlib').Path({name!r}))"],
            check=True,
        )
        results: dict[str, list[dict]] = {"ours": [], "plain": []}
        for number in range(options.rounds):
            for which in results:
                results[which].append(measure(which, Path(name), options.steps))
                print(f"round {number + 1}, {which}: {statistics.median(results[which][-1]['seconds']):.2f} s/step", flush=True)
    report(results)


def report(results: dict[str, list[dict]]) -> None:
    """The table."""
    middle = {which: statistics.median(s for run in runs for s in run["seconds"]) for which, runs in results.items()}
    peak = {which: max(run["peak_kib"] for run in runs) / 2**20 for which, runs in results.items()}
    print(f"{'':8}{'s/step':>8}{'peak GB':>10}")
    for which in ("ours", "plain"):
        print(f"{which:8}{middle[which]:8.2f}{peak[which]:10.2f}")
    print(f"ratio   {middle['ours'] / middle['plain']:8.3f}{peak['ours'] / peak['plain']:10.3f}")


if __name__ == "__main__":
    main()
