"""Train a LoRA from a YAML file: ``python train.py --config configs/my_lora.yaml``. A door to ``hotlora train``."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "extension"))

from hotlora.cli import run_door


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 finished or stopped, 2 something the user can mend, 1 a bug."""
    return run_door("train", arguments)


if __name__ == "__main__":
    sys.exit(main())
