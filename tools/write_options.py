"""Write the README's tables of options from the config dataclasses: ``python tools/write_options.py``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extension"))

from hotlora.engine.config import RunConfig  # noqa: E402
from hotlora.engine.files import write_text  # noqa: E402
from hotlora.engine.options import markdown_table  # noqa: E402
from hotlora.llm.config import TextConfig  # noqa: E402
from hotlora.sd.config import ImageConfig  # noqa: E402

TABLES = {"options": (ImageConfig, None), "text options": (TextConfig, RunConfig)}


def with_options(readme: str) -> str:
    """The README's text with fresh tables between their markers."""
    for name, (config_class, beyond) in TABLES.items():
        start, end = f"<!-- {name}: written by `python tools/write_options.py` -->", f"<!-- end of {name} -->"
        before, rest = readme.split(start)
        after = rest.split(end)[1]
        readme = f"{before}{start}\n{markdown_table(config_class, beyond)}\n{end}{after}"
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    write_text(path, with_options(path.read_text(encoding="utf-8")))
