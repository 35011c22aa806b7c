"""Further folders on the page: rows that are entries of `datasets`, whatever else an entry holds."""

import json

import pytest
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from toy_studio import toy_studio
from waiting import wait_until


@pytest.fixture
def studio(tmp_path):
    return toy_studio(tmp_path)


@pytest.fixture
def page(serve, open_page, studio):
    page = open_page(serve(build_standalone_page(studio)))
    page.locator("#hotlora_folders .hotlora-add").wait_for()
    page.wait_for_function("document.querySelector('#hotlora_kept i') !== null")
    page.wait_for_timeout(2500)  # the kept form is drawn
    return page


def cell(page, row, name):
    return page.locator(".hotlora-folder").nth(row).locator(f"[data-cell={name}]")


def write(page, row, name, text):
    cell(page, row, name).fill(text)
    cell(page, row, name).press("Tab")


SET = "(box, text) => { box.value = text; box.dispatchEvent(new Event('input', { bubbles: true })); }"


def entries(page):
    text = page.locator("#hotlora_datasets textarea").input_value()
    return [json.loads(line) for line in text.splitlines()]


def test_folders_are_added_changed_removed_and_trained_on(page, studio, tmp_path):
    for name in ("cats", "people"):
        make_pictures(tmp_path / name, 1)
    assert page.locator("#hotlora_datasets textarea").is_hidden() and not page.locator(".hotlora-folder").count()
    page.locator("#hotlora_folders .hotlora-add").click()
    write(page, 0, "folder", str(tmp_path / "cats"))
    write(page, 0, "trigger_word", "zwx")
    write(page, 0, "repeats", "3")
    write(page, 0, "resolution", "512, 768")
    cell(page, 0, "flip_aug").check()
    page.locator("#hotlora_folders .hotlora-add").click()
    write(page, 1, "folder", str(tmp_path / "people"))
    cell(page, 1, "regularisation").check()
    write(page, 1, "trigger_word", "person")
    page.locator("#hotlora_folders .hotlora-add").click()  # left empty: it counts for nothing
    cats = {"folder": str(tmp_path / "cats"), "trigger_word": "zwx", "repeats": 3, "resolutions": [512, 768], "flip_aug": True}
    people = {"folder": str(tmp_path / "people"), "regularisation": True, "class_words": "person"}
    assert entries(page) == [cats, people]
    page.locator("#hotlora_output_name textarea, #hotlora_output_name input").first.fill("both")
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status [data-status=training]").wait_for()
    assert studio.jobs.values("both")["datasets"] == [cats, people]
    studio.jobs.stop("both")
    wait_until(lambda: studio.jobs.status("both") == "stopped")
    page.locator("#hotlora_folders .hotlora-remove").first.click()
    assert entries(page) == [people]


def test_what_a_row_does_not_show_stays_in_its_entry_also_after_a_refusal_and_a_reload(page):
    line = {"folder": "a", "shuffle_caption": True, "resolution": 640, "caption_prefix": "ä"}
    page.locator("#hotlora_datasets textarea").evaluate(SET, f"{json.dumps(line)}\nplain/folder")
    cell(page, 1, "folder").wait_for()
    assert cell(page, 1, "folder").input_value() == "plain/folder" and cell(page, 0, "resolution").input_value() == "640"
    assert "+ shuffle_caption + caption_prefix" in page.locator(".hotlora-folder").first.inner_text()
    write(page, 0, "weight", "0.5")
    write(page, 1, "repeats", "often")
    changed = [{**line, "weight": 0.5}, {"folder": "plain/folder", "repeats": "often"}]
    assert entries(page) == changed
    page.locator("#hotlora_output_name textarea, #hotlora_output_name input").first.fill("both")
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_answer .hotlora-bad", has_text="cannot use entry 2 of datasets: cannot set repeats to 'often'").wait_for()
    page.wait_for_timeout(2500)  # it is kept
    page.reload()
    cell(page, 1, "repeats").wait_for()
    assert cell(page, 1, "repeats").input_value() == "often" and entries(page) == changed
