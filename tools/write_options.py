"""Write the tables of options in docs/options.md from the config dataclasses. A door to ``hotlora options``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "extension"))

from hotlora.cli import run_door  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_door("options", ["--into", str(ROOT / "docs" / "options.md")]))
