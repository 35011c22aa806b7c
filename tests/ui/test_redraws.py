"""The page looks for news every other second: what has not changed is neither drawn nor sent again, to whichever page asks."""

import gradio as gr
import pytest
from bench_runs import append, make_runs
from hotlora.engine.events import Step, Warned
from hotlora.ui import watch_section
from hotlora.ui.page import build_page
from page_memory import measuring_page
from toy_studio import toy_studio

DRAWERS = ("show_runs", "show_samples", "show_log", "draw_losses")


class Browser:
    """A page that is open somewhere: what it shows, and what was sent to it last."""

    def __init__(self, watch):
        self.watch, self.sent, self.selected, self.compared = watch, {}, None, []
        self.news = []

    def look(self) -> set[str]:
        """The widgets that got something new."""
        beat, self.sent, *self.news = self.watch.draw(self.selected, self.compared, self.sent)
        names = [widget.elem_id for widget in self.watch._drawn]
        return {name.removeprefix("hotlora_") for name, update in zip(names, self.news, strict=True) if update != gr.update()}

    def shown(self, name: str):
        return self.news[[widget.elem_id for widget in self.watch._drawn].index(f"hotlora_{name}")]["value"]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page over twelve runs; ``page.drawn`` lists what was drawn."""
    make_runs(tmp_path / "runs", 12, steps=40)
    page = build_page(toy_studio(tmp_path)).hotlora
    page.drawn = []
    for name in DRAWERS:
        right = getattr(watch_section, name)
        monkeypatch.setattr(watch_section, name, lambda *args, n=name, right=right: page.drawn.append(n) or right(*args))
    return page


def tell(page, name, event):
    append(page.watch._jobs.folder / name / "events.jsonl", [event])


def step(number):
    return Step(number, 1.0, 0.5, 0.5, 1e-4, 1.0, 0.5, 1)


def test_a_page_that_shows_everything_is_sent_nothing(page):
    browser = Browser(page.watch)
    assert {"runs", "chart", "samples", "log", "status", "run", "delete"} <= browser.look()
    assert sorted(page.drawn) == sorted(DRAWERS)
    for _ in range(3):
        assert browser.look() == set()
    assert len(page.drawn) == len(DRAWERS)
    assert len(repr(browser.sent)) < 3000, "a mark of what was sent, not what was sent"


def test_news_of_one_run_redraw_what_shows_it_and_no_more(page):
    browser = Browser(page.watch)
    browser.selected = "run 0003"
    browser.look()
    page.drawn.clear()
    tell(page, "run 0007", Warned("nothing that the table shows"))
    browser.look()
    assert page.drawn in ([], ["show_runs"])  # for it is the one that was worked on last now
    tell(page, "run 0007", step(41))
    page.drawn.clear()
    assert {"runs"} <= browser.look() <= {"runs", "run", "compare", "now"} and page.drawn == ["show_runs"]
    tell(page, "run 0003", Warned("A line for the log."))
    page.drawn.clear()
    assert "log" in browser.look() and "A line for the log." in browser.shown("log")
    assert set(page.drawn) <= {"draw_losses", "show_samples", "show_log", "show_runs"}
    assert browser.look() == set()


def test_two_browsers_are_each_sent_what_they_have_not(page):
    first, second = Browser(page.watch), Browser(page.watch)
    first.selected = "run 0001"  # else it shows what was worked on last
    first.look()
    assert "runs" in second.look()
    second.selected = "run 0005"
    assert "chart" in second.look() and first.look() == set()
    tell(page, "run 0005", step(41))
    assert "status" in second.look() and "run 0005" in second.shown("status")
    assert not {"status", "chart", "log"} & first.look()
    first.selected = "run 0005"
    assert {"chart", "log", "status"} <= first.look()
    assert first.look() == second.look() == set()
    first.selected, first.compared = "run 0001", ["run 0005", "no such run"]
    first.look()
    assert first.shown("chart").count("<polyline") == 2 and first.shown("compare") == ["run 0005"]


def test_a_run_that_cannot_be_read_is_shown_so_and_the_page_goes_on(page):
    events = page.watch._jobs.folder / "run 0002" / "events.jsonl"
    events.unlink()
    events.mkdir()  # as good as a file that may not be read
    browser = Browser(page.watch)
    browser.selected, browser.compared = "run 0002", ["run 0001"]
    browser.look()
    assert "cannot read" in browser.shown("status") and "unreadable" in browser.shown("runs")
    assert browser.news[[w.elem_id for w in page.watch._drawn].index("hotlora_delete")]["interactive"]
    browser.selected, browser.compared = "run 0001", ["run 0002"]
    assert "chart" in browser.look() and browser.shown("chart").count("<svg") == 2
    assert browser.look() == set()


def test_an_answer_that_comes_late_takes_back_no_choice(page):
    """A look that was asked for before *Train* was pressed is answered after it: the new run must stay the one that is shown."""
    browser = Browser(page.watch)
    browser.selected, browser.compared = "run 0003", ["run 0001"]
    browser.look()
    make_runs(page.watch._jobs.folder / "more", 1, steps=3)
    (page.watch._jobs.folder / "more" / "run 0000").rename(page.watch._jobs.folder / "just started")
    assert {"run", "compare"} <= browser.look()
    places = [widget.elem_id for widget in page.watch._drawn]
    for name in ("run", "compare"):
        sent = browser.news[places.index(f"hotlora_{name}")]
        assert "just started" in str(sent["choices"]) and "value" not in sent


def test_a_deleted_run_leaves_every_page(page):
    browser = Browser(page.watch)
    browser.selected = "run 0004"
    browser.look()
    page.watch._jobs.delete("run 0004")
    assert {"runs", "run", "status"} <= browser.look() and "run 0004" not in browser.shown("runs")


def test_five_hundred_looks_take_no_more_memory_than_one_hundred(page):
    browsers = [Browser(page.watch), Browser(page.watch)]
    with measuring_page() as held:
        for number in range(500):
            for place, browser in enumerate(browsers):
                browser.selected = f"run {(number + place) % 12:04}"
                browser.look()
            if number == 100:
                before = held()
            page.drawn.clear()
        assert held() - before < 100_000  # of 800 looks
