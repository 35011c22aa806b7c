"""What a training step costs here, against a plain diffusers + peft loop: ``python tools/bench.py`` (or ``make bench``).

Both train the same LoRA (rank 8 on all of a transformer block's layers) on a full-size Stable Diffusion 1.5 shape with random
weights, at 256 px, batch 1, fp32, AdamW, latents and captions encoded beforehand. The floor below both is the frozen U-Net alone, forwards
and backwards to the input of its first transformer, where the first adapter would be. Each runs in a process of its own, in turns, so
that a machine that slows down slows all; printed are the medians, in seconds of the clock and of the processor, and their ratios.
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
Cost = tuple[float, float]  # seconds of the clock, seconds of the processor in all threads
TARGETS = r".*(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out)"


def now() -> Cost:
    """To be given to :func:`since`."""
    return time.monotonic(), time.process_time()


def since(began: Cost) -> Cost:
    """What has passed."""
    return time.monotonic() - began[0], time.process_time() - began[1]


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


def run_floor(folder: Path, steps: int) -> list[Cost]:
    """What no trainer of adapters gets below."""
    import torch
    import torch.nn.functional as F
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)
    first = unet.down_blocks[0].attentions[0]
    first.register_forward_pre_hook(lambda module, given: (given[0].detach().requires_grad_(True), *given[1:]))
    latents, context, costs = torch.randn(1, 4, PIXELS // 8, PIXELS // 8), torch.randn(1, 77, 768), []
    for _ in range(steps):
        began = now()
        F.mse_loss(unet(latents, torch.randint(0, 1000, (1,)), context).sample, torch.randn_like(latents)).backward()
        costs.append(since(began))
    return costs


def run_plain(folder: Path, steps: int) -> list[Cost]:
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
    latents, context, costs = torch.randn(1, 4, PIXELS // 8, PIXELS // 8), torch.randn(1, 77, 768), []
    for _ in range(steps):
        began = now()
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (1,))
        answer = unet(schedule.add_noise(latents, noise, timesteps), timesteps, context).sample
        F.mse_loss(answer, noise).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        costs.append(since(began))
    return costs


def run_ours(folder: Path, steps: int) -> list[Cost]:
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
        at, costs = now(), []
        for event in train(host.borrow(config), config, control):
            if isinstance(event, Step):  # from event to event, so that everything around a step counts too
                costs.append(since(at))
                if len(costs) == steps:
                    break
            at = now()
        return costs


WORKERS = {"floor": run_floor, "ours": run_ours, "plain": run_plain}


def measure(which: str, folder: Path, steps: int) -> dict:
    """Cost of each step and peak memory of one run in a process of its own."""
    command = [sys.executable, __file__, "--worker", which, "--folder", str(folder), "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes of each, in turns")
    parser.add_argument("--steps", type=int, default=5, help="steps in each process; the first is not counted")
    parser.add_argument("--worker", choices=tuple(WORKERS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        costs = WORKERS[options.worker](options.folder, options.steps)
        print(json.dumps({"costs": costs[1:], "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
        return
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(
            [sys.executable, "-c", f"import runpy; runpy.run_path({__file__!r})['make_model'](__import__('pathlib').Path({name!r}))"],
            check=True,
        )
        results: dict[str, list[dict]] = {which: [] for which in WORKERS}
        for number in range(options.rounds):
            for which, runs in results.items():
                runs.append(measure(which, Path(name), options.steps))
                print(f"round {number + 1}, {which}: {median(runs[-1:], 1):.2f} processor s/step", flush=True)
    report(results)


def median(runs: list[dict], clock: int) -> float:
    """Of all steps; ``clock``: 0 for the wall's, 1 for the processor's."""
    return statistics.median(cost[clock] for run in runs for cost in run["costs"])


def report(results: dict[str, list[dict]]) -> None:
    """The table."""
    floor = median(results["floor"], 1)
    print(f"{'':8}{'s/step':>8}{'CPU s/step':>12}{'of floor':>10}{'peak GB':>10}")
    for which, runs in results.items():
        peak = max(run["peak_kib"] for run in runs) / 2**20
        cpu = median(runs, 1)
        print(f"{which:8}{median(runs, 0):8.2f}{cpu:12.2f}{cpu / floor:10.3f}{peak:10.2f}")
    print(f"ours / plain, CPU: {median(results['ours'], 1) / median(results['plain'], 1):.3f}")


if __name__ == "__main__":
    main()
