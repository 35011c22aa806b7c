"""Rows of files with their places, as every reader gives them."""

from typing import Any, NamedTuple


class LeftOut(str):
    """In a row's stead: why what stands there is not read, though nothing is wrong with it, as the end of a sentence."""


class Located(NamedTuple):
    """A row of a file.

    Attributes:
        where: where it stands, such as "row 12".
        row: the row, the RowError why there is none, or what is LeftOut.
        use: "validation" or "test" where the file says that it is for those.
        note: what people should hear about it, as the end of a sentence.
        mapped: whether the option `columns` gave it names.
    """

    where: str
    row: Any
    use: str = ""
    note: str = ""
    mapped: bool = False
