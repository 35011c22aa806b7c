"""Refuse files that make every clone larger: ``python tools/check_sizes.py``, a part of ``make lint``.

An extension is installed by cloning, so whatever is committed once is downloaded by everybody, for ever. CONTRIBUTING.md says what may be.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 200_000
FREE = "demo/model/"  # the model that the demo trains on
ALLOWED = {
    "docs/tab.png": "the page as people see it",
    "docs/comparison.png": "what the demo ends with",
    "tests/fixtures/sdscripts-sd15-r2.safetensors": "sd-scripts' own file, to compare with",
    "extension/hotlora/hosts/standalone/checkpoints/configs/tokenizer/merges.txt": "CLIP's vocabulary: nothing is downloaded",
    "extension/hotlora/hosts/standalone/checkpoints/configs/tokenizer/vocab.json": "likewise",
}


def main() -> int:
    """Returns the exit code: 0, or 2 where a file is too large."""
    try:
        sizes = measure_tracked(ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"note: file sizes were not checked, because git does not list the files here ({error})", file=sys.stderr)
        return 0
    faults = find_faults(sizes)
    print(*faults, sep="\n", file=sys.stderr, end="\n" if faults else "")
    return 2 if faults else 0


def measure_tracked(folder: Path) -> dict[str, int]:
    """Path within the repository -> bytes, of every file that git knows or would add."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode("utf-8").split("\0")
    paths = {name: folder / name for name in names if name}
    return {name: path.lstat().st_size for name, path in paths.items() if path.is_symlink() or path.is_file()}


def find_faults(sizes: Mapping[str, int], allowed: Mapping[str, str] = ALLOWED) -> list[str]:
    """A sentence for each file that is too large, and for each exception that none needs."""
    too_large = [name for name, size in sizes.items() if size > MOST_BYTES and not name.startswith(FREE) and name not in allowed]
    unneeded = [name for name in allowed if sizes.get(name, 0) <= MOST_BYTES]
    return [
        *(
            f"cannot take {name}: it has {sizes[name] // 1000} kB, and everybody who installs HotLoRA would download it. "
            f"Make it smaller than {MOST_BYTES // 1000} kB, or make it where it is needed."
            for name in sorted(too_large)
        ),
        *(f"cannot find a large file {name}: take it off the list in tools/check_sizes.py." for name in unneeded),
    ]


if __name__ == "__main__":
    sys.exit(main())
