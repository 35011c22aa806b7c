"""What people are shown of their data before they train on it. A task fills it in, a page draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One example: a picture with its caption, or a text."""

    name: str  # file name, relative to the data folder
    text: str
    thumbnail: bytes = b""  # a small JPEG, for pictures
    problem: str = ""  # why it cannot be trained on
    warning: str = ""  # what is odd about it, or still to be done; it is trained on all the same
    spans: Sequence[tuple[str, bool]] = ()  # the text in pieces, and whether each is learned; for texts


@dataclass(frozen=True)
class DataView:
    """The first examples of a data set, and what is to be said about all of it."""

    count: int
    examples: Sequence[Example]
    facts: Sequence[tuple[str, str]] = ()  # label, value: sizes, buckets, how many have captions
    notes: Sequence[str] = field(default=())  # problems of the data set as a whole


@dataclass(frozen=True)
class Remedy:
    """What the program itself can do about a finding, so that it can be undone."""

    label: str  # of the button
    operation: str  # as the task's editor calls it
    names: Sequence[str]  # of the examples that it changes
    text: str = ""  # what the operation works with, such as a tag
    state: str = ""  # of the data, where the names are places in it that hold for no other state


@dataclass(frozen=True)
class Finding:
    """Something about some of the examples that makes a bad result likely, and what to do about it."""

    kind: str
    said: str
    names: Sequence[str]  # of the examples
    remedy: Remedy | None = None  # where there is one that harms nothing
    is_note: bool = False  # it is about all of them, and nothing is wrong


@dataclass(frozen=True)
class Columns:
    """The first rows of a table, and which of its columns is what.

    Attributes:
        file: where it is.
        names: what stands above the columns.
        rows: the first ones, as texts.
        parts: what a column can be.
        meant: which column is taken for which of ``parts``.
        is_known: whether rows can be learned from so.
    """

    file: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    parts: Sequence[str]
    meant: Mapping[str, str]
    is_known: bool
