"""Samples in a real browser: where their rows stand, and one large over the page."""

import pytest
from bench_runs import append, make_runs
from hotlora.engine.events import Finished, Previewed
from hotlora.ui.page import build_standalone_page
from PIL import Image
from toy_studio import toy_studio

ROW = "#hotlora_samples .hotlora-row"
FROM_END = f"() => {{ const r = document.querySelector('{ROW}'); return Math.round(r.scrollWidth - r.clientWidth - r.scrollLeft); }}"


@pytest.fixture
def add_sample(tmp_path):
    """``add_sample(step)`` to the one run there is, which has samples up to step 12."""
    make_runs(tmp_path / "runs", 1, steps=20)
    folder = tmp_path / "runs" / "run 0000"

    def add(step):
        Image.new("RGB", (64, 64), (step * 10, 0, 0)).save(folder / f"{step}.png")
        append(folder / "events.jsonl", [Previewed(step, "a cat", 1.0, 1, str(folder / f"{step}.png")), Finished(20, "done", {})])

    for step in range(1, 13):
        add(step)
    return add


def test_a_row_stands_at_its_newest_or_where_somebody_has_moved_it(serve, open_page, tmp_path, add_sample):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    page.locator(f"{ROW} figure[data-step='12']").wait_for()
    page.wait_for_function(f"({FROM_END})() === 0")
    add_sample(13)
    page.locator(f"{ROW} figure[data-step='13']").wait_for()
    page.wait_for_function(f"({FROM_END})() === 0")
    page.locator(ROW).evaluate("row => { row.scrollLeft -= 200; }")
    page.wait_for_function(f"({FROM_END})() === 200")
    add_sample(14)
    page.locator(f"{ROW} figure[data-step='14']").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate(FROM_END) == 200


def test_one_is_large_and_the_keys_go_through_its_steps(serve, open_page, tmp_path, add_sample):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    page.locator(f"{ROW} figure[data-step='12'] img").click()
    large = page.locator(".hotlora-large")
    large.get_by_text("12: a cat").wait_for()
    page.keyboard.press("ArrowLeft")
    large.get_by_text("11: a cat").wait_for()
    page.keyboard.press("Home")
    large.get_by_text("1: a cat", exact=True).wait_for()
    page.keyboard.press("Escape")
    large.wait_for(state="hidden")
