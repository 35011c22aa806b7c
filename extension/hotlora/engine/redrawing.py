"""What a grid asks of a trainee: to show what finished files do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from .grid import Grid
from .interfaces import AdapterChoice, Preview, PreviewRequest, Progress, Target


@dataclass(frozen=True)
class Opened:
    """A finished adapter's file, fitted to a model. ``tensors``: as :meth:`Adapters.tensors` names and shapes them; ``notes``: what of it
    is not applied, for people."""

    choice: AdapterChoice
    targets: Mapping[str, Target]
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    use_dora: bool = False
    notes: Sequence[str] = ()


@runtime_checkable
class Redrawing(Protocol):
    """A trainee that, its data unprepared, can show what finished files do: also one that makes previews."""

    def open(self, path: Path) -> Opened:
        """Raises UserError where the file is none, or does not fit the model."""
        ...

    def preview(self, request: PreviewRequest) -> Preview: ...

    def settle(self, request: PreviewRequest) -> Mapping[str, Any]:
        """All that a preview follows from, beside the model's weights, the adapter and its strength; plain values."""
        ...

    def write_grid(self, grid: Grid) -> Path:
        """One file beside the samples that shows them all."""
        ...


@runtime_checkable
class Asking(Protocol):
    """Such a trainee whose data hold questions with their right answers."""

    def prepare(self) -> Iterator[Progress]: ...

    def find_questions(self, count: int) -> Mapping[str, str]:
        """So many questions of the prepared data -> right answer, the same at every call. A request with that answer as ``wanted`` is
        asked as it stands in the data."""
        ...
