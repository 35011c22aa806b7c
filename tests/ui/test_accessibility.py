"""axe-core looks at the whole page: contrast, names of fields, order of headings, roles, in the light and the dark, wide and narrow."""

import dataclasses

import pytest
from axe_playwright_python.sync_playwright import Axe
from hotlora.engine.examples import DataView, Example
from hotlora.tasks import IMAGES
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from toy_studio import make_three_runs, toy_studio

SEEN = [("desktop", "light"), ("phone", "dark")]


def find_violations(page, place="#hotlora_page"):
    """What axe-core finds in our page, a line each. The program around it is not ours, nor what Gradio lays over what it redraws."""
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}
    found = Axe().run(page, context={"include": [place], "exclude": [".wrap.hide"]}, options=options).response["violations"]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.fixture
def studio(tmp_path):
    """Runs with samples and a grade, and pictures of which one lacks its caption and one cannot be read."""
    make_three_runs(tmp_path / "runs")
    make_pictures(tmp_path / "cats", 5)
    (tmp_path / "cats" / "picture 1.txt").unlink()
    (tmp_path / "cats" / "picture 2.png").write_bytes(b"no picture")
    make_pictures(tmp_path / "cats" / ".masks", 1)
    (tmp_path / "cats" / "picture 3.txt").write_text("long, " * 200, encoding="utf-8")
    return toy_studio(tmp_path, editor=IMAGES.make_editor())


@pytest.mark.parametrize(("size", "theme"), SEEN)
def test_a_page_full_of_everything(serve, open_page, tmp_path, studio, size, theme):
    page = open_page(serve(build_standalone_page(studio)), size=size, theme=theme)
    for option, value in (("train_data_dir", tmp_path / "cats"), ("resolution", 64), ("trigger_word", "ohwx")):
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_album .hotlora-problem").wait_for()
    page.locator("#hotlora_album .hotlora-warning").first.wait_for()
    page.locator('#hotlora_album [data-name="picture 0.png"] img').click()
    page.locator("#hotlora_editor_place .hotlora-place").wait_for()
    page.locator("#hotlora_album .hotlora-has-mask").first.wait_for()
    page.locator("#hotlora_mask").first.click()
    page.locator("dialog.hotlora-mask canvas").wait_for()
    assert find_violations(page, "dialog.hotlora-mask") == []
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_text("Advanced", exact=True).first.click()
    for heading in page.locator(".hotlora-heading").all():
        heading.click()
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_answer .hotlora-bad").wait_for()
    page.locator("#hotlora_samples img").first.wait_for()
    assert find_violations(page) == []


@pytest.mark.parametrize(("size", "theme"), SEEN)
def test_texts_with_what_is_learned_of_them(serve, open_page, tmp_path, size, theme):
    spans = (("Who? ", False), ("She.", True))
    judged = [("no answer", ""), ("", "too long"), ("", "")]
    view = DataView(3, [Example("a, line 1", "Who? She.", problem=problem, warning=warning, spans=spans) for problem, warning in judged])
    studio = dataclasses.replace(toy_studio(tmp_path), look_at=lambda config: view)
    page = open_page(serve(build_standalone_page(studio)), size=size, theme=theme)
    page.locator("#hotlora_train_data_dir").locator("textarea, input").first.fill(str(tmp_path))
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_album mark").first.wait_for()
    assert find_violations(page) == []
