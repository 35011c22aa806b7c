"""The pieces of ``gpu_check``: each yields (case, result in words, numbers). Raises whatever is wrong."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from gpu_models import DEMO, Shape, find_shape, make_image_model, make_text_model, write_pairs, write_pictures
from hotlora.engine.control import Control
from hotlora.engine.events import Event, Failed, Step, Warned
from hotlora.engine.job import Job
from hotlora.engine.loop import train
from hotlora.engine.memory import release_cached_memory
from hotlora.engine.options import build
from hotlora.engine.probe import Estimate, look_ahead
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.shared.devices import autocast, choose_device, choose_dtype
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersHost, DiffusersModel
from hotlora.hosts.standalone.loading import load_part
from hotlora.hosts.standalone.texts import TransformersHost, load_model
from hotlora.llm.config import TextConfig
from hotlora.llm.trainee import TextTrainee
from hotlora.sd.config import ImageConfig
from hotlora.sd.trainee import ImageTrainee
from safetensors.torch import load_file

Found = Iterator[tuple[str, str, dict[str, float]]]
DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@dataclass
class Row:
    """One line of the table."""

    piece: str
    case: str
    result: str
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def is_failure(self) -> bool:
        return self.result.startswith("FAILED")


class Taken(NamedTuple):
    """What steps took: seconds each, bytes at the peak, and what they said."""

    seconds: list[float]
    allocated: int
    reserved: int
    losses: list[float]
    warnings: list[str]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds[1:] or self.seconds)

    def tell(self) -> tuple[str, dict[str, float]]:
        memory = f", peak {self.allocated / 2**30:.2f} GB allocated, {self.reserved / 2**30:.2f} GB reserved" if self.allocated else ""
        numbers = {"seconds_per_step": self.median, "allocated_bytes": self.allocated, "reserved_bytes": self.reserved}
        return f"{self.median * 1000:.1f} ms a step{memory}", numbers


class Bench:
    """The machine's device, and the models that were made on it so far.

    Args:
        folder: for models and runs.
        tiny: shapes that a CPU trains in a moment.
    """

    def __init__(self, folder: Path, *, tiny: bool = False):
        self.folder, self.device = folder, choose_device()
        self.has_card = self.device.type != "cpu"
        self.tiny = tiny or not self.has_card
        self._numbers = itertools.count()
        self._loaded: tuple[Any, Any] = (None, None)

    @property
    def half(self) -> str:
        return "bf16" if self.device.type != "cuda" or torch.cuda.is_bf16_supported() else "fp16"

    @property
    def steps(self) -> int:
        return 3 if self.tiny else 12

    def shape(self, name: str) -> Shape:
        return find_shape(name, tiny=self.tiny)

    def config(self, shape: Shape, **options: Any) -> Any:
        """Of a run of its own on that shape's data."""
        number, kind = next(self._numbers), TextConfig if shape.is_text else ImageConfig
        data = self.folder / f"{shape.name}-data"
        if not data.exists():
            (write_pairs if shape.is_text else write_pictures)(data, shape)
        values = {"base_model": str(self._make(shape)), "train_data_dir": str(data), "output_dir": str(self.folder / f"run{number}")}
        values |= {"max_steps": 1000, "lora_rank": 8, "scheduler": "constant", "tensorboard": False, "mixed_precision": self.half}
        if not shape.is_text:
            values |= {"resolution": shape.pixels, "min_bucket_reso": 64, "cache_latents": "memory", "sheet_weights": []}
        return build(kind, {**values, **options})

    def _make(self, shape: Shape) -> Path:
        folder = DEMO if shape.name == "demo" else self.folder / shape.name
        if not folder.exists():
            (make_text_model if shape.is_text else make_image_model)(folder, shape, self.device)
            self.clear()
        return folder

    def model(self, shape: Shape, config: Any) -> Any:
        """Loaded as the stand-alone host does; the last one stays for the next who asks for the same."""
        wanted = (shape.name, config.mixed_precision, getattr(config, "quantization", ""))
        if self._loaded[0] != wanted:
            self._loaded = (None, None)
            self.clear()
            if shape.is_text:
                model = load_model(Path(config.base_model), config, self.device)
            else:
                model = DiffusersModel(describe(Path(config.base_model)), config, self.device)
            self._loaded = (wanted, model)
        return self._loaded[1]

    def trainee(self, shape: Shape, config: Any) -> Any:
        return (TextTrainee if shape.is_text else ImageTrainee)(self.model(shape, config), config)

    def run(self, shape: Shape, config: Any, steps: int | None = None, *, run: Run | None = None) -> Taken:
        """That many steps of a run through the loop, then the model is given back; from event to event, so that everything counts."""
        host = TransformersHost() if shape.is_text else DiffusersHost()
        control = Control(host, run or Run.start(config), config.slice_seconds)
        seconds, losses, warnings = [], [], []
        self.clear()
        with contextlib.closing(train(self.trainee(shape, config), config, control)) as events:
            at = time.monotonic()
            for event in events:
                if isinstance(event, Warned):
                    warnings.append(event.message)
                if isinstance(event, Step):
                    seconds.append(time.monotonic() - at)
                    losses.append(event.loss)
                    if steps and len(seconds) == steps:
                        break
                at = time.monotonic()
        control.run.close()
        return Taken(seconds, *self.peaks(), losses, warnings)

    def clear(self) -> None:
        """Forget what was in use before."""
        release_cached_memory(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peaks(self) -> tuple[int, int]:
        """Bytes allocated and reserved since the last clear; 0 where the device does not count."""
        if self.device.type != "cuda":
            return 0, 0
        return torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)


