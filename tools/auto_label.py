"""Write a caption for every picture that has none: ``python tools/auto_label.py --input data/style_train``. A door to ``hotlora label``."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "extension"))

from hotlora.cli import run_door


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for something the user can mend, 130 when interrupted."""
    return run_door("label", arguments)


if __name__ == "__main__":
    sys.exit(main())
