"""Tools for finished LoRAs: ``python tools/lora_tool.py info FILE`` and others. A door to ``hotlora tool``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "extension"))

from hotlora.cli import run_door

if __name__ == "__main__":
    sys.exit(run_door("tool"))