# -- time and memory ---------------------------------------------------------------------------------------------------


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
    if bench.has_card:
        return ""
    if options.get("mixed_precision") == "fp16":
        return "fp16 is for cards"
    return "it is for cards" if "quantization" in options or options.get("optimizer") == "AdamW8bit" else ""


def check_predicted(bench: Bench) -> Found:
    """What *What will happen?* says against what a run then takes."""
    for name, options in (("sd15", {"batch_size": 2}), ("sdxl", {"gradient_checkpointing": True}), ("text135m", {})):
        shape = bench.shape(name)
        config = bench.config(shape, **options)
        bench.clear()
        *_, estimate = look_ahead(bench.trainee(shape, config), config, TransformersHost() if shape.is_text else DiffusersHost())
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
        frozen = load_part(describe(Path(config.base_model)).parts["unet"], bench.device, model.compute_dtype)
        plain = _PlainLoop(load_part(describe(Path(config.base_model)).parts["unet"], bench.device, model.compute_dtype), bench, size, shape)
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
        told = f"longest gap {gaps[0] / 1000:.2f} ms, of four steps; then {gaps[3] / 1000:.2f} ms; the card computes {share:.0%} of the time"
        yield f"{shape.told}, batch {size}", told, {"longest_gap_us": gaps[0], "busy": share}


def _skip_steps(events: Iterator[Event], count: int) -> None:
    for _ in range(count):
        next(event for event in events if isinstance(event, Step))


# -- promises ----------------------------------------------------------------------------------------------------------


def check_whole(bench: Bench) -> Found:
    """Whole runs with everything around the steps, on the demo's model and a small language model."""
    image, text = find_shape("sd15", tiny=True), find_shape("text135m", tiny=True)
    options: dict[str, Any] = {"max_steps": 12, "save_steps": 6, "validation_split": 0.25, "ema_decay": 0.9}
    drawn = {"sample_every_steps": 6, "sample_prompts": ["red apple"], "sheet_weights": [0.0, 1.0], "train_text_encoder": True}
    kinds = [{"network_type": kind} for kind in ("lora", "loha", "lokr")] + [{"use_dora": True}, {"conv_rank": 4}]
    precisions = ["bf16", "fp16", "no"] if bench.has_card else ["no"]
    cases = [(image, DiffusersHost, {**options, **drawn, "mixed_precision": precision, "conv_rank": 4}) for precision in precisions]
    cases += [(image, DiffusersHost, {**options, **kind, "flip_aug": True}) for kind in kinds]
    cases += [(text, TransformersHost, {**options, "mixed_precision": precision}) for precision in precisions]
    for shape, host, chosen in cases:
        config = bench.config(shape, **chosen)
        outcome = Job(host(), config, Run.start(config)).work()
        if isinstance(outcome, Failed):
            raise RuntimeError(f"{chosen}: {outcome.message}")
        what = {key: value for key, value in chosen.items() if key not in {**options, **drawn}}
        yield f"a whole run, {shape.told} {what}", f"done at step {outcome.step}", {}


def check_base(bench: Bench) -> Found:
    """After runs of many turns the model is bit for bit as it was."""
    for name in ("sd15", "text135m"):
        shape = bench.shape(name)
        config = bench.config(shape, slice_seconds=0.05)
        model = bench.model(shape, config)
        modules = bench.trainee(shape, config).modules
        before = [{key: tensor.clone() for key, tensor in module.state_dict().items()} for module in modules]
        classes = [[type(part) for part in module.modules()] for module in modules]
        bench.run(shape, config, bench.steps)
        after = [module.state_dict() for module in modules]
        same = all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(before, after, strict=True))
        assert same, "weights have changed"
        assert classes == [[type(part) for part in module.modules()] for module in modules], "something was left in the model"
        yield f"{shape.told}, {DTYPES[model.compute_dtype]}", f"{sum(map(len, before))} tensors bit-equal after {bench.steps} turns", {}


def check_resume(bench: Bench) -> Found:
    """Stopped after half of its steps and resumed, against never stopped."""
    for name, precision in (("sd15", "no"), ("sd15", bench.half), ("text135m", bench.half)):
        shape = bench.shape(name)
        options = {"max_steps": 6, "mixed_precision": precision, "save_precision": "fp32", "lora_dropout": 0.1}
        whole, again, cut = (bench.config(shape, **options) for _ in range(3))
        for config in (whole, again):
            bench.run(shape, config)
        bench.run(shape, cut, 3)
        _save_state_at(bench, shape, cut)
        bench.run(shape, cut, run=Run.reopen(cut))
        first, second, resumed = (_load(config) for config in (whole, again, cut))
        told = f"resumed against uninterrupted: {_compare(first, resumed)}; two uninterrupted runs: {_compare(first, second)}"
        yield f"{shape.told}, {precision}", told, {}


