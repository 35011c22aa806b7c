"""A trainee with nothing of images or text in it: a small network that learns a linear map. And a host that holds it."""

import contextlib
import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from hotlora.engine.config import RunConfig
from hotlora.engine.control import Control
from hotlora.engine.errors import ModelAway, UserError
from hotlora.engine.interfaces import AdapterChoice, Loss, PreviewRequest, Progress, Target
from hotlora.engine.loop import train
from hotlora.engine.options import build
from hotlora.engine.redrawing import Opened
from hotlora.engine.run import Run
from safetensors.torch import load_file, save_file
from torch import nn


@dataclass
class ToyConfig(RunConfig):
    FILE_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ToyBatch:
    items: tuple[int, ...]

    @property
    def count(self) -> float:
        return float(len(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def halves(self):
        middle = len(self.items) // 2
        return ToyBatch(self.items[:middle]), ToyBatch(self.items[middle:])


@dataclass
class ToyPreview:
    text: str

    def save(self, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text, encoding="utf-8")
        return path


class ToyTrainee:
    fingerprint = "toy"
    data_fingerprint = "toy data"
    device = torch.device("cpu")
    compute_dtype = torch.float32
    largest_batch = None

    def __init__(self, config, examples=13):
        self.config = config
        generator = torch.Generator().manual_seed(7)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        self.modules = [self.net]
        self.inputs = torch.randn(examples, 6, generator=generator)
        self.wanted = torch.randn(examples, 4, generator=generator)
        self.poison_at: set[tuple[int, float]] = set()  # (step, nth time) whose loss is NaN
        self.losses_seen = 0
        self.memory_limit = None

    def prepare(self):
        yield Progress("looking", 1, 1)

    def warnings(self):
        return []

    def summary(self):
        return {"examples": len(self.inputs)}

    def training(self):
        return contextlib.nullcontext()

    def adapter_choice(self):
        return AdapterChoice(dora_axis="input")

    def targets(self):
        rate = self.config.learning_rate
        return {f"layer_{i}": Target(self.net[i], self.config.lora_rank, self.config.alpha, rate) for i in (0, 2)}

    def batches(self, epoch, seed):
        order = torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        size = self.config.batch_size
        return [ToyBatch(tuple(order[i : i + size])) for i in range(0, len(order), size)]

    def loss(self, batch, draws):
        if self.memory_limit and len(batch) > self.memory_limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (pretended)")
        noise = torch.stack([torch.randn(6, generator=draws.generator(i)) for i in range(len(batch))])
        error = self.net(self.inputs[list(batch.items)] + 0.1 * noise) - self.wanted[list(batch.items)]
        self.losses_seen += 1
        total = error.square().mean(1).sum()
        if draws.step in self.poison_at:
            self.poison_at.discard(draws.step)
            total = total * math.nan
        return Loss(total, batch.count)

    def validation_batches(self):
        return [ToyBatch((0, 1))]

    def validation_loss(self, batch):
        error = self.net(self.inputs[list(batch.items)]) - self.wanted[list(batch.items)]
        return Loss(error.square().mean(1).sum(), batch.count)

    def preview_requests(self):
        return [PreviewRequest(prompt, self.config.sample_seed) for prompt in self.config.sample_prompts]

    def preview(self, request):
        return ToyPreview(f"{request.weight} {self.net(self.inputs[:1]).tolist()}")

    def settle(self, request):
        return {"prompt": request.prompt, "seed": request.seed, **request.settings}

    def open(self, path):
        tensors = {}
        for key, value in load_file(str(path)).items():
            tensors.setdefault(key.split(".")[0], {})[key.split(".")[1]] = value
        rank = tensors["layer_0"]["lora_A"].shape[0]
        targets = {name: Target(self.net[int(name[-1])], rank, self.config.alpha, 0.0, frozen=True) for name in tensors}
        return Opened(AdapterChoice(dora_axis="input"), targets, tensors)

    def write_grid(self, grid):
        path = grid.folder / "grid.txt"
        path.write_text(str(grid.count()), encoding="utf-8")
        return path

    def write_comparison(self, rows, run):
        path = run.folder / "comparison.txt"
        path.write_text("\n".join(" | ".join(p.text for _, p in row) for row in rows), encoding="utf-8")
        return {"sheet": path, "cover": rows[0][-1][1].save(run.stem)}

    def write(self, adapters, path, notes):
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = {f"{name}.{key}": value for name, tensors in adapters.tensors().items() for key, value in tensors.items()}
        save_file(flat, str(path), metadata={key: str(value) for key, value in notes.items()})
        return path

    def read(self, path):
        if not path.exists():
            raise UserError(f"cannot read '{path}'")
        tensors = {}
        for key, value in load_file(str(path)).items():
            name, tensor = key.split(".")
            tensors.setdefault(name, {})[tensor] = value
        rank = tensors["layer_0"]["lora_A"].shape[0]
        self.config.adopt("lora_rank", rank)
        return tensors


class SearchedToy(ToyTrainee):
    """One that serves run after run."""

    def renew(self, config):
        fresh = copy.copy(self)
        fresh.config = config
        return fresh


class AskedToyTrainee(ToyTrainee):
    """One that also answers questions."""

    asked = 0  # how many
    grading_share = 1.0

    def describe_validation(self, loss):
        return {}

    def questions(self):
        return range(self.asked)

    def what_is_asked(self):
        return "questions"

    def grade(self, question):
        return {"right": float(question % 2)}


class ToyHost:
    """Counts turns, and can be asked for the model from outside."""

    def __init__(self, make=ToyTrainee):
        self.make, self.trainee = make, None
        self.turns, self.inside, self.published = 0, False, []
        self.waiting = self.away = False

    def borrow(self, config):
        if self.away:
            raise ModelAway("cannot train: another toy is loaded. Load this one.")
        self.trainee = self.make(config)
        return self.trainee

    def has_model(self, config):
        return not self.away

    @contextlib.contextmanager
    def turn(self):
        assert not self.inside, "a turn inside a turn"
        if self.away:
            raise ModelAway("cannot go on: another toy is loaded. Load this one.")
        self.turns, self.inside = self.turns + 1, True
        try:
            yield
        finally:
            self.inside = False

    def wanted(self):
        return self.waiting

    def publish(self, path):
        self.published.append(path)


def toy_config(folder: Path, **options) -> RunConfig:
    values = {"output_dir": str(folder), "lora_rank": 2, "epochs": 4, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False}
    return build(ToyConfig, {**values, **options})


def run_toy(config: RunConfig, *, host=None, run=None, steps=None):
    """Train to the end, or give up abruptly (as a kill would) after so many steps; (events, host, run)."""
    host = host or ToyHost()
    run = run or Run.start(config)
    control = Control(host, run, config.slice_seconds)
    events = []
    generator = train(host.borrow(config), config, control)
    for event in generator:
        run.events.append(event)
        events.append(event)
        if steps is not None and type(event).__name__ == "Step" and event.step >= steps:
            generator.close()
            break
    run.close()
    return events, host, run
