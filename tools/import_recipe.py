"""Turn another trainer's recipe into a run file: ``python tools/import_recipe.py FILE``.

Takes kohya_ss' JSON, sd-scripts' TOML (options or data sets), lora-scripts' TOML and OneTrainer's JSON. Says what was taken, what has
no counterpart and why, and what differs in meaning; docs/import.md lists every key. Thin: the work is done in hotlora/sd/recipes/.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "extension"))

from hotlora.engine.errors import UserError
from hotlora.engine.files import write_text
from hotlora.engine.places import clean_place
from hotlora.sd.config import ImageConfig


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Turn another trainer's recipe into a run file.")
    parser.add_argument("file", help="JSON of kohya_ss or OneTrainer, TOML of sd-scripts or lora-scripts")
    parser.add_argument("-o", "--output", help="the run file to write; the file's name with .yaml in this folder when left out")
    options = parser.parse_args(arguments)
    try:
        path = Path(clean_place(options.file, "the recipe"))
        target = Path(clean_place(options.output or f"{path.stem}.yaml", "--output", written=True))
        if target.exists():
            raise UserError(f"cannot write '{target}': it is there already. Choose another name with --output.")
        imported = ImageConfig.import_recipe(path)
        try:
            write_text(target, imported.as_yaml(path.name))
        except OSError as error:
            raise UserError(f"cannot write '{target}': {error.strerror}. Choose another place with --output.") from None
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*imported.report(), f"Written: {target}. Look at it, then: python train.py --config {target} --check"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
