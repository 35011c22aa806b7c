"""What a run will take, measured by one real step before it starts, and what makes it fit where it does not. Trains nothing: the run's
folder is not touched."""

import contextlib
import gc
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from .config import RunConfig
from .control import Control
from .errors import UserError
from .events import Event, Preparing
from .examples import Example
from .freeing import Freeing
from .interfaces import Host, Showing, Trainee
from .loop import refuse_bad_model, through_turns
from .memory import is_out_of_memory, memory_in_use, release_all_cached_memory, release_cached_memory
from .proposals import CHECKPOINTING, Proposal, Taken, change_batch, is_tried_at_once, list_changes, with_changes
from .run import Run
from .session import Diverged, Session


class NoRoom(UserError):
    """Not even one example fits.

    Attributes:
        said: that.
        proposals: with which it does.
    """

    def __init__(self, said: str, proposals: Sequence[Proposal]):
        super().__init__(" ".join([said, *(proposal.tell() for proposal in proposals)]))
        self.said, self.proposals = said, tuple(proposals)


@dataclass(frozen=True)
class Estimate:
    """What one step on the run's largest batch took."""

    total_steps: int
    steps_per_epoch: int
    trainable_parameters: int
    seconds_per_step: float
    memory_bytes: int  # at the step's peak, on the device that trains
    free_bytes: int  # what is left there
    summary: Mapping[str, Any]  # of what would be trained on
    notes: tuple[str, ...] = ()  # what people should know
    proposals: tuple[Proposal, ...] = ()  # where batches do not fit: what makes them, the fastest first
    examples: tuple[Example, ...] = ()  # some, where they can be shown in a console

    @property
    def seconds(self) -> float:
        """The whole run's steps, without samples."""
        return self.total_steps * self.seconds_per_step


def look_ahead(host: Host, config: RunConfig) -> Iterator[Preparing | Estimate]:
    """Borrow and prepare, in turns, then train two steps and throw them away. The estimate comes last.

    Raises:
        NoRoom: where memory does not suffice.
        UserError: for what is wrong with the data, or the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), config.name, config.FILE_SUFFIX)
        trainee = host.borrow(config)
        yield from _prepare(trainee, config, host, run)
        with host.turn():
            taken = _measure(trainee, config, run)
            proposals = _try_at_once(trainee, config, run, taken) if taken.lacked_memory else []
        free_bytes, summary, warnings = _free_bytes(trainee.device), trainee.summary(), trainee.warnings()
        examples = trainee.examples() if isinstance(trainee, Showing) else ()
        del trainee  # a host that loads for each run has room for one model at a time
        if taken.refusal and not proposals:
            proposals = yield from _try_anew(host, config, run)
    if taken.refusal:
        raise NoRoom(taken.refusal, proposals)
    yield Estimate(
        total_steps=taken.total_steps,
        steps_per_epoch=taken.steps_per_epoch,
        trainable_parameters=taken.trainable_parameters,
        seconds_per_step=taken.seconds,
        memory_bytes=taken.memory_bytes,
        free_bytes=free_bytes,
        summary=summary,
        notes=(*warnings, *taken.notes),
        proposals=tuple(proposals),
        examples=tuple(examples),
    )


def _measure(trainee: Trainee, config: RunConfig, run: Run) -> Taken:
    """The second of two steps; the first makes buffers, and finds out how large batches may be."""
    session = Session(trainee, config, run)
    known: dict[str, Any] = {
        "total_steps": session.plan.total_steps,
        "steps_per_epoch": session.plan.steps_per_epoch,
        "trainable_parameters": sum(p.numel() for p in session.parameters),
    }
    told = len(session.warnings)
    try:
        with session.attached():
            session.train_step()
            began = time.monotonic()
            memory = session.train_step().memory_bytes if session.plan.total_steps > 1 else memory_in_use(trainee.device)
            seconds = time.monotonic() - began
    except UserError as refusal:
        return Taken(lacked_memory=session.gradients.lacked_memory, refusal=str(refusal), **known)
    except Diverged as problem:
        refuse_bad_model(session, problem)
        rate = f"Set learning_rate well below {config.learning_rate:g}."
        raise UserError(f"cannot train with these options: training breaks down at once ({problem}). {rate}") from problem
    notes = (*session.plan.notes, *session.warnings[told:])
    largest = session.gradients.largest_batch if session.gradients.lacked_memory else None
    return Taken(seconds, memory, session.gradients.lacked_memory, largest, notes=notes, **known)


def _try_at_once(trainee: Trainee, config: RunConfig, run: Run, taken: Taken) -> list[Proposal]:
    """What needs neither model nor data anew: the fastest first where the run would cut batches; where it could not even do that, the
    first that makes it fit."""
    if not taken.refusal:
        smaller = change_batch(config, taken.largest_batch)
        found = [Proposal(smaller, taken.seconds, taken.memory_bytes, taken)] if smaller else []
        other = None if config.gradient_checkpointing else _try(trainee, config, run, CHECKPOINTING, taken)
        if other and other.changes == CHECKPOINTING and other.seconds_per_step < taken.seconds:
            found.append(other)
        return sorted(found, key=lambda proposal: proposal.seconds_per_step)
    changes: dict[str, Any] = {}
    for change in filter(is_tried_at_once, list_changes(config)):
        changes |= change
        if found_one := _try(trainee, config, run, changes, taken):
            return [found_one]
    return []


def _try(trainee: Trainee, config: RunConfig, run: Run, changes: Mapping[str, Any], before: Taken) -> Proposal | None:
    """None where it does not fit, or the model or the computer cannot do that."""
    release_cached_memory(trainee.device)
    try:
        with with_changes(config, changes):
            taken = _measure(trainee, config, run)
    except UserError:
        return None
    finally:
        release_cached_memory(trainee.device)
    if taken.refusal:
        return None
    smaller = change_batch(config, taken.largest_batch) if taken.lacked_memory else {}
    return Proposal({**changes, **smaller}, taken.seconds, taken.memory_bytes, before)


def _try_anew(host: Host, config: RunConfig, run: Run) -> Generator[Preparing, None, list[Proposal]]:
    """What needs the model loaded or the data prepared otherwise, on top of all the rest; the first that makes it fit."""
    changes: dict[str, Any] = {}
    for change in list_changes(config, loads=not isinstance(host, Freeing)):
        changes |= change
        if is_tried_at_once(change):
            continue
        gc.collect()
        release_all_cached_memory()
        try:
            changed = config.changed(changes)
            trainee = host.borrow(changed)
            yield from _prepare(trainee, changed, host, run)
            with host.turn():
                found = _try(trainee, changed, run, {}, Taken(refusal="not one example fits"))
            del trainee
        except Exception as error:
            if not (isinstance(error, UserError) or is_out_of_memory(error)):
                raise
            found = None
        if found:
            return [Proposal({**changes, **found.changes}, found.seconds_per_step, found.memory_bytes, found.before)]
    return []


def _prepare(trainee: Trainee, config: RunConfig, host: Host, run: Run) -> Iterator[Preparing]:
    control = Control(host, run, config.slice_seconds)
    with contextlib.closing(through_turns(control, _tell_progress(trainee), contextlib.nullcontext)) as preparation:
        yield from (event for event in preparation if isinstance(event, Preparing))


def _tell_progress(trainee: Trainee) -> Generator[Event, None, None]:
    for progress in trainee.prepare():
        yield Preparing(progress.what, progress.done, progress.total)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
