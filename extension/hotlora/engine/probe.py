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
from .errors import UserError
from .events import Event, Preparing
from .interfaces import Host, Trainee
from .loop import through_turns
from .memory import memory_in_use, release_cached_memory
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
    notes: tuple[str, ...] = ()  # what people should know

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
            session, taken = _measure(trainee, config, run)
            cheaper = _try_checkpointing(trainee, config, run, taken) if taken.lacked_memory else ""
    if taken.refusal:
        raise UserError(" ".join(filter(None, (str(taken.refusal), cheaper))))
    yield Estimate(
        total_steps=session.plan.total_steps,
        steps_per_epoch=session.plan.steps_per_epoch,
        trainable_parameters=sum(p.numel() for p in session.parameters),
        seconds_per_step=taken.seconds,
        memory_bytes=taken.memory_bytes,
        free_bytes=_free_bytes(trainee.device),
        notes=(*session.plan.notes, *taken.warnings, *filter(None, (cheaper,))),
    )


@dataclass(frozen=True)
class _Taken:
    """What the second of two steps took; the first makes buffers, and finds out how large batches may be."""

    seconds: float = 0.0
    memory_bytes: int = 0
    lacked_memory: bool = False
    warnings: tuple[str, ...] = ()  # of that
    refusal: UserError | None = None  # where not even one example fits


def _measure(trainee: Trainee, config: RunConfig, run: Run) -> tuple[Session, _Taken]:
    session = Session(trainee, config, run)
    told = len(session.warnings)
    try:
        with session.attached():
            session.train_step()
            began = time.monotonic()
            memory = session.train_step().memory_bytes if session.plan.total_steps > 1 else memory_in_use(trainee.device)
            seconds = time.monotonic() - began
    except UserError as refusal:
        return session, _Taken(lacked_memory=session.gradients.lacked_memory, refusal=refusal)
    return session, _Taken(seconds, memory, session.gradients.lacked_memory, tuple(session.warnings[told:]))


def _try_checkpointing(trainee: Trainee, config: RunConfig, run: Run, taken: _Taken) -> str:
    """A sentence where gradient checkpointing makes whole batches fit, and is not slower than cutting them; else none."""
    if config.gradient_checkpointing:
        return ""
    release_cached_memory(trainee.device)
    config.gradient_checkpointing = True
    try:
        _, other = _measure(trainee, config, run)
    except UserError:  # this model has no such thing
        return ""
    finally:
        config.gradient_checkpointing = False
        release_cached_memory(trainee.device)
    if other.lacked_memory or other.refusal or (other.seconds >= taken.seconds and not taken.refusal):
        return ""
    than = "" if taken.refusal else f", {taken.seconds:.2f} s without it"
    memory = f"{other.memory_bytes / 2**30:.1f} GB in use"
    return f"With gradient_checkpointing: true whole batches fit (tried: {memory}, {other.seconds:.2f} s a step{than})."


def _prepare(trainee: Trainee) -> Generator[Event, None, None]:
    for progress in trainee.prepare():
        yield Preparing(progress.what, progress.done, progress.total)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
