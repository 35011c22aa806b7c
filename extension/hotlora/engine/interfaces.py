"""What the training loop asks of a model and of the program that holds it.

A new model family implements :class:`Trainee`, a new host implements :class:`Host`; the loop knows nothing else. What only some
trainees can do stands in protocols of their own (:class:`Keeping`, :class:`Renewing`, :class:`Foreseeing`, :class:`Sharing`,
:class:`Validating`, :class:`Spreading`, :class:`Resembling`, :class:`Grading`, :class:`Previewing`, :class:`Showing`; in ``redrawing`` one
more): a trainee has such a protocol's members or has none of them. ``freeing`` and ``beside`` have one each for hosts.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import nn

from .examples import Example

if TYPE_CHECKING:
    from .processes import Processes
    from .run import Run


@dataclass(frozen=True)
class Target:
    """A layer that gets an adapter, and what kind of adapter. ``parameters``: names of the layer's own parameters that get one each,
    where it is no linear layer but holds several matrices in one, as experts do."""

    layer: nn.Module
    rank: int
    alpha: float
    learning_rate: float
    frozen: bool = False  # applied and saved as it is, never trained
    shapes: Mapping[str, tuple[int, ...]] | None = None  # of its tensors, where a file has another form than peft would choose
    parameters: tuple[str, ...] = ()  # of the layer, where those get adapters and not the layer as a whole


@dataclass(frozen=True)
class Loss:
    """A sum over examples (or tokens) and how many there were; never a mean, so that sums of sums stay right."""

    total: torch.Tensor  # scalar, with gradient when training
    count: float


class Draws:
    """All random numbers of one batch, one independent stream per example.

    A stream depends on the run's seed, the optimizer step and the example's place within that step; not on how the
    step is cut into batches, not on the device, and not on what else draws numbers. So an accumulated step equals the
    big batch, a halved batch (after out-of-memory) repeats the same step, and resuming has nothing to restore.
    """

    def __init__(self, seed: int, step: int, first: int = 0):
        self.seed, self.step, self.first = seed, step, first

    def generator(self, index: int) -> torch.Generator:
        """The stream of the batch's ``index``-th example: a CPU generator, so that every device sees the same noise."""
        place = (self.seed * 1_000_003 + self.step) * 4_099 + self.first + index
        return torch.Generator().manual_seed(place % (2**63))

    def chance(self, index: int) -> random.Random:
        """The example's stream for what is no tensor: which caption, which crop."""
        return random.Random(f"{self.seed} {self.step} {self.first + index}")


class Batch(Protocol):
    """A plan of which examples go together: light, loaded only when the loss is computed."""

    @property
    def count(self) -> float:
        """Examples or labelled tokens: what Loss.count will be."""
        ...

    def __len__(self) -> int: ...

    def halves(self) -> Sequence["Batch"]: ...


@dataclass(frozen=True)
class PreviewRequest:
    """One sample to make. ``weight``: the adapter's strength as in ``<lora:name:weight>``. ``settings``: hold whatever the prompt says, as
    ``seed`` does. ``adapter``: as tags call it, where not the run's own. ``wanted``: the right answer to a question of the data."""

    prompt: str
    seed: int
    weight: float = 1.0
    settings: Mapping[str, float] = field(default_factory=dict)
    adapter: str = ""
    wanted: str = ""


