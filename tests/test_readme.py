"""The README's table of options is the config's."""

from pathlib import Path

from hotlora.cli.options import with_options

ROOT = Path(__file__).resolve().parent.parent


def test_table_of_options_is_up_to_date():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_options(readme) == readme, "run: python tools/write_options.py"
