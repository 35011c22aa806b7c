"""The README's table of options is the config's."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_table_of_options_is_up_to_date():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tool = runpy.run_path(str(ROOT / "tools" / "write_options.py"))
    assert tool["with_options"](readme) == readme, "run: python tools/write_options.py"
