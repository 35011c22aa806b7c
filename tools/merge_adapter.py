"""Write a whole language model with a LoRA in it: ``python tools/merge_adapter.py --adapter RUN/NAME --base MODEL --output FOLDER``.

For programs that load no adapters, or to convert to GGUF. Where adapters are loaded, keep the adapter: it is small, and can be taken off.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "extension"))

from hotlora.engine.errors import UserError
from hotlora.hosts.standalone.merging import merge_adapter


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for something the user can mend."""
    parser = argparse.ArgumentParser(description="Write a whole language model with a LoRA in it.")
    parser.add_argument("--adapter", type=Path, required=True, help="the LoRA's folder")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the model it was trained on, unquantised")
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    options = parser.parse_args(arguments)
    try:
        told = merge_adapter(options.adapter, options.base, options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*([f"note: {told}"] if told else []), f"The merged model is in {options.output}.", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
