"""What the program itself can do about a finding of the health report: one table from the finding's kind to an operation of the editor.

Each is a step of the captions' history, and can be undone. What would spoil something is not offered: leaving out all pictures of a folder,
changing a caption that stands where nothing is changed. Must not import any host.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.examples import Finding, Remedy

LEAVE_OUT = "leave_out"  # beside the operations of caption_changes


@dataclass(frozen=True)
class Way:
    """How findings of one kind are mended."""

    label: str
    operation: str


REMEDIES = {
    "small": Way("Leave these out", LEAVE_OUT),
    "blurred": Way("Leave these out", LEAVE_OUT),
    "jpeg": Way("Leave these out", LEAVE_OUT),
    "broken": Way("Leave these out", LEAVE_OUT),
    "same": Way("Keep one of each, leave the others out", LEAVE_OUT),
    "alike": Way("Keep the best, leave the others out", LEAVE_OUT),
    "encoding": Way("Mend the letters", "letters"),
    "doubles": Way("Remove doubles", "drop_doubles"),
    "everywhere": Way("Remove this tag", "remove"),
    "trigger": Way("Put it in front", "add_front"),
}


def make_remedy(kind: str, names: Sequence[str], text: str = "") -> Remedy | None:
    """What can be done about a finding of this kind. ``names``: of the examples that would be changed."""
    way = REMEDIES.get(kind)
    return Remedy(way.label, way.operation, tuple(names), text) if way and names else None


def offer_remedies(findings: Iterable[Finding], folders: Mapping[str, Path], fixed: Collection[str]) -> Iterator[Finding]:
    """The findings, with those remedies only that can be carried out.

    Args:
        folders: the folder of each picture; none may be left empty.
        fixed: pictures whose captions cannot be changed.
    """
    for finding in findings:
        remedy = finding.remedy
        if remedy and remedy.operation == LEAVE_OUT:
            staying = {folder for name, folder in folders.items() if name not in set(remedy.names)}
            remedy = remedy if staying == set(folders.values()) else None
        elif remedy:
            names = tuple(name for name in remedy.names if name not in fixed)
            remedy = replace(remedy, names=names) if names else None
        yield replace(finding, remedy=remedy)
