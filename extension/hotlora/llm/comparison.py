"""Answers as samples, and the page that compares them with and without the adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.files import write_text
from ..engine.interfaces import PreviewRequest


@dataclass(frozen=True)
class Completion:
    """Implements :class:`hotlora.engine.interfaces.Preview`."""

    text: str

    def save(self, stem: Path) -> Path:
        """Plain text."""
        path = stem.with_name(f"{stem.name}.txt")
        write_text(path, self.text)
        return path


def write_comparison(rows: Sequence[Sequence[tuple[PreviewRequest, Completion]]], path: Path) -> Path:
    """A Markdown page: each question, and under it the answer at each weight of the adapter."""
    parts = ["# With and without the adapter\n"]
    for row in rows:
        parts.append(f"## {_one_line(row[0][0].prompt)}\n")
        for request, completion in row:
            title = f"weight {request.weight:g}" if request.weight else "without it"
            parts.append(f"**{title}**\n\n{quote(completion.text)}\n")
    write_text(path, "\n".join(parts))
    return path


def _one_line(text: str) -> str:
    return " ".join(text.split())


def quote(text: str) -> str:
    """A block of text as it is, however many backticks are in it."""
    longest = max((len(run) for run in text.replace("\n", " ").split(" ") if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