def _save_state_at(bench: Bench, shape: Shape, config: Any) -> None:
    """A stopped run: begun anew with the same options and stopped after three steps, with its state."""
    run = Run.reopen(config)
    host = TransformersHost() if shape.is_text else DiffusersHost()
    control = Control(host, run, config.slice_seconds)
    for count, _ in enumerate(event for event in train(bench.trainee(shape, config), config, control) if isinstance(event, Step)):
        if count == 2:
            control.stop()
    run.close()


def _load(config: Any) -> dict[str, torch.Tensor]:
    path = Run(Path(config.output_dir), config.name, config.FILE_SUFFIX).final_path
    return load_file(path / "adapter_model.safetensors" if path.is_dir() else path)


def _compare(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> str:
    assert a.keys() == b.keys()
    largest = max((a[key] - b[key]).abs().max().item() for key in a)
    return "bit-equal" if largest == 0 else f"largest difference {largest:.1e}"


def check_memory(bench: Bench) -> Found:
    """A real lack of memory: the batch is cut in halves, and the numbers stay."""
    if bench.device.type != "cuda":
        yield "out of memory", "not checked: only CUDA's allocator can be capped", {}
        return
    shape = bench.shape("sd15")
    options = {"mixed_precision": "no", "batch_size": 4, "max_steps": 4}
    free = bench.run(shape, bench.config(shape, **options))
    half = bench.run(shape, bench.config(shape, **options | {"batch_size": 2}))
    cap = (free.allocated + half.allocated) / 2 / torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(cap * 1.02, 1.0), bench.device)
    try:
        capped = bench.run(shape, bench.config(shape, **options))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
    said = [warning for warning in capped.warnings if "Out of memory" in warning]
    assert said, f"nothing was cut: {free.allocated} and {half.allocated} bytes, capped at {cap:.3f}"
    apart = max(abs(a - b) / a for a, b in zip(free.losses, capped.losses, strict=True))
    yield shape.told, f"{said[0]} Losses differ by at most {apart:.1e} of themselves", {"loss_difference": apart}


def check_fp16(bench: Bench) -> Found:
    """fp16's scaler skips steps that overflow; a run that broke down goes back to its last state."""
    if not bench.has_card:
        yield "fp16", "not checked: fp16 is for cards", {}
        return
    shape = bench.shape("sd15")
    config = bench.config(shape, mixed_precision="fp16")
    trainee = bench.trainee(shape, config)
    list(trainee.prepare())
    session = Session(trainee, config, Run.start(config))
    with session.attached():
        session.train_step()
        session.save_state()
        before = session.adapters.tensors()
        kept = {key: value.clone() for part in before.values() for key, value in part.items()}
        session.scaler._scale.fill_(2.0**100)  # no gradient fits
        session.train_step()
        after = {key: value for part in session.adapters.tensors().values() for key, value in part.items()}
        skipped = all(torch.equal(kept[key], after[key]) for key in kept)
        scale = session.scaler.get_scale()
        assert skipped and scale < 2.0**100, "an overflowing step changed the weights"
        yield "an overflowing step", f"skipped; the scale went down to 2^{torch.tensor(scale).log2().item():.0f}", {}
        session.rewind()
        step = session.train_step()
        yield "rewound to the last state", f"went on at step {step.step}, loss {step.loss:.3f}", {}
    session.run.close()


def check_vae(bench: Bench) -> Found:
    """The VAE stays fp32 whatever the run's precision; sent away and back it encodes the same."""
    shape = bench.shape("sd15")
    model = bench.model(shape, bench.config(shape))
    pixels = torch.rand(1, 3, shape.pixels, shape.pixels, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, _ = model.encode_pixels(pixels)
    words = model.encode_text(["a word"], clip_skip=None, max_token_length=75).context
    for module in (model.vae, *model.text_encoders):
        module.to("cpu")
        module.to(bench.device)
    again, _ = model.encode_pixels(pixels)
    assert torch.isfinite(first).all() and next(model.vae.parameters()).dtype == torch.float32
    same = torch.equal(words, model.encode_text(["a word"], clip_skip=None, max_token_length=75).context)
    yield "VAE and text encoders away and back", f"latents {_compare({'x': first}, {'x': again})}, words {'bit-equal' if same else 'DIFFER'}", {}


PIECES: dict[str, Callable[[Bench], Found]] = {
    "whole": check_whole,
    "base": check_base,
    "resume": check_resume,
    "memory": check_memory,
    "fp16": check_fp16,
    "vae": check_vae,
    "plain": check_plain,
    "gaps": check_gaps,
    "steps": check_steps,
    "predicted": check_predicted,
}
