"""Pieces of ``gpu_check``: time and memory. Each yields (case, result in words, numbers)."""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gpu_bench import Bench, Found
from gpu_models import Shape
from hotlora.engine.control import Control
from hotlora.engine.events import Event, Step
from hotlora.engine.loop import train
from hotlora.engine.probe import Estimate, look_ahead
from hotlora.engine.run import Run
from hotlora.hosts.shared.devices import autocast, choose_dtype
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.hosts.standalone.loading import load_part
from hotlora.hosts.standalone.texts import TransformersHost


def check_steps(bench: Bench) -> Found:
    """Each setting that changes time or memory."""
    cases: list[tuple[str, dict[str, Any]]] = [
        ("sd15", {}),
        ("sd15", {"batch_size": 4}),
        ("sd15", {"gradient_checkpointing": True}),
        ("sd15", {"optimizer": "AdamW8bit"}),
        ("sd15", {"mixed_precision": "fp16"}),
        ("sd15", {"mixed_precision": "no"}),
        ("sdxl", {}),
        ("sdxl", {"gradient_checkpointing": True}),
        ("sdxl", {"batch_size": 4, "gradient_checkpointing": True}),
        ("text135m", {}),
        ("text135m", {"mixed_precision": "no"}),
        ("text1b", {}),
        ("text1b", {"gradient_checkpointing": True}),
        ("text1b", {"quantization": "8bit"}),
        ("text1b", {"quantization": "4bit"}),
    ]
    for name, options in cases:
        shape = bench.shape(name)
        case = f"{shape.told}, {', '.join(f'{key} {value}' for key, value in ({'mixed_precision': bench.half} | options).items())}"
        problem = _why_not(bench, options)
        if problem:
            yield case, f"not checked: {problem}", {}
            continue
        config = bench.config(shape, **options)
        yield case, *bench.run(shape, config, bench.steps).tell()
        if config.mixed_precision == "no" and bench.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            yield f"{case}, tf32", *bench.run(shape, bench.config(shape, **options), bench.steps).tell()
            torch.backends.cuda.matmul.allow_tf32 = False


def _why_not(bench: Bench, options: dict[str, Any]) -> str:
    return "fp16 is slow on processors" if options.get("mixed_precision") == "fp16" and not bench.has_card else ""


def check_predicted(bench: Bench) -> Found:
    """What *What will happen?* says against what a run then takes."""
    for name, options in (("sd15", {"batch_size": 2}), ("sdxl", {"gradient_checkpointing": True}), ("text135m", {})):
        shape = bench.shape(name)
        config = bench.config(shape, **options)
        bench.clear()
        host: Any = TransformersHost() if shape.is_text else DiffusersHost()
        host.borrow = functools.partial(bench.trainee, shape)
        *_, estimate = look_ahead(host, config)
        assert isinstance(estimate, Estimate)
        taken = bench.run(shape, bench.config(shape, **options), bench.steps)
        said = f"{estimate.seconds_per_step * 1000:.0f} ms said, {taken.median * 1000:.0f} ms taken"
        if taken.allocated:
            said += f"; {estimate.memory_bytes / 2**30:.2f} GB said, {taken.allocated / 2**30:.2f} GB allocated"
        yield shape.told, said, {"said_bytes": estimate.memory_bytes, "allocated_bytes": taken.allocated}


def check_plain(bench: Bench) -> Found:
    """Ours beside a plain loop over diffusers and peft, and beside the frozen network's forward and input gradients alone."""
    shape = bench.shape("sd15")
    for size in (1, 4):
        config = bench.config(shape, batch_size=size, enable_bucket=False)
        model = bench.model(shape, config)
        part = describe(Path(config.base_model)).parts["unet"]
        frozen, adapted = (load_part(part, bench.device, model.compute_dtype) for _ in range(2))
        plain = _PlainLoop(adapted, bench, size, shape)
        times: dict[str, list[float]] = {"ours": [], "plain": [], "floor": []}
        for _ in range(3):
            times["ours"] += bench.run(shape, bench.config(shape, batch_size=size, enable_bucket=False), bench.steps).seconds[2:]
            times["plain"] += plain.run(bench.steps)[2:]
            times["floor"] += _Floor(frozen, bench, size, shape).run(bench.steps)[2:]
        middle = {name: statistics.median(seconds) for name, seconds in times.items() if seconds}
        told = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in middle.items())
        ratios = f"{middle['ours'] / middle['plain']:.2f} of the plain loop, {middle['ours'] / middle['floor']:.2f} of the floor"
        yield f"{shape.told}, batch {size}", f"{told}: {ratios}", middle


