"""Write the tables of options in docs/options.md from the config dataclasses: ``python tools/write_options.py``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extension"))

from hotlora.engine.config import RunConfig  # noqa: E402
from hotlora.engine.files import write_text  # noqa: E402
from hotlora.engine.options import markdown_table  # noqa: E402
from hotlora.llm.config import TextConfig  # noqa: E402
from hotlora.sd.config import ImageConfig  # noqa: E402

PAGE = ROOT / "docs" / "options.md"
TABLES = {"options": (ImageConfig, None), "text options": (TextConfig, RunConfig)}


def with_options(page: str) -> str:
    """The page's text with fresh tables between their markers."""
    for name, (config_class, beyond) in TABLES.items():
        start, end = f"<!-- {name}: written by `python tools/write_options.py` -->", f"<!-- end of {name} -->"
        before, rest = page.split(start)
        after = rest.split(end)[1]
        page = f"{before}{start}\n{markdown_table(config_class, beyond)}\n{end}{after}"
    return page


if __name__ == "__main__":
    write_text(PAGE, with_options(PAGE.read_text(encoding="utf-8")))
