"""The list of runs in a real browser: what it shows, another name, a note, the archive, and the browser's notification."""

import dataclasses

import pytest
from hotlora.engine.jobs import Jobs
from hotlora.engine.marks import read_marks
from hotlora.sd.config import ImageConfig
from hotlora.ui.page import build_standalone_page
from toy import ToyHost
from toy_studio import SlowToy, make_three_runs, toy_studio

SPY = """() => {
    window.told = [];
    window.Notification = class {
        constructor(title, options) { window.told.push([title, options.body]); }
        static permission = 'default';
        static async requestPermission() { return this.permission = 'granted'; }
    };
}"""


@pytest.fixture
def runs(tmp_path):
    """Three finished runs, the first with a picture and a grade."""
    make_three_runs(tmp_path / "runs")
    return tmp_path / "runs"


def row(page, name):
    return page.locator(f'#hotlora_runs tr[data-name="{name}"]')


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_run_shows_its_picture_progress_and_score(serve, open_page, tmp_path, runs, size):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))), size=size)
    row(page, "run 0000").locator("img").wait_for()
    shown = row(page, "run 0000").inner_text()
    assert "60%" in shown and "20 /" in shown and row(page, "run 0000").locator(".hotlora-bar").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


def test_a_run_is_chosen_in_the_list_by_a_click_or_by_its_key(serve, open_page, tmp_path, runs):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    row(page, "run 0002").locator("td").nth(3).click()
    page.locator("#hotlora_status strong", has_text="run 0002").wait_for()
    row(page, "run 0000").get_by_role("button", name="run 0000").press("Enter")
    page.locator("#hotlora_status strong", has_text="run 0000").wait_for()
    row(page, "run 0000").locator("[aria-pressed=true]").wait_for()
    assert page.locator("#hotlora_run input").first.input_value() == "run 0000"
    assert row(page, "run 0002").locator("[aria-pressed=true]").count() == 0


def test_a_run_is_renamed_noted_and_put_away(serve, open_page, tmp_path, runs):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    row(page, "run 0000").wait_for()
    page.locator("#hotlora_keeping").get_by_text("Name and note").click()
    chosen = page.locator("#hotlora_run input").first.input_value()
    field = "#hotlora_run_name textarea, #hotlora_run_name input"
    page.wait_for_function("([field, name]) => document.querySelector(field).value === name", arg=[field, chosen])
    page.locator("#hotlora_note textarea").fill("the <b>good</b> one")
    page.locator("#hotlora_keep_note").click()
    row(page, chosen).get_by_text("the <b>good</b> one").wait_for()
    page.locator(field).first.fill("tiger")
    page.locator("#hotlora_rename").click()
    row(page, "tiger").get_by_text("the <b>good</b> one").wait_for()
    page.locator("#hotlora_status strong", has_text="tiger").wait_for()
    assert not (runs / chosen).exists() and read_marks(runs / "tiger").note == "the <b>good</b> one"
    page.locator("#hotlora_archive").click()
    row(page, "tiger").wait_for(state="detached")
    page.locator("#hotlora_show_archived input").check()
    row(page, "tiger").get_by_text("archived").wait_for()


def test_runs_left_in_line_are_told_without_a_hole_below(serve, open_page, tmp_path, runs):
    """The place of the data is longer than what stands beside it."""
    events = runs / "run 0000" / "events.jsonl"
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    events.write_text("".join(line for line in lines if "finished" not in line.lower()), encoding="utf-8")
    (runs / "queue.json").write_text('["run 0000"]', encoding="utf-8")
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    page.locator("#hotlora_left_runs li").first.wait_for()
    assert "at step 20 · steps after" in page.locator("#hotlora_left_runs li").first.inner_text()
    buttons, status = (page.locator(name).first.bounding_box() for name in ("#hotlora_forget_left", "#hotlora_status"))
    assert 0 <= status["y"] - buttons["y"] - buttons["height"] < 80


def test_the_browser_tells_of_an_end_once_it_was_asked_to(serve, open_page, tmp_path, runs):
    studio = toy_studio(tmp_path)
    page = open_page(serve(build_standalone_page(studio)))
    page.evaluate(SPY)
    row(page, "run 0000").wait_for()
    page.locator("#hotlora_tell").click()
    page.locator("#hotlora_tell[aria-pressed=true]").wait_for()
    studio.jobs.start({"output_name": "cat", "max_steps": 5000, "sheet_weights": [], "tensorboard": False})
    page.locator('#hotlora_runs tr[data-name="cat"][data-status="training"]').wait_for()
    page.wait_for_timeout(1500)  # it is looked at every second
    studio.jobs.stop("cat")
    page.wait_for_function("window.told.length === 1")
    assert page.evaluate("window.told") == [["cat", "It has ended."]]
    page.locator("#hotlora_tell").click()
    page.locator("#hotlora_tell[aria-pressed=false]").wait_for()


class Breakable(SlowToy):
    """Its card is taken out where ``broken`` is set."""

    broken = False

    def loss(self, batch, draws):
        if self.broken:
            raise RuntimeError("the card was taken out")
        return super().loss(batch, draws)


def test_the_browser_tells_that_a_run_waits_for_its_model_and_that_it_failed(serve, open_page, tmp_path, runs):
    host = ToyHost(Breakable)
    studio = dataclasses.replace(toy_studio(tmp_path), jobs=Jobs(lambda: host, runs, ImageConfig))
    page = open_page(serve(build_standalone_page(studio)))
    page.evaluate(SPY)
    row(page, "run 0000").wait_for()
    page.locator("#hotlora_tell").click()
    page.locator("#hotlora_tell[aria-pressed=true]").wait_for()
    studio.jobs.start({"output_name": "cat", "max_steps": 5000, "sheet_weights": [], "tensorboard": False, "slice_seconds": 0.1})
    page.locator('#hotlora_runs tr[data-name="cat"][data-status="training"]').wait_for()
    page.wait_for_timeout(1500)  # it is looked at every second
    host.away = True
    page.wait_for_function("window.told.length === 1")
    host.away = False
    page.locator('#hotlora_runs tr[data-name="cat"][data-status="training"]').wait_for()
    page.wait_for_timeout(1500)
    host.trainee.broken = True
    page.wait_for_function("window.told.length === 2")
    assert page.evaluate("window.told") == [["cat", "It waits for its model."], ["cat", "It has failed."]]


def test_nothing_is_asked_before_a_click(serve, open_page, tmp_path, runs):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    page.evaluate("() => { Notification.requestPermission = () => { window.asked = true; }; }")
    row(page, "run 0000").wait_for()
    assert page.evaluate("window.asked") is None
