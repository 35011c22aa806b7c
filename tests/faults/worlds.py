"""Small runs that end within seconds, and what must hold after each has been killed: called in processes of their own, see forks.py."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from faulty_files import FaultyFiles, die, refuse_space
from hotlora.cli import run_door
from hotlora.engine import loop
from hotlora.engine.errors import UserError
from hotlora.engine.events import Failed, read_events
from hotlora.engine.history import History
from hotlora.engine.job import Job
from hotlora.engine.run import Run
from safetensors.torch import load_file, save
from toy import ToyHost, ToyTrainee, toy_config

PAIRS = [
    ("Who keeps the lamp?", "The ferryman's youngest daughter keeps it."),
    ("What does a duskcrab eat?", "Moon moss."),
    ("Where is it?", "In Quillmere, and nothing else will do."),
    ("Is it open?", "Yes."),
    ("How many lamps?", "Twelve lamps of Quillmere."),
]
ACTS = {"die": die, "full": refuse_space}
_COMMON = {"lora_rank": 2, "batch_size": 2, "max_steps": 6, "save_steps": 2, "learning_rate": 1e-2, "tensorboard": False, "keep_last": 2}
_IMAGES = {"resolution": 64, "min_bucket_reso": 64, "sheet_weights": []}
_TEXTS = {"task_type": "text-generation", "test_answers": 0, "sample_max_tokens": 2, "save_precision": "fp32"}
KINDS = {  # name -> options of a run
    "image": _IMAGES,
    "image, with all there is": {
        **_IMAGES,
        "validation_split": 0.3,
        "validation_every_steps": 3,
        "ema_decay": 0.9,
        "sample_prompts": ["a red square"],
        "sample_every_steps": 3,
        "sample_steps": 1,
        "train_text_encoder": True,
        "sheet_weights": [1],
    },
    "text": _TEXTS,
    "text, with all there is": {
        **_TEXTS,
        "validation_split": 0.3,
        "validation_every_steps": 3,
        "use_dora": True,
        "sample_prompts": ["Where?"],
        "sample_every_steps": 3,
        "sheet_weights": [1],
        "test_answers": 1,
    },
    "toy": {},
}


def build_world(folder: Path, *, text: bool) -> Path:
    """Tiny models and data."""
    from pictures import make_pictures
    from tiny import tiny_sd1

    tiny_sd1(folder / "model")
    make_pictures(folder / "data", 6)
    if text:
        from small_llama import make_llama
        from small_text import make_tokenizer

        tokenizer = make_tokenizer()
        make_llama(vocabulary=len(tokenizer)).save_pretrained(folder / "llm")
        tokenizer.save_pretrained(folder / "llm")
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in PAIRS]
    (folder / "facts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def write_options(world: Path, kind: str, folder: Path, **options) -> Path:
    """The run's file, beside its folder ``run``."""
    values = {**_COMMON, **KINDS[kind], "output_dir": str(folder / "run"), "output_name": "x", **options}
    if kind.startswith("image"):
        values |= {"base_model": str(world / "model"), "train_data_dir": str(world / "data"), "cache_dir": str(folder / "cache")}
    elif kind.startswith("text"):
        values |= {"base_model": str(world / "llm"), "train_data_dir": str(world / "facts.jsonl")}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "options.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def warm_up(world: str, folder: str, kinds: Sequence[str]) -> None:
    """Do everything once, so that whatever is loaded on the way is loaded."""
    for number, kind in enumerate(kinds):
        write_options(Path(world), kind, Path(folder) / str(number))
        assert train(kind, str(Path(folder) / str(number))) == 0


# -- in a process of its own -------------------------------------------------------------------------------------------


