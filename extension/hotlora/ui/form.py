"""The form as it was left: kept beside the presets as it is typed, so that a reloaded page and another browser show the same."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.files import write_text

_NAME = "form.json"


class KeptForm:
    """One program's form.

    Args:
        folder: where its file lies.
    """

    def __init__(self, folder: Path):
        self._path, self._lock = folder / _NAME, threading.Lock()

    def write(self, preset: str, shown: Mapping[str, Any]) -> None:
        """``shown``: option -> what its widget shows, readable or not."""
        with self._lock:
            write_text(self._path, json.dumps({"preset": preset, "shown": dict(shown)}))

    def read(self) -> tuple[str, dict[str, Any]]:
        """The same; nothing where nothing was kept, or the file is damaged."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return str(kept["preset"]), {str(name): value for name, value in kept["shown"].items() if _is_plain(value)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "", {}


def _is_plain(value: Any) -> bool:
    """What a text box, number, checkbox or menu can show."""
    return value is None or isinstance(value, (str, int, float, bool))
