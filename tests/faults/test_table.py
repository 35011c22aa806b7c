"""The page of figures: written from the table, and what it says was reached."""

from pathlib import Path

import pytest
from tally import FULL, Tally, read_table, show_table, spread, with_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
WANTED = {"image runs killed": 100, "text runs killed": 60, "saved states": 500, "generated inputs": 20_000}


def test_what_is_written_is_read():
    lost = Tally("files cut", "it is said", tried=1200, lost=["one", "two"])
    page = with_table(PAGE.read_text(encoding="utf-8"), show_table([lost]))
    assert read_table(page) == {"files cut": (1200, 1198, 2)}
    with pytest.raises(ValueError, match="markers"):
        with_table("a page", "")


def test_trials_are_spread_from_the_first_to_the_last():
    assert spread(3, 9) == [1, 5, 9] and spread(9, 3) == [1, 2, 3] and spread(1, 5) == [1]


@pytest.mark.skipif(FULL, reason="the page is written at the end of this")
def test_the_page_says_that_nothing_was_lost_and_what_was_not_tried_as_often_as_promised():
    page = PAGE.read_text(encoding="utf-8")
    figures = read_table(page)
    assert figures, "run: make test-faults"
    assert not [what for what, (_, _, lost) in figures.items() if lost]
    reached = {start: sum(tried for what, (tried, _, _) in figures.items() if what.startswith(start)) for start in WANTED}
    enough = all(reached[start] >= wanted for start, wanted in WANTED.items())
    assert enough != ("Not reached yet" in page), reached
