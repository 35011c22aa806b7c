"""What the stand-alone hosts for pictures and for text have in common: a process that holds one model for one run."""

import contextlib
import threading
from pathlib import Path
from typing import Any


class StandaloneHost:
    """Implements :class:`hotlora.engine.interfaces.Host` but for ``borrow``, which loads the model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def has_model(self, config: Any) -> bool:
        """It loads whatever model is asked for."""
        return True

    def turn(self) -> contextlib.AbstractContextManager[Any]:
        """Exclusive use of the model."""
        return self._lock

    def wanted(self) -> bool:
        """Nobody else asks for the model here."""
        return False

    def publish(self, path: Path) -> None:
        """Nothing to do: what was saved is the result, and no program here would load it."""
