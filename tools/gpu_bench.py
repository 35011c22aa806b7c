"""What the pieces of ``gpu_check`` share: the machine's device, models and runs on it, and what is counted of them."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_models import DEMO, Shape, find_shape, make_image_model, make_text_model, write_pairs, write_pictures
from hotlora.engine.control import Control
from hotlora.engine.events import Step, Warned
from hotlora.engine.loop import train
from hotlora.engine.memory import release_cached_memory
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.shared.devices import choose_device
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersHost, DiffusersModel
from hotlora.hosts.standalone.texts import TransformersHost, load_model
from hotlora.llm.config import TextConfig
from hotlora.llm.trainee import TextTrainee
from hotlora.sd.config import ImageConfig
from hotlora.sd.trainee import ImageTrainee

Found = Iterator[tuple[str, str, dict[str, float]]]


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
