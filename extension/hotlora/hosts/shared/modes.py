"""Train and evaluation mode for a while. Must not know whose modules they are."""

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn

from ...engine.adapters import AsFound


@contextlib.contextmanager
def in_mode(modules: Iterable[nn.Module], *, training: bool) -> Iterator[None]:
    """All of the modules in one mode; afterwards each of their submodules has the mode that it had."""
    trees = list(modules)
    found = AsFound(trees)
    for tree in trees:
        tree.train(training)
    try:
        yield
    finally:
        found.restore()
