"""What the program itself can do about a finding of the health report: one table from the finding's kind to an operation of the editor.

Each is a step of the captions' history, and can be undone. What would spoil something is not offered: leaving out all pictures of a folder,
changing a caption that stands where nothing is changed. Must not import any host.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.examples import Finding, Remedy
from ..engine.plurals import counted

LEAVE_OUT, SAVE_UTF8, CUT_BORDERS = "leave_out", "utf8", "cut_borders"  # beside the operations of caption_changes
_SHOWN = 3


@dataclass(frozen=True)
class Way:
    """How findings of one kind are mended."""

    label: str
    operation: str
    needs_text: bool = False  # without it nothing can be done


REMEDIES = {
    "small": Way("Leave out", LEAVE_OUT),
    "blurred": Way("Leave out", LEAVE_OUT),
    "jpeg": Way("Leave out", LEAVE_OUT),
    "broken": Way("Leave out", LEAVE_OUT),
    "borders": Way("Cut the borders off", CUT_BORDERS),
    "same": Way("Keep one of each, leave the others out", LEAVE_OUT),
    "alike": Way("Keep the best, leave the others out", LEAVE_OUT),
    "foreign": Way("Save as UTF-8", SAVE_UTF8, needs_text=True),
    "encoding": Way("Mend the letters", "letters"),
    "doubles": Way("Remove doubles", "drop_doubles"),
    "everywhere": Way("Remove this tag", "remove"),
    "absorbed": Way("Remove this tag", "remove", needs_text=True),
    "trigger": Way("Put it in front", "add_front"),
}


def make_finding(
    kind: str, names: Sequence[str], said: str, mended: Iterable[str] | None = None, text: str = "", *, what: str = "picture"
) -> Finding:
    """A finding about these pictures, with its remedy.

    Args:
        said: behind their number and first names.
        mended: the pictures that the remedy changes, where those are not all.
        text: what the remedy works with.
        what: they are, in the singular.
    """
    listed = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    remedy = make_remedy(kind, list(names if mended is None else mended), text)
    return Finding(kind, f"{counted(len(names), what)} ({listed}): {said}", tuple(names), remedy)


def make_remedy(kind: str, names: Sequence[str], text: str = "") -> Remedy | None:
    """What can be done about a finding of this kind. ``names``: of the examples that would be changed."""
    way = REMEDIES.get(kind)
    if not way or not names or (way.needs_text and not text):
        return None
    return Remedy(way.label, way.operation, tuple(names), text)


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
        elif remedy and remedy.operation not in (SAVE_UTF8, CUT_BORDERS):
            names = tuple(name for name in remedy.names if name not in fixed)
            remedy = replace(remedy, names=names) if names else None
        yield replace(finding, remedy=remedy)
