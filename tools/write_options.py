"""Write the README's table of options from the config dataclass: ``python tools/write_options.py``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extension"))

from hotlora.engine.files import write_text  # noqa: E402
from hotlora.engine.options import markdown_table  # noqa: E402
from hotlora.sd.config import ImageConfig  # noqa: E402

START, END = "<!-- options: written by `python tools/write_options.py` -->", "<!-- end of options -->"


def with_options(readme: str) -> str:
    """The README's text with a fresh table between its two markers."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n{markdown_table(ImageConfig)}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    write_text(path, with_options(path.read_text(encoding="utf-8")))
