"""A run in several processes, which ``torchrun`` or ``accelerate launch`` has started: what they tell each other, and that none waits in
vain for another.

The first process is the run: it decides, judges, draws, prints and writes as if it were alone. The others take each step with it, see
``following``. Before anything is passed on all of them *meet*: each says whether it can go on, and the first one what comes next. Whoever
fails or ends says so at the next meeting, whatever the others expect of it, and with that all are done.

Must not import anything that trains.
"""

import contextlib
import enum
import io
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch

from .errors import UserError
from .launch import count_launched, place_here

_PATIENCE = timedelta(days=7)  # the others wait while the first one judges and draws; a process that dies is noticed at once


class Order(enum.IntEnum):
    """What the first process has all of them do next."""

    NOTHING = 0  # of its own: what the others expect
    TAKE = 1  # what it passes on
    STEP = 2
    TIME = 3  # a step, without taking it
    END = 4


class EndedError(Exception):
    """The run has ended, or failed elsewhere, and the first process says so to people."""


class ElsewhereError(RuntimeError):
    """Another process has failed by a bug, or for lack of memory; its traceback is the cause."""


class Processes:
    """A run's only process, which needs nobody.

    Attributes:
        count: of processes.
        place: of this one, from 0.
        lost: whether another one has died.
    """

    count, place, lost = 1, 0, False
    is_first = is_first_here = True  # of all; of those on this computer

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return None

    def on_stop(self, act: Callable[[], None]) -> None:
        """What the first one does when another was told to stop."""

    def call(self, order: Order) -> None:
        """Have the others do this; nothing where this process is not the first."""

    def hand_out(self, value: Callable[[], Any]) -> None:
        """Give something to the others."""

    def gather(self, own: Any) -> list[Any]:
        """What each process gives, in their order, for all of them."""
        return [own]

    def in_turn(self, work: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """Work that leaves files: done by one process on each computer first, so that the others there find them."""
        yield from work()

    def require_same(self, facts: Mapping[str, str]) -> None:
        """Raise UserError where a process has something else than the first one."""

    def any_lacks_memory(self, lacks: bool) -> bool:
        """Whether one of them does. Between the gradients of each and their sum."""
        return lacks

    def add_up(self, parameters: Sequence[torch.Tensor], total: torch.Tensor) -> torch.Tensor:
        """Every parameter's gradient, and ``total``, become the sum over all processes; one reduction."""
        return total


class Joined(Processes):
    """One process of several. Leaving the context ends it in order: the first one's ends the run for all.

    Attributes:
        wants_stop: whether this one was told to stop.
    """

    def __init__(self, place: int, count: int, *, is_first_here: bool):
        self.place, self.count = place, count
        self.is_first, self.is_first_here = place == 0, is_first_here
        self._stop: Callable[[], None] = lambda: None
        self.lost = self._over = self.wants_stop = False
        self._cards: Any = None  # group of the processes' cards, made when gradients lie on them

    # -- meeting -------------------------------------------------------------------------------------------------------

    def _meet(self, order: Order = Order.NOTHING, *, lacks_memory: bool = False, error: BaseException | None = None) -> tuple[Order, bool]:
        """Wait for all; (what the first one says, whether one lacks memory).

        Raises:
            EndedError: in all but the first: the run is over.
            UserError, ElsewhereError: in the first: another one has failed, or died.
        """
        if self._over:
            raise EndedError
        said = torch.tensor([order, lacks_memory, self.wants_stop, error is not None])
        with self._noticing_death():
            torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        ordered, lacking, stop, failed = said.tolist()
        self._over = bool(failed) or ordered == Order.END
        if failed:
            self._tell_failures(error)
        if self._over and not self.is_first:
            raise EndedError
        if stop:
            self._stop()
        return Order(ordered), bool(lacking)

    @contextlib.contextmanager
    def _noticing_death(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of the connection
            self.lost = self._over = True
            if not self.is_first:
                raise EndedError from error
            raise UserError(
                "cannot go on: another process of this run has died, or cannot be reached any more. Look at what it and the launcher said, "
                "and resume; what was saved before is whole."
            ) from error

    def _tell_failures(self, error: BaseException | None) -> None:
        """After a meeting in which somebody has failed. Raises it in the first process, unless that has failed itself."""
        trace = "".join(traceback.format_exception(error)) if error else ""
        own = (isinstance(error, UserError), str(error), type(error).__name__, trace) if error else None
        found = self._gather(own)
        if self.is_first and not own:
            place = next(place for place, failure in enumerate(found) if failure)
            self._raise_elsewhere(place, *found[place])

    def _raise_elsewhere(self, place: int, by_user: bool, text: str, kind: str, trace: str) -> NoReturn:
        where = f"process {place + 1} of {self.count}"
        if by_user:
            raise UserError(f"{text} This was said by {where}.")
        raise ElsewhereError(f"in {where}: {kind}: {text}") from Exception(trace)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool | None:
        """The first one's errors are its own to tell; another one's are told to the first."""
        if not self._over and not isinstance(error, EndedError):
            with contextlib.suppress(EndedError, ElsewhereError, UserError):
                self._meet(Order.END if self.is_first else Order.NOTHING, error=None if self.is_first else error)
        torch.distributed.destroy_process_group()
        return not self.is_first and isinstance(error, Exception | SystemExit)

    def on_stop(self, act: Callable[[], None]) -> None:
        self._stop = act

    def wish_stop(self) -> None:
        """Have the run stop, at the next step."""
        self.wants_stop = True

    # -- what comes next -----------------------------------------------------------------------------------------------

    def call(self, order: Order) -> None:
        if self.is_first:
            self._meet(order)

    def listen(self) -> Order:
        """What the first one says; for all others."""
        return self._meet()[0]

    def hand_out(self, value: Callable[[], Any]) -> None:
        if self.is_first:
            packed = _pack(value())
            self._meet(Order.TAKE)
            self._broadcast(packed)

    def take(self) -> Any:
        """What the first one hands out; after it has said so."""
        return _unpack(self._broadcast(b""))

    def _broadcast(self, packed: bytes) -> bytes:
        given = [packed]
        with self._noticing_death():
            torch.distributed.broadcast_object_list(given)
        return given[0]

    # -- passing on ----------------------------------------------------------------------------------------------------

    def gather(self, own: Any) -> list[Any]:
        self._meet()
        return self._gather(own)

    def _gather(self, own: Any) -> list[Any]:
        found: list[Any] = [None] * self.count
        with self._noticing_death():
            torch.distributed.all_gather_object(found, own)
        return found

    def in_turn(self, work: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        if self.is_first_here:
            yield from work()
        self._meet()
        if not self.is_first_here:
            yield from work()

    def require_same(self, facts: Mapping[str, str]) -> None:
        for place, theirs in enumerate(self.gather(dict(facts))):
            for what, value in facts.items():
                if theirs[what] != value and self.is_first:
                    raise UserError(
                        f"cannot train in {self.count} processes: the {what} of process {place + 1} is {theirs[what]}, and of the first "
                        f"{value}. Give all of them the same."
                    )

    def any_lacks_memory(self, lacks: bool) -> bool:
        return self._meet(lacks_memory=lacks)[1]

    def add_up(self, parameters: Sequence[torch.Tensor], total: torch.Tensor) -> torch.Tensor:
        """Parameters that no process has a gradient of are left without one: an optimizer passes them over."""
        there = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
        self._sum(there)
        used = [parameter for parameter, count in zip(parameters, there.tolist(), strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), total.reshape(1)])
        flat = self._sum(flat)
        parts = flat.split([*(gradient.numel() for gradient in gradients), 1])
        for parameter, part in zip(used, parts, strict=False):
            parameter.grad = part.view_as(parameter)
        return parts[-1][0]

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Over all processes: between cards by their own library where it is there, else by way of the processor."""
        group, sent = None, tensor
        if tensor.device.type == "cuda" and torch.distributed.is_nccl_available():
            self._cards = group = self._cards or torch.distributed.new_group(backend="nccl")
        elif tensor.device.type != "cpu":
            sent = tensor.cpu()
        with self._noticing_death():
            torch.distributed.all_reduce(sent, group=group)
        return sent.to(tensor.device)


ALONE = Processes()


def join() -> Processes:
    """Meet the other processes that a launcher has started, if it has. Raises UserError where torch cannot."""
    count = count_launched()
    if count == 1:
        return ALONE
    if not torch.distributed.is_available():
        raise UserError(f"cannot train in {count} processes: this build of torch is without torch.distributed. Install one that has it.")
    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    return Joined(int(os.environ["RANK"]), count, is_first_here=place_here()[0] == 0)


def _pack(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpack(packed: bytes) -> Any:
    """On the CPU: the other process's card is not this one's."""
    return torch.serialization.load(io.BytesIO(packed), map_location="cpu", weights_only=False)
