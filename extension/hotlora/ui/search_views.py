"""What the page shows of a search for better settings, as HTML. Reads histories; starts nothing."""

import statistics
from collections.abc import Sequence

from ..engine.history import History
from ..engine.search_report import Row, find_best, tell_settings
from .draw import duration, escape

_KINDS = {"as given": "as given", "search": "other settings"}
_HEADS = ("trial", "loss", "settings", "kind", "trained numbers", "duration")


def share_of_search(history: History, status: str) -> float:
    """Of its time, how much is over."""
    left, search = history.seconds_left, history.search
    if status != "searching" or left is None or search is None or not search.seconds:
        return float(status == "done")
    return 1 - left / search.seconds


def describe_search(history: History, status: str) -> list[tuple[str, str]]:
    """How far it is, in a few facts."""
    rows = list(history.trials.values())
    best = find_best(rows)
    given = [row.loss for row in rows if row.kind == "as given" and row.loss is not None]
    return [
        ("trials", f"{len(rows):,}"),
        ("recipe as given", f"{statistics.fmean(given):.5f}" if given else ""),
        ("best so far", f"{best.loss:.5f}, #{best.number}" if best else ""),
        ("time left", duration(history.seconds_left) if status == "searching" else ""),
    ]


def show_search(history: History) -> str:
    """What it has found, and all trials: the one that goes on, then the best first."""
    words = f"<p>{escape(history.conclusion.words)}</p>" if history.conclusion else ""
    told = f'<div class="hotlora-card" data-state="done"><h4>What was found</h4>{words}</div>' if words else ""
    rows = sorted(history.trials.values(), key=lambda row: (row.state != "running", row.loss is None, row.loss or 0.0, row.number))
    return f'<div class="hotlora-search">{told}{_show_table(rows)}</div>' if rows else ""


def _show_table(rows: Sequence[Row]) -> str:
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    body = "".join(map(_show_row, rows))
    return (
        '<div class="hotlora-trials-frame" tabindex="0">'
        f'<table class="hotlora-trials"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _show_row(row: Row) -> str:
    kind = f"<span>{_KINDS.get(row.kind, '')}</span>" if row.of is None else f"<span>repeat of</span> <b>{row.of}</b>"
    loss = f"{row.loss:.5f}" if row.loss is not None else f"<span>{escape(row.state)}</span>"
    title = f' title="{escape(row.why)}"' if row.why else ""
    settings = "" if row.kind == "as given" else escape(tell_settings(row.chosen))
    numbers = f"{row.parameters:,}" if row.parameters else ""
    cells = (str(row.number), loss, settings, kind, numbers, duration(row.seconds) if row.seconds else "")
    return f'<tr data-state="{escape(row.state)}"{title}>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
