"""Search for better settings of a run: ``python tools/search.py --config my.yaml --budget 2h``. A door to ``hotlora search``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "extension"))

from hotlora.cli import run_door

if __name__ == "__main__":
    sys.exit(run_door("search"))
