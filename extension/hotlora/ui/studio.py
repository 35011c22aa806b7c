"""What the page and the HTTP API work with: one :class:`Studio` per program, made where a host is joined to them."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..engine.config import RunConfig
from ..engine.examples import Columns, DataView, Finding
from ..engine.interfaces import Progress
from ..engine.jobs import Jobs
from ..tasks import Task


class Shelf(Protocol):
    """The adapters on a program's model."""

    def names(self) -> list[str]:
        """What can be applied."""
        ...

    def applied(self) -> dict[str, float]:
        """Name -> weight."""
        ...

    def apply(self, weights: Mapping[str, float]) -> str:
        """These and no others; returns what people should know. Raises UserError."""
        ...


class Mender(Protocol):
    """Who carries out what a health report offers; each method raises UserError."""

    def mend(self, config: Any, remedy: Mapping[str, Any]) -> str:
        """Carry out a finding's remedy; returns what was done."""
        ...

    def count_steps(self, config: Any) -> int:
        """How many changes can be undone."""
        ...

    def undo(self, config: Any) -> str:
        """The last change; returns what it was."""
        ...


class Editor(Mender, Protocol):
    """How the examples of a data set are edited; each method raises UserError. Documented in ``pictures.editor``."""

    def look(
        self, config: Any, *, query: str = "", start: int = 0, aside: bool = False, order: Sequence[str] = (), is_kept: bool = False
    ) -> Any:
        """A page of a filter's: ``count``, ``names``, ``shown``, ``start``, ``tags``, ``left_out``, ``steps``, ``facts``, ``notes``."""
        ...

    def find_thumbnails(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Of the first keys, as many as are made in a moment."""
        ...

    def find_preview(self, key: str) -> bytes:
        """One of them, larger."""
        ...

    def list_operations(self) -> list[tuple[str, str]]:
        """(key, label)."""
        ...

    def count_tokens(self, config: Any, text: str) -> int:
        """Of a text as it would be learned."""
        ...

    def read(self, config: Any, name: str) -> str:
        """An example's text, as it is written."""
        ...

    def write(self, config: Any, name: str, text: str) -> None:
        """The reverse."""
        ...

    def open_mask(self, config: Any, name: str) -> Any:
        """Of a picture: ``picture`` and ``mask`` as files' contents, ``size``, ``has_file``, ``is_used``."""
        ...

    def write_mask(self, config: Any, name: str, data: bytes) -> str:
        """A PNG, white where it is learned; returns what was done."""
        ...

    def remove_mask(self, config: Any, name: str) -> str:
        """Likewise."""
        ...

    def change(self, config: Any, values: Mapping[str, Any], names: Sequence[str] | None = None, query: str = "") -> str:
        """Many at once; returns what was done."""
        ...

    def set_focus(self, config: Any, name: str, point: Any) -> str:
        """Where a picture is cut; returns what was done."""
        ...

    def set_crop(self, config: Any, name: str, crop: Any) -> str:
        """What of a picture is used; returns what was done."""
        ...

    def leave_out(self, config: Any, names: Sequence[str]) -> str:
        """Move them where they are not trained on."""
        ...

    def bring_back(self, config: Any, names: Sequence[str]) -> str:
        """The reverse."""
        ...


class Captions(Protocol):
    """Who writes captions for a data set, and what they propose; each method raises UserError. What the page does not look into is Any."""

    settings_class: type

    @property
    def status(self) -> Any:
        """``busy``, ``done`` of ``total``, ``written``, ``proposed``, ``message``, ``problems``."""
        ...

    def list_kinds(self) -> list[tuple[str, str]]:
        """(key, label) of each captioner."""
        ...

    def start(self, config: Any, values: Mapping[str, Any]) -> Any:
        """Begin, or go on; returns the status."""
        ...

    def stop(self) -> None:
        """After the pictures that are looked at now."""
        ...

    def list_proposals(self, config: Any) -> Sequence[Any]:
        """Each with ``name``, ``caption`` and ``proposed``."""
        ...

    def decide(self, config: Any, names: Sequence[str] | None, *, accept: bool) -> str:
        """About some proposals, or all; returns what was done."""
        ...


class ClassPictures(Protocol):
    """Who draws regularisation pictures; each method raises UserError. Documented in ``pictures.class_desk``."""

    @property
    def folder(self) -> str:
        """Where their folders are made."""
        ...

    @property
    def status(self) -> Any:
        """``number``, ``busy``, ``done`` of ``total``, ``folder``, ``complete``, ``message``."""
        ...

    def start(self, config: Any, words: Sequence[str], count: int = 0, name: str = "") -> Any:
        """Begin, or go on; returns the status."""
        ...

    def stop(self) -> None:
        """After the picture that is drawn now."""
        ...


class Questions(Protocol):
    """Who writes questions about documents, and what of them was reviewed; each method raises UserError. Documented in
    ``llm.questions.desk``."""

    settings_class: type

    @property
    def folder(self) -> str:
        """Where their folders are made."""
        ...

    @property
    def status(self) -> Any:
        """``number``, ``busy``, ``done`` of ``total``, ``kept``, ``dropped``, ``name``, ``folder``, ``message``, ``problems``."""
        ...

    def start(self, config: Any, values: Mapping[str, Any], name: str = "") -> Any:
        """Begin, or go on; returns the status."""
        ...

    def stop(self) -> None:
        """After the question that is written now."""
        ...

    def list_folders(self) -> list[str]:
        """Names of those that can be reviewed."""
        ...

    def review(self, name: str, *, start: int = 0, count: int = 20, refused: bool = False) -> Any:
        """A page: ``rows`` from ``start`` of ``shown``, ``folder``, and how many are ``accepted``, ``open``, ``refused``."""
        ...

    def decide(self, name: str, verdict: str, keys: Sequence[str] | None = None, texts: Mapping[str, Sequence[str]] | None = None) -> str:
        """About rows, or all that wait; returns what was done."""
        ...


class Chats(Protocol):
    """The conversations that a program keeps of its user's; each method raises UserError."""

    def list_chats(self) -> Sequence[Any]:
        """Each with ``key``, ``name``, ``partner``, ``day`` and ``turns``, the newest first."""
        ...

    def use(self, keys: Sequence[str], name: str) -> tuple[Path, str]:
        """Write these into a data set of that name; returns its folder, and what was done."""
        ...


class Live(Protocol):
    """Whether a program's model answers with the run in training."""

    wanted: bool


@dataclass
class Studio:
    """A program that trains, as people see it."""

    jobs: Jobs
    look_at: Callable[[RunConfig], DataView]  # what people are shown of their data; raises UserError
    datasets: Path  # uploaded data sets, a folder each
    presets: Path  # the user's own, a YAML file each
    shipped_presets: Mapping[str, Path]  # name -> file
    upload_suffixes: Sequence[str]  # what a data set may hold
    editor: Editor | None = None  # where examples can be edited
    mender: Mender | None = None  # where a report's remedies can be carried out without an editor
    report: Callable[[RunConfig], Iterator[tuple[Progress, list[Finding]]]] | None = None  # what commonly goes wrong with such data
    look_at_columns: Callable[[RunConfig], Columns] | None = None  # the first rows of a table; raises UserError
    captions: Captions | None = None  # where captions can be written by a machine
    class_pictures: ClassPictures | None = None  # where regularisation pictures can be drawn
    questions: Questions | None = None  # where questions about documents can be written
    chats: Chats | None = None  # where the program keeps conversations
    data_word: str = "pictures"  # what the data is called on the page
    draws_pictures: bool = True  # whether samples are pictures; answers else
    grade: Callable[[str, str], Mapping[str, float]] | None = None  # right answer, given one -> scores by name, where there are answers
    model_name: Callable[[], str] = lambda: ""  # what is loaded now; empty where nothing is
    why_not: Callable[[], str] = lambda: ""  # a sentence where what is loaded cannot be trained on now
    waits_for: Callable[[], str] = lambda: ""  # a sentence where a run would wait before it trains on it
    hides: Sequence[str] = ()  # options that make no sense in this program
    choices: Mapping[str, Callable[[], list[str]]] = field(default_factory=dict)  # option -> what the program offers for it
    models: Callable[[], Mapping[str, Path]] = dict  # those of the program by name, with their files or folders
    defaults: Mapping[str, Any] = field(default_factory=dict)  # where they differ from the config class's own
    settings: Callable[[], Mapping[str, Any]] = dict  # options that are set elsewhere than on the page
    missing: Callable[[], str] = lambda: ""  # a sentence where a package is missing without which nothing trains
    adds_packages: bool = False  # whether the page may add packages that some features need: nobody but the program's user reaches it
    add_optuna: str = ""  # how the package is added without which no settings are found, where not simply by pip
    uses_tag: bool = False  # whether adapters are called by <lora:name:weight> in a prompt box of the same page
    shelf: Shelf | None = None  # where adapters are put on the program's model itself
    live: Live | None = None  # whether that answers with the run in training
    has_live: bool = False  # whether that also works for the run in training


def open_studio(task: Task, jobs: Jobs, folder: Path, *, devices: Sequence[str] = (), **of_the_program: Any) -> Studio:
    """The studio of a program that trains this task: what the task says of itself, and what the program says beyond or instead.

    Args:
        devices: to train on, beside the program's own; not chosen on the page where there are none.
    """
    of_the_task: dict[str, Any] = {
        "look_at": task.look_at,
        "editor": task.make_editor(),
        "mender": task.make_mender(),
        "report": task.report,
        "look_at_columns": task.look_at_columns,
        "class_pictures": task.make_class_desk(jobs, folder / "data"),
        "questions": task.make_question_desk(jobs, folder / "data"),
        "shipped_presets": task.presets,
        "upload_suffixes": task.list_suffixes(),
        "data_word": task.data_word,
        "draws_pictures": task.draws_pictures,
        "grade": task.grade,
    }
    offered: dict[str, Sequence[str]] = {**task.choices, **({"train_device": ["", *devices]} if devices else {})}
    choices: dict[str, Any] = {option: functools.partial(list, values) for option, values in offered.items()}
    of_the_program["choices"] = {**choices, **of_the_program.get("choices", {})}
    of_the_program["hides"] = (*of_the_program.get("hides", ()), *(() if devices else ("train_device",)))
    return Studio(jobs=jobs, datasets=folder / "data", presets=folder / "presets", **(of_the_task | of_the_program))


_kept: dict[str, Studio] = {}


def keep_studio(program: str, make: Callable[[], Studio]) -> Studio:
    """The studio of this process: hosts run their entry script again at every reload of their page, while the package stays,
    and with it a run in training."""
    if program not in _kept:
        _kept[program] = make()
    return _kept[program]


@dataclass(frozen=True)
class BorrowedPrompt:
    """The host's own prompt widgets, whose values samples can take over."""

    widgets: Sequence[Any]
    read: Callable[..., dict[str, Any]]  # their values -> options
