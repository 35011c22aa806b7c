"""What a run will take, measured by one real step before it starts. Trains nothing: the run's folder is not touched."""

import contextlib
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from .config import RunConfig
from .control import Control
from .events import Event, Preparing
from .interfaces import Host, Trainee
from .loop import through_turns
from .memory import memory_in_use
from .run import Run
from .session import Session


@dataclass(frozen=True)
class Estimate:
    """What one step on the run's largest batch took."""

    total_steps: int
    steps_per_epoch: int
    trainable_parameters: int
    seconds_per_step: float
    memory_bytes: int  # at the step's peak, on the device that trains
    free_bytes: int  # what is left there

    @property
    def seconds(self) -> float:
        """The whole run's steps, without samples."""
        return self.total_steps * self.seconds_per_step


def look_ahead(trainee: Trainee, config: RunConfig, host: Host) -> Iterator[Preparing | Estimate]:
    """Prepare the trainee, in turns, then train two steps and throw them away. The estimate comes last.

    Raises:
        UserError: for what is wrong with the data, and where memory does not suffice.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), config.name, config.FILE_SUFFIX)
        control = Control(host, run, config.slice_seconds)
        with contextlib.closing(through_turns(control, _prepare(trainee), contextlib.nullcontext)) as preparation:
            yield from (event for event in preparation if isinstance(event, Preparing))
        with host.turn():
            session = Session(trainee, config, run)
            with session.attached():
                session.train_step()
                began = time.monotonic()
                memory = session.train_step().memory_bytes if session.plan.total_steps > 1 else memory_in_use(trainee.device)
                seconds = time.monotonic() - began
    yield Estimate(
        total_steps=session.plan.total_steps,
        steps_per_epoch=session.plan.steps_per_epoch,
        trainable_parameters=sum(p.numel() for p in session.parameters),
        seconds_per_step=seconds,
        memory_bytes=memory,
        free_bytes=_free_bytes(trainee.device),
    )


def _prepare(trainee: Trainee) -> Generator[Event, None, None]:
    for progress in trainee.prepare():
        yield Preparing(progress.what, progress.done, progress.total)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