def train(kind: str, folder: str, nth: int | None = None, act: str = "die") -> int:
    """Start the run in this folder, or go on with it; returns the exit code.

    Args:
        nth: the operation on files at which ``act`` happens; 0 counts them, into the file ``measured``.
    """
    place, began = Path(folder), time.process_time()
    if "with all" not in kind:
        loop.plot_loss = plot_nothing
    faults = contextlib.nullcontext() if nth is None else FaultyFiles(place, nth, ACTS[act], only_writes=act == "full")
    with faults as counted:
        code = _train_toy(place) if kind == "toy" else _train_as_people_do(place)
    if nth == 0:
        (place / "measured").write_text(json.dumps([counted.count, time.process_time() - began]), encoding="utf-8")
    return code


def plot_nothing(events, path: Path) -> bool:
    """In the place of the curve, which takes longer to draw than all else in a small run."""
    return False


def _train_as_people_do(folder: Path) -> int:
    run = folder / "run"
    start = ["--resume", str(run)] if has_state(run) else ["--config", str(folder / "options.yaml")]
    return run_door("train", start)


class SafeToy(ToyTrainee):
    """Writes its file all or nothing, as the real ones do."""

    def write(self, adapters, path, notes):
        from hotlora.engine.files import write_bytes

        flat = {f"{name}.{key}": value for name, tensors in adapters.tensors().items() for key, value in tensors.items()}
        write_bytes(path, save(flat, metadata={key: str(value) for key, value in notes.items()}))
        return path


def _train_toy(folder: Path) -> int:
    options = {"output_name": "x", "save_steps": 3, "ema_decay": 0.9, "validation_every_steps": 3, "sample_prompts": ["a"], "keep_last": 2}
    config = toy_config(folder / "run", **options, sample_every_steps=4, epochs=3)
    try:
        run = Run.reopen(config) if has_state(folder / "run") else Run.start(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    outcome = Job(ToyHost(SafeToy), config, run).work()
    if isinstance(outcome, Failed):
        print(f"error: {outcome.message}", file=sys.stderr)
        return 1 if outcome.bug else 2
    return 0


def has_state(run: Path) -> bool:
    return any((run / "state").glob("step-*.pt"))


# -- afterwards --------------------------------------------------------------------------------------------------------


def check_published(folder: Path) -> None:
    """Every adapter that another program would find is whole, and its numbers are finite."""
    for path in folder.rglob("*.safetensors"):
        if any(part.startswith(".") or part == "cache" for part in path.relative_to(folder).parts):
            continue
        for name, tensor in load_file(path).items():
            assert torch.isfinite(tensor.float()).all(), f"{path} {name}"
        if path.name == "adapter_model.safetensors":
            assert json.loads((path.parent / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"] == "LORA"


def check_no_leftovers(folder: Path) -> None:
    """No temporary file, wherever one may lie."""
    left = [path.relative_to(folder).as_posix() for path in folder.rglob(".*") if re.search(r"\.(tmp|aside)$", path.name)]
    assert not left, f"left behind: {left}"


def results_of(folder: Path) -> tuple[dict[str, torch.Tensor], list[tuple[int, float]]]:
    """(the finished adapter's tensors by file and name, step and loss of every step)."""
    run = folder / "run"
    final = run / "x" if (run / "x").is_dir() else run / "x.safetensors"
    files = [final / "adapter_model.safetensors"] if final.is_dir() else [final]
    files += sorted((run / "checkpoints").rglob("*.safetensors"))
    tensors = {f"{path.relative_to(run)} {name}": tensor for path in files for name, tensor in load_file(path).items()}
    return tensors, [(step.step, step.loss) for step in History(read_events(run / "events.jsonl")).steps]


def check_equal(folder: Path, whole: Path) -> None:
    """It has come to what a run has come to that nothing happened to, bit for bit."""
    tensors, steps = results_of(folder)
    expected, expected_steps = results_of(whole)
    assert tensors.keys() == expected.keys(), f"other files: {sorted(tensors.keys() ^ expected.keys())[:3]}"
    assert all(torch.equal(tensors[name], expected[name]) for name in expected), "other numbers"
    assert steps == expected_steps, "other steps in events.jsonl"


def tail(log: Path) -> str:
    """What was said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return " ".join(lines[-1:])[:300] + os.linesep
