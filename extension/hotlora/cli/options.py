"""``hotlora options``: the tables of options, from the config dataclasses. The first task's is whole; the others' say what differs from
what every run has."""

import argparse

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.files import write_text
from ..engine.options import markdown_table
from ..tasks import TASKS


def run(options: argparse.Namespace) -> int:
    """Print the tables, or write them into a file; returns the exit code. Raises UserError."""
    if options.into:
        try:
            write_text(options.into, with_options(options.into.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot write the options into '{options.into}': {error}. Give a file with their markers that can be written."
            ) from error
        return 0
    for name, table in make_tables().items():
        print(f"## {name.capitalize()}\n\n{table}\n")
    return 0


def make_tables() -> dict[str, str]:
    """Name -> Markdown."""
    first, *others = TASKS.values()
    tables = {first.options_table: "\n\n".join([markdown_table(first.config_class), *first.config_class.describe_values()])}
    return tables | {task.options_table: markdown_table(task.config_class, RunConfig) for task in others}


def with_options(text: str) -> str:
    """The text with fresh tables between their markers. Raises ValueError where those are not in it."""
    for name, table in make_tables().items():
        start, end = f"<!-- {name}: written by `python tools/write_options.py` -->", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"it has not the one pair of lines that the table stands between: {start} … {end}")
        before, rest = text.split(start)
        text = f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"
    return text
