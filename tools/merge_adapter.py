"""Write a whole language model with a LoRA in it: ``python tools/merge_adapter.py --adapter RUN/NAME --base MODEL --output FOLDER``.
A door to ``hotlora merge``."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "extension"))

from hotlora.cli import run_door


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for something the user can mend."""
    return run_door("merge", arguments)


if __name__ == "__main__":
    sys.exit(main())
