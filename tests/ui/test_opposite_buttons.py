"""Accepting and refusing lie apart: on a phone a thumb does not do the one for the other."""

import dataclasses
import os

import pytest
from hotlora.captioning.captioner import CaptionerKind
from hotlora.captioning.desk import CaptionDesk
from hotlora.engine.jobs import Jobs
from hotlora.llm.config import TextConfig
from hotlora.llm.questions.asking import Pair
from hotlora.llm.questions.desk import QuestionDesk
from hotlora.llm.questions.folder import QuestionFolder
from hotlora.llm.questions.passages import Passage
from hotlora.tasks import IMAGES
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from toy import ToyHost
from toy_studio import toy_studio

_APART_PIXELS, _HIGH_PIXELS = 16, 32


def check_apart(one, other):
    a, b = one.bounding_box(), other.bounding_box()
    across = max(b["x"] - a["x"] - a["width"], a["x"] - b["x"] - b["width"])
    down = max(b["y"] - a["y"] - a["height"], a["y"] - b["y"] - b["height"])
    assert max(across, down) >= _APART_PIXELS, (a, b)
    assert min(a["height"], b["height"]) >= _HIGH_PIXELS, (a, b)


@pytest.fixture
def studio(tmp_path):
    kind = CaptionerKind("toy", "Toy", lambda settings: lambda paths, images: [f"seen {path.stem}" for path in paths])
    questions = QuestionDesk(Jobs(ToyHost, tmp_path / "runs", TextConfig), tmp_path / "data")
    studio = toy_studio(tmp_path, editor=IMAGES.make_editor(), questions=questions)
    return dataclasses.replace(studio, captions=CaptionDesk([kind]))


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_of_proposals_and_of_all_of_them(serve, open_page, tmp_path, studio, size):
    page = open_page(serve(build_standalone_page(studio)), size=size)
    page.locator("#hotlora_train_data_dir").locator("textarea, input").first.fill(str(make_pictures(tmp_path / "cats", 2)))
    page.locator("#hotlora_captions").get_by_text("Write captions").first.click()
    page.locator("#hotlora_as_proposals input").check()
    page.locator("#hotlora_write_captions").click()
    row = page.locator("#hotlora_proposals li").nth(1)
    row.wait_for()
    page.locator("#hotlora_accept_all").wait_for()
    check_apart(page.locator("#hotlora_accept_all"), page.locator("#hotlora_refuse_all"))
    check_apart(row.locator("[data-accept='1']"), row.locator("[data-accept='0']"))
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/apart-captions-{size}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_of_questions_and_of_all_that_are_shown(serve, open_page, tmp_path, studio, size):
    store = QuestionFolder(tmp_path / "data" / "many")
    store.settle({"model": "m"})
    for number in range(1, 31):
        store.add(Passage("book.md", number, "A passage."), 1, Pair(f"What is said in {number}?", "This is said."), "small")
    page = open_page(serve(build_standalone_page(studio)), size=size)
    page.locator("#hotlora_questions").get_by_text("Questions about documents").first.click()
    row = page.locator("#hotlora_review [data-key]").first
    row.wait_for()
    check_apart(row.locator("[data-verdict=accept]"), row.locator("[data-verdict=refuse]"))
    of_all = page.locator("#hotlora_review [data-review=all]")
    check_apart(of_all.nth(0), of_all.nth(1))
    check_apart(of_all.nth(1), page.locator("#hotlora_review [data-by='-1']"))
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/apart-questions-{size}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]
