"""The table of figures at the end of a session that ran the harness."""

import os
import sys
from pathlib import Path

import tally

sys.path.append(str(Path(__file__).resolve().parents[1] / "ui"))  # the toy studio is there


def pytest_terminal_summary(terminalreporter):
    if not tally.TALLIES:
        return
    table = tally.show_table(tally.TALLIES)
    terminalreporter.section("faults: tried, survived, lost")
    terminalreporter.write_line(table)
    if os.environ.get("HOTLORA_FAULTS_INTO"):
        tally.keep(Path(os.environ["HOTLORA_FAULTS_INTO"]))
