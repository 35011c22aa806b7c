"""What an option is called elsewhere, and what people are told who use that name. The tables themselves belong to the families.

Must import nothing of ours but ``engine``.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .values import fold, show


@dataclass(frozen=True)
class OtherName:
    """What becomes of another trainer's option.

    Attributes:
        option: the option of ours that says the same; empty where there is none.
        note: where they differ in meaning, or why there is none. A whole sentence.
    """

    option: str = ""
    note: str = ""


def say_unknown(key: Any, known: Collection[str], others: Mapping[str, OtherName]) -> str:
    """The sentence about an option that there is not."""
    start = f"cannot use the option {show(str(key))}"
    folded = {fold(name): name for name in known}
    if fold(key) in folded:
        return f"{start}: it is written '{folded[fold(key)]}'. Rename it."
    other = {fold(name): other for name, other in others.items()}.get(fold(key))
    if other and other.option:
        return f"{start}: here it is called '{other.option}'. {f'{other.note} Use that instead.' if other.note else 'Rename it.'}"
    if other:
        return f"{start}: {other.note[:1].lower()}{other.note[1:]} Leave it out."
    table = "See the tables of options in docs/options.md."
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
    return f"{start}: there is none of that name. {f'Did you mean {near[0]!r}?' if near else table}"
