"""What a run will take, measured by one real step before it starts. Trains nothing: the run's folder is not touched."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from .config import RunConfig
from .interfaces import Host, Trainee
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


def probe(trainee: Trainee, config: RunConfig, host: Host) -> Estimate:
    """Train two steps on a prepared trainee and throw them away. Raises UserError where memory does not suffice."""
    with tempfile.TemporaryDirectory() as folder, host.turn():
        session = Session(trainee, config, Run(Path(folder), config.name))
        with session.attached():
            session.train_step()
            began = time.monotonic()
            memory = session.train_step().memory_bytes if session.total_steps > 1 else memory_in_use(trainee.device)
            seconds = time.monotonic() - began
    return Estimate(
        total_steps=session.total_steps,
        steps_per_epoch=session.steps_per_epoch,
        trainable_parameters=sum(p.numel() for p in session.parameters),
        seconds_per_step=seconds,
        memory_bytes=memory,
        free_bytes=_free_bytes(trainee.device),
    )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
