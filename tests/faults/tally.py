"""What was tried, what survived and what was lost: counted while the harness runs, printed at its end, and written into a page."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

FULL = os.environ.get("HOTLORA_FAULTS") == "full"
_BEGIN, _END = "<!-- figures: written by `make test-faults` -->", "<!-- end of figures -->"
_SHOWN = 12


@dataclass
class Tally:
    """One row of the table.

    Attributes:
        what: was done, each time a little otherwise.
        holds: what had to be so afterwards.
        lost: a line for each time that it was not.
    """

    what: str
    holds: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def trial(self, name: object) -> Iterator[None]:
        """Try it once; what is raised inside counts as lost."""
        self.tried += 1
        try:
            yield
        except Exception as error:
            self.lost.append(f"{name}: {type(error).__name__}: {error}")


TALLIES: list[Tally] = []


def scaled(short: int, full: int) -> int:
    """How often something is tried in this form of the harness."""
    return full if FULL else short


def spread(count: int, highest: int) -> list[int]:
    """So many numbers of 1 to ``highest``, evenly; all of them where there are fewer."""
    count = min(count, highest)
    return sorted({1 + place * (highest - 1) // max(count - 1, 1) for place in range(count)})


@contextlib.contextmanager
def counting(what: str, holds: str) -> Iterator[Tally]:
    """A row of the table. Fails at its end where something was lost."""
    tally = next((known for known in TALLIES if known.what == what), None)
    if tally is None:
        tally = Tally(what, holds)
        TALLIES.append(tally)
    before = len(tally.lost)
    yield tally
    lost = tally.lost[before:]
    assert not lost, f"lost {len(lost)}:\n" + "\n".join(lost[:_SHOWN])
    assert tally.tried, "nothing was tried"


def show_table(tallies: Sequence[Tally]) -> str:
    """As Markdown."""
    rows = [f"| {t.what} | {t.holds} | {t.tried:,} | {t.tried - len(t.lost):,} | {len(t.lost):,} |" for t in tallies]
    return "\n".join(["| what was done | what had to hold | tried | survived | lost |", "|---|---|---:|---:|---:|", *rows])


def with_table(page: str, table: str) -> str:
    """The page with the table between its markers. Raises ValueError where it has none."""
    before, _, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError("the page has no markers for the figures")
    return f"{before}{_BEGIN}\n{table}\n{_END}{after}"


def read_table(page: str) -> dict[str, tuple[int, int, int]]:
    """What was done -> (tried, survived, lost), as a page says."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")]
    return {row[0]: tuple(int(cell.replace(",", "")) for cell in row[2:]) for row in rows if len(row) == 5 and row[4][:1].isdigit()}


def keep(folder: Path) -> None:
    """Write this session's rows there: several sessions may go on at once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{os.getpid()}.json").write_text(json.dumps([asdict(tally) for tally in TALLIES]), encoding="utf-8")


def write_page(folder: Path, page: Path) -> None:
    """Put what the sessions have kept there into the page."""
    rows: dict[str, Tally] = {}
    for path in sorted(folder.glob("*.json")):
        for values in json.loads(path.read_text(encoding="utf-8")):
            row = rows.setdefault(values["what"], Tally(values["what"], values["holds"]))
            row.tried, row.lost = row.tried + values["tried"], row.lost + values["lost"]
    table = show_table(sorted(rows.values(), key=lambda row: row.what))
    page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    write_page(Path(sys.argv[1]), Path(sys.argv[2]))