class _Floor:
    """Forward and input gradients of the frozen network: what no trainer gets below."""

    def __init__(self, unet: Any, bench: Bench, size: int, shape: Shape):
        self.unet, self.bench, self.size = unet, bench, size
        side = shape.pixels // 8
        self.noisy = torch.randn(size, 4, side, side, device=bench.device)
        self.context = torch.randn(size, 77, unet.config.cross_attention_dim, device=bench.device)
        self.noise = torch.randn_like(self.noisy)

    def run(self, steps: int) -> list[float]:
        seconds = []
        for _ in range(steps):
            began = time.monotonic()
            loss = self.step()
            loss.item()  # waits
            seconds.append(time.monotonic() - began)
        return seconds

    def predict(self, noisy: torch.Tensor) -> torch.Tensor:
        timesteps = torch.randint(0, 1000, (self.size,), device=self.bench.device)
        with autocast(self.bench.device, choose_dtype(self.bench.half, self.bench.device)):
            return self.unet(noisy, timesteps, encoder_hidden_states=self.context, return_dict=False)[0].float()

    def step(self) -> torch.Tensor:
        noisy = self.noisy.detach().requires_grad_(True)
        loss = F.mse_loss(self.predict(noisy), self.noise)
        torch.autograd.grad(loss, noisy)
        return loss.detach()


class _PlainLoop(_Floor):
    """As training scripts usually write it."""

    def __init__(self, unet: Any, bench: Bench, size: int, shape: Shape):
        from bench import RANK, TARGETS
        from peft import LoraConfig

        super().__init__(unet, bench, size, shape)
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
        self.parameters = [p for p in unet.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)

    def step(self) -> torch.Tensor:
        loss = F.mse_loss(self.predict(torch.randn_like(self.noisy)), self.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def check_levers(bench: Bench) -> Found:
    """What might make a card faster and is not built, because no card has said so: on the floor, in turns with the network as it is."""
    shape = bench.shape("sd15")
    levers: dict[str, Callable[[Any], Any]] = {
        "channels_last": lambda unet: unet.to(memory_format=torch.channels_last),
        "compiled blocks": _compile_blocks,
    }
    for size in (1, 4):
        config = bench.config(shape, batch_size=size, enable_bucket=False)
        part = describe(Path(config.base_model)).parts["unet"]
        for name, pull in levers.items():
            case = f"{shape.told}, batch {size}, {name}"
            if pull is _compile_blocks and not bench.has_card:
                yield case, "not checked: on a processor it gains a twentieth, after minutes", {}
                continue
            plain, pulled = (load_part(part, bench.device, choose_dtype(config.mixed_precision, bench.device)) for _ in range(2))
            pull(pulled)
            floors = {"as it is": _Floor(plain, bench, size, shape), name: _Floor(pulled, bench, size, shape)}
            first = {way: floor.run(1)[0] for way, floor in floors.items()}[name]
            times: dict[str, list[float]] = {way: [] for way in floors}
            for _ in range(3):
                for way, floor in floors.items():
                    times[way] += floor.run(bench.steps)[1:]
            middle = {way: statistics.median(seconds) for way, seconds in times.items()}
            told = ", ".join(f"{way} {seconds * 1000:.1f} ms" for way, seconds in middle.items())
            yield case, f"{told}: {middle[name] / middle['as it is']:.2f} of it; its first step {first:.1f} s", middle


def _compile_blocks(unet: Any) -> None:
    for module in unet.modules():
        if type(module).__name__ == "BasicTransformerBlock":
            module.compile()


def check_gaps(bench: Bench) -> Found:
    """The longest time within a step in which the card computes nothing."""
    if bench.device.type != "cuda":
        yield "longest kernel-free gap", "not checked: it needs CUDA", {}
        return
    shape = bench.shape("sd15")
    for size in (1, 4):
        config = bench.config(shape, batch_size=size)
        control = Control(DiffusersHost(), Run.start(config), config.slice_seconds)
        with contextlib.closing(train(bench.trainee(shape, config), config, control)) as events:
            _skip_steps(events, 4)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                _skip_steps(events, 4)
                torch.cuda.synchronize()
        control.run.close()
        spans = sorted((e.time_range.start, e.time_range.end) for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA)
        busy, end, gaps = 0.0, spans[0][0], []
        for start, stop in spans:
            gaps.append(max(start - end, 0.0))
            busy += max(stop - max(start, end), 0.0)
            end = max(end, stop)
        share = busy / (end - spans[0][0])
        gaps.sort(reverse=True)
        told = f"longest gap of four steps {gaps[0] / 1000:.2f} ms, then {gaps[3] / 1000:.2f} ms; the card computes {share:.0%} of the time"
        yield f"{shape.told}, batch {size}", told, {"longest_gap_us": gaps[0], "busy": share}


def _skip_steps(events: Iterator[Event], count: int) -> None:
    for _ in range(count):
        next(event for event in events if isinstance(event, Step))
