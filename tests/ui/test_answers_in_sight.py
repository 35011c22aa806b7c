"""Whoever presses a button sees at once, where they look, that something goes on; and then the answer."""

import dataclasses

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.ui import now
from hotlora.ui.page import build_standalone_page
from toy import ToyHost
from toy_studio import Preparer, toy_studio


def fill(page, option, value):
    page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))


def is_in_sight(page, selector):
    return page.wait_for_function(
        """selector => {
            const box = document.querySelector(selector)?.getBoundingClientRect();
            return box && box.height > 0 && box.top < innerHeight && box.bottom > 0;
        }""",
        arg=selector,
    )


def test_a_refused_start_says_why_below_the_button(serve, open_page, tmp_path):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))), size="phone")
    page.locator("#hotlora_train").click()
    is_in_sight(page, "#hotlora_answer .hotlora-bad")
    button, told = page.locator("#hotlora_train").bounding_box(), page.locator("#hotlora_answer .hotlora-bad").bounding_box()
    assert 0 <= told["y"] - (button["y"] + button["height"]) < 60


def test_a_start_shows_its_run_in_watch_and_one_line_of_it_stays_in_sight(serve, open_page, tmp_path):
    studio = toy_studio(tmp_path)
    page = open_page(serve(build_standalone_page(studio)), size="phone")
    fill(page, "output_name", "cat")
    page.locator("[data-length=max_steps]").click()
    fill(page, "max_steps", 5000)
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status [data-status=training]").wait_for()
    is_in_sight(page, "#hotlora_status")
    page.locator("#hotlora_now").first.wait_for(state="hidden")  # the run itself is in sight
    page.evaluate("window.scrollTo(0, 0)")
    line = page.locator("#hotlora_now .hotlora-now", has_text="cat")
    line.wait_for()
    assert "5,000" in line.inner_text() and page.evaluate("document.documentElement.scrollWidth") <= 390
    line.click()
    is_in_sight(page, "#hotlora_status")
    studio.jobs.stop("cat")


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_the_line_is_sent_away_leaves_room_and_comes_again_when_the_run_ends(serve, open_page, tmp_path, monkeypatch, size):
    monkeypatch.setattr(now, "_ENDED_SECONDS", 6)
    studio = toy_studio(tmp_path)
    studio.jobs.start({"output_name": "cat", "max_steps": 100_000, "tensorboard": False, "train_data_dir": "x"})
    page = open_page(serve(build_standalone_page(studio)), size=size)
    line = page.locator("#hotlora_now .hotlora-now").first
    page.locator("#hotlora_status [data-status]").first.wait_for()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")  # where the run itself is not in sight
    line.wait_for()
    button = page.locator("#hotlora_look_ahead").first
    button.evaluate("button => button.scrollIntoView({ block: 'end' })")  # as a Tab to it does
    assert button.bounding_box()["y"] + button.bounding_box()["height"] <= line.bounding_box()["y"]
    page.locator("#hotlora_now .hotlora-dismiss").first.click()
    line.wait_for(state="hidden")
    page.wait_for_timeout(2500)  # it is not there again with the next news
    assert not line.is_visible()
    studio.jobs.stop("cat")
    page.locator("#hotlora_now .hotlora-now:visible", has_text="stopped").first.wait_for()
    line.wait_for(state="detached")


def test_a_look_ahead_counts_its_seconds_at_the_button(serve, open_page, tmp_path):
    jobs = Jobs(lambda: ToyHost(Preparer), tmp_path / "runs", ImageConfig)
    page = open_page(serve(build_standalone_page(dataclasses.replace(toy_studio(tmp_path), jobs=jobs))), size="phone")
    page.locator("#hotlora_look_ahead").click()
    is_in_sight(page, "#hotlora_outlook .hotlora-card")
    page.wait_for_function("parseInt(document.querySelector('#hotlora_outlook [data-elapsed]')?.textContent) >= 2")
    page.locator("#hotlora_cancel_look").click()
    page.locator("#hotlora_outlook", has_text="Cancelled.").first.wait_for()


def test_a_note_goes_when_it_is_no_longer_true_and_comes_again(serve, open_page, tmp_path):
    studio = toy_studio(tmp_path)
    studio.jobs.start({"output_name": "cat", "max_steps": 100_000, "tensorboard": False, "train_data_dir": "x"})
    page = open_page(serve(build_standalone_page(studio)))
    for _ in range(2):
        page.locator("#hotlora_pause:not([disabled])", has_text="Pause").click()
        page.locator("#hotlora_message", has_text="Pausing after this step.").first.wait_for()
        page.locator("#hotlora_status [data-status=paused]").wait_for()
        page.locator("#hotlora_message .hotlora-message").wait_for(state="detached")
        page.locator("#hotlora_pause", has_text="Go on").click()
        page.locator("#hotlora_status [data-status=training]").wait_for()
    studio.jobs.stop("cat")


def test_runs_that_wait_stand_in_their_order_and_are_moved(serve, open_page, tmp_path):
    studio = toy_studio(tmp_path)
    for name in ("first", "second", "third"):
        studio.jobs.start({"output_name": name, "max_steps": 100_000, "tensorboard": False, "train_data_dir": "x"})
    page = open_page(serve(build_standalone_page(studio)))
    names = "[...document.querySelectorAll('#hotlora_runs tbody tr')].map((row) => row.cells[1].textContent).join()"
    page.wait_for_function(f"{names} === 'first,second,third'")
    page.locator("#hotlora_delete[data-run=first]").wait_for(state="attached")  # it says whom
    page.locator("[data-run=third][data-move='-1']").click()
    page.wait_for_function(f"{names} === 'first,third,second'")
    assert studio.jobs.list_line() == ["first", "third", "second"]
    with pytest.raises(UserError, match="does not wait"):
        studio.jobs.move("first", 1)
    studio.jobs.move("second", 5)
    studio.jobs.move("third", -5)  # the one that trains keeps its place
    assert studio.jobs.list_line() == ["first", "third", "second"]
    for name in ("second", "third", "first"):
        studio.jobs.stop(name)


def test_each_of_many_problems_stands_on_a_line_of_its_own(serve, open_page, tmp_path):
    class Refusing(ToyHost):
        def borrow(self, config):
            raise UserError("cannot train on this data: 2 problems.\n- a.png: broken.\n- b.png: broken. Mend that.")

    studio = dataclasses.replace(toy_studio(tmp_path), jobs=Jobs(Refusing, tmp_path / "runs", ImageConfig))
    page = open_page(serve(build_standalone_page(studio)))
    fill(page, "train_data_dir", tmp_path)
    fill(page, "output_name", "cat")
    for button, place in (("look_ahead", "#hotlora_outlook [data-state=failed] p"), ("train", "#hotlora_status .hotlora-bad")):
        page.locator(f"#hotlora_{button}").click()
        told = page.locator(place, has_text="- b.png")
        told.wait_for()
        assert {"- a.png: broken.", "- b.png: broken. Mend that."} <= set(told.inner_text().splitlines())