class Preview(Protocol):
    """What came out: a picture, or a completion."""

    def save(self, stem: Path) -> Path:
        """Write it to ``stem`` plus the fitting suffix; returns the path."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a longer piece of work before training has come."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class AdapterChoice:
    """What kind of adapter goes on the targets."""

    kind: str = "lora"  # or "loha", "lokr"
    lokr_factor: int = -1  # size of LoKr's first factor; -1 chooses it
    start: str = "default"  # or "pissa": along the weights' main directions
    dora_axis: str = "output"  # peft's own; "input" or "rows" as image programs apply DoRA, see AdapterSet


class Adapters(Protocol):
    """What a trainee sees of the adapters when it writes them to a file."""

    kind: str  # as in AdapterChoice
    targets: dict[str, Target]
    use_rslora: bool

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Exported name -> peft's tensor name -> fp32 copy on the CPU, shaped as peft shapes it."""
        ...

    def starts(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Exported name -> (A0 [rank, in], B0 [out, rank]) where training began elsewhere than at no change: the update is B A - B0 A0."""
        ...


class Trainee(Protocol):
    """A borrowed model with its data."""

    fingerprint: str  # which base model, down to its weights; checked on resume
    data_fingerprint: str  # which examples, once prepared; where it has changed on resume, a new epoch begins
    modules: list[nn.Module]  # the trees that adapters go into
    device: torch.device
    compute_dtype: torch.dtype
    largest_batch: int | None  # examples that are computed at once at most, once prepared; None for no limit

    def prepare(self) -> Iterator[Progress]:
        """Check the data and cache what can be cached. Raises UserError listing everything that is wrong with the data."""
        ...

    def training(self) -> AbstractContextManager[None]:
        """Modes that training needs (checkpointing, train mode), for the length of a turn."""
        ...

    def summary(self) -> dict[str, Any]:
        """What will be trained on, for people and for the Started event: counts, sizes, model."""
        ...

    def warnings(self) -> Sequence[str]:
        """What people should know about their data and options, once prepared."""
        ...

    def adapter_choice(self) -> AdapterChoice:
        """By the options as they stand, after :meth:`read` too."""
        ...

    def targets(self) -> Mapping[str, Target]:
        """Exported name -> the layer an adapter goes on."""
        ...

    def batches(self, epoch: int, seed: int) -> Sequence[Batch]:
        """The epoch's batches in order; a function of its arguments alone."""
        ...

    def loss(self, batch: Any, draws: Draws) -> Loss:
        """Of one of :meth:`batches`, or of halves of it."""
        ...

    def write(self, adapters: Adapters, path: Path, notes: Mapping[str, Any]) -> Path:
        """The adapter as a file that other programs load."""
        ...

    def read(self, path: Path) -> dict[str, dict[str, torch.Tensor]]:
        """The tensors of such a file, for ``init_lora``, as :meth:`Adapters.tensors` names and shapes them; its rank and alpha go into
        the config.

        Raises:
            UserError: where it is none, or contradicts what the user set.
        """
        ...


@runtime_checkable
class Keeping(Protocol):
    """A trainee that needs the file of ``init_lora`` again when the run is resumed, wherever people have put it since."""

    def keep(self, folder: Path) -> None:
        """Put what is needed of it into the run's folder of states."""
        ...


@runtime_checkable
class Renewing(Protocol):
    """A trainee whose model and prepared data serve further runs."""

    def renew(self, config: Any) -> Trainee:
        """A trainee of these options, prepared already. They differ at most in what neither model nor data nor the judge depends on."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A trainee that does some work better for many steps at once."""

    def foresee(self, steps: Sequence[tuple[Any, Draws]]) -> None:
        """The arguments of the next calls of :meth:`Trainee.loss`, in their order. Changes no number."""
        ...


@runtime_checkable
class Sharing(Protocol):
    """A trainee whose preparation is shared out among a run's processes."""

    processes: "Processes"  # set before it prepares


@runtime_checkable
class Validating(Protocol):
    """A trainee that can be judged by a loss on examples that were kept back."""

    def validation_batches(self) -> Sequence[Batch]:
        """Empty where nothing was kept back."""
        ...

    def validation_loss(self, batch: Any) -> Loss:
        """Without gradient, on noise that is the same at every call."""
        ...


@runtime_checkable
class Spreading(Protocol):
    """A trainee that can be judged on what it was trained on as on what was kept back."""

    def spread_training(self, count: int) -> Sequence[Batch]:
        """So many training examples, evenly over all, one by one, for :meth:`Validating.validation_loss`."""
        ...


@runtime_checkable
class Resembling(Protocol):
    """A trainee whose samples can be held against its examples."""

    def known_examples(self, *, kept_back: bool) -> Iterator[tuple[Path, str, torch.Tensor]]:
        """(file, prompt, what is compared) of every training example, or of those that were kept back."""
        ...


@runtime_checkable
class Grading(Protocol):
    """A trainee whose answers are right or wrong."""

    @property
    def grading_share(self) -> float:
        """Of a run's time, at most, that answers may take; 1 for as long as it takes."""
        ...

    def describe_validation(self, loss: float) -> Mapping[str, float]:
        """The validation loss said otherwise, such as a perplexity."""
        ...

    def questions(self) -> Sequence[Any]:
        """What can be answered and graded; empty where nothing can."""
        ...

    def what_is_asked(self) -> str:
        """Which questions those are, for people."""
        ...

    def grade(self, question: Any) -> Mapping[str, float]:
        """Answer one of them, with the adapter as it stands; scores between 0 and 1, by name."""
        ...


@runtime_checkable
class Previewing(Protocol):
    """A trainee of which samples can be made."""

    def preview_requests(self) -> Sequence[PreviewRequest]: ...

    def preview(self, request: PreviewRequest) -> Preview: ...

    def write_comparison(self, rows: Sequence[Sequence[tuple[PreviewRequest, Any]]], run: "Run") -> Mapping[str, Path]:
        """A picture or page that compares previews, a row per prompt and a column per weight, and what else is made of them, as files
        in the run's folder: "sheet", and "cover" where the adapter's file has one beside it."""
        ...


@runtime_checkable
class Showing(Protocol):
    """A trainee whose examples can be shown in a console."""

    def examples(self) -> Sequence[Example]:
        """Some as they will be trained on, for people to look at."""
        ...


class Library(Protocol):
    """Where a program keeps the adapters that people call by name, and runs put copies of theirs."""

    def folder(self) -> Path:
        """Where what is put is found by its name."""
        ...

    def check_name(self, name: str) -> None:
        """Raises UserError where an adapter of that name is there already."""
        ...

    def remove_copies(self, name: str) -> None:
        """Of a run's adapters, the finished one and numbered ones. Raises UserError where one cannot be removed."""
        ...

    def remove_copy(self, name: str) -> None:
        """Of the adapter that is called so there, where it is a run's. Raises UserError where it cannot be removed."""
        ...


class Host(Protocol):
    """The program that holds the model."""

    def borrow(self, config: Any) -> Trainee:
        """Raises ModelAway if the model that the config names (or any) is not loaded, UserError if it cannot be trained;
        both say what to do. Where the config names none, the loaded one is written into it."""
        ...

    def has_model(self, config: Any) -> bool:
        """Whether :meth:`borrow` would find the model that the config names. Cheap: asked every second of a run that waits."""
        ...

    def turn(self) -> AbstractContextManager[None]:
        """Exclusive use of the model; afterwards everything is as found. Raises ModelAway if it is not what was borrowed."""
        ...

    def wanted(self) -> bool:
        """Is someone waiting for the model?"""
        ...

    def publish(self, path: Path) -> None:
        """Make a saved adapter usable now."""
        ...
