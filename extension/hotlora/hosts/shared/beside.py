"""How a process is started that trains beside a program (see ``engine.beside``): by the program's own Python, wherever it was installed."""

import sys
from pathlib import Path

# An embedded Python reads neither PYTHONPATH nor a script's folder; and what lies in the program's folder is no library.
_DOOR = "import sys; sys.path = [sys.argv.pop(), *filter(None, sys.path)]; from hotlora.cli import main; sys.exit(main(['beside']))"


def write_command() -> list[str]:
    """``hotlora beside``, also where the package is not installed."""
    return [sys.executable, "-c", _DOOR, str(Path(__file__).resolve().parents[3])]
