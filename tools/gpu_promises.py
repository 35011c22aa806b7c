"""Pieces of ``gpu_check``: what is promised whatever the device. Each yields (case, result in words, numbers); raises what is broken."""

from pathlib import Path
from typing import Any

import torch
from gpu_bench import Bench, Found
from gpu_models import Shape, find_shape
from hotlora.engine.control import Control
from hotlora.engine.events import Failed, Step
from hotlora.engine.job import Job
from hotlora.engine.loop import train
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.shared.devices import can_compute
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.hosts.standalone.texts import TransformersHost
from safetensors.torch import load_file

DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def check_whole(bench: Bench) -> Found:
    """Whole runs with everything around the steps, on the demo's model and a small language model."""
    image, text = find_shape("sd15", tiny=True), find_shape("text135m", tiny=True)
    options: dict[str, Any] = {"max_steps": 4, "save_steps": 2, "validation_split": 0.25, "ema_decay": 0.9}
    drawn = {"sample_every_steps": 2, "sample_steps": 4, "sample_prompts": ["red apple"], "train_text_encoder": True}
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
        _stop_halfway(bench, shape, cut)
        bench.run(shape, cut, run=Run.reopen(cut))
        first, second, resumed = (_load(config) for config in (whole, again, cut))
        told = f"resumed against uninterrupted: {_compare(first, resumed)}; two uninterrupted runs: {_compare(first, second)}"
        yield f"{shape.told}, {precision}", told, {}


def _stop_halfway(bench: Bench, shape: Shape, config: Any) -> None:
    """After three steps, with its state."""
    run = Run.start(config)
    control = Control(TransformersHost() if shape.is_text else DiffusersHost(), run, config.slice_seconds)
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
    torch.cuda.set_per_process_memory_fraction(min(cap * 1.02, 1.0))
    try:
        capped = bench.run(shape, bench.config(shape, **options))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    said = [warning for warning in capped.warnings if "Out of memory" in warning]
    assert said, f"nothing was cut: {free.allocated} and {half.allocated} bytes, capped at {cap:.3f}"
    apart = max(abs(a - b) / a for a, b in zip(free.losses, capped.losses, strict=True))
    yield shape.told, f"{said[0]} Losses differ by at most {apart:.1e} of themselves", {"loss_difference": apart}


def check_fp16(bench: Bench) -> Found:
    """fp16's scaler skips steps that overflow; a run that broke down goes back to its last state."""
    if not can_compute(bench.device, torch.float16):
        yield "fp16", "not checked: this torch does not compute fp16 here", {}
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
    assert same, "words are encoded otherwise"
    yield "VAE and text encoders away and back", f"latents {_compare({'x': first}, {'x': again})}, words bit-equal", {}
