"""A text run's checkpoints side by side on the page: answered, graded, read in full, put on the model, tidied."""

import dataclasses

import pytest
from hotlora.engine.jobs import Jobs
from hotlora.llm.config import TextConfig
from hotlora.tasks import TEXTS
from hotlora.ui.page import build_standalone_page
from test_accessibility import find_violations
from test_grid_page import open_comparing
from toy import ToyHost, ToyPreview, ToyTrainee
from toy_studio import toy_studio
from waiting import wait_until

RIGHT = '{"lamps": 12, "open": true}'


class Answerer(ToyTrainee):
    """Answers what the network says, so that each checkpoint answers something else; the finished one of two values has one right."""

    def write(self, adapters, path, notes):
        super().write(adapters, path / "adapter.safetensors", notes)
        return path

    def open(self, path):
        return super().open(path / "adapter.safetensors")

    def find_questions(self, count):
        return dict([("How <b>many</b> lamps?", RIGHT), ("Who?", "The ferryman.")][:count])

    def preview(self, request):
        said = f"{float(self.net(self.inputs[:1])[0, 0]):.4f}"
        return ToyPreview(f'{{"lamps": 12, "open": {said}}}' if request.wanted == RIGHT else f"<i>It is {said}</i>, {request.prompt} " * 9)


class Shelf:
    def __init__(self):
        self.on = {}

    def names(self):
        return ["cat", "cat-step00000002"]

    def applied(self):
        return self.on

    def apply(self, weights):
        self.on = dict(weights)
        return ""


@pytest.fixture
def studio(tmp_path):
    jobs = Jobs(lambda: ToyHost(Answerer), tmp_path / "runs", TextConfig)
    options = {"max_steps": 6, "save_steps": 2, "sample_prompts": ["Where is Quillmere?"], "sheet_weights": [], "sample_every_epochs": 0}
    jobs.start({"output_name": "cat", "base_model": "x", "train_data_dir": str(tmp_path), "tensorboard": False, **options})
    wait_until(lambda: jobs.find_job("cat") is None)
    of_the_task = {"draws_pictures": False, "grade": TEXTS.grade, "shipped_presets": TEXTS.presets, "data_word": "texts"}
    return dataclasses.replace(toy_studio(tmp_path), jobs=jobs, shelf=Shelf(), **of_the_task)


def have_answered(page, count):
    open_comparing(page)
    page.locator("#hotlora_grid_questions input").first.fill(str(count))
    page.locator("#hotlora_grid_draw").first.click()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_answers_stand_side_by_side_and_the_best_is_put_on_the_model(serve, open_page, studio, tmp_path, size):
    page = open_page(serve(build_standalone_page(studio)), size=size)
    page.locator('#hotlora_runs tr[data-name="cat"]').wait_for()
    have_answered(page, 2)
    assert not page.locator("#hotlora_grid_cfgs").first.is_visible()
    page.locator("#hotlora_grid_answer", has_text="15 answers at most").first.wait_for()
    page.locator("#hotlora_grid p", has_text="15 / 15 written").first.wait_for()
    table = page.locator("#hotlora_grid table").first
    heads = table.locator("thead th").all_inner_texts()
    assert [head.split()[:2] for head in heads] == [["step", "2"], ["step", "4"], ["step", "6"], ["best", "exact"], ["finished", "exact"]]
    assert all("exact match 0%" in head and "valid JSON 100%" in head and "right values 50%" in head for head in heads)
    assert [head.split("\n")[0] for head in table.locator("tbody th").all_inner_texts()] == [
        "Where is Quillmere?",
        "How <b>many</b> lamps?",
        "Who?",
    ]
    assert "right: The ferryman." in table.locator("tbody th").nth(2).inner_text()
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]

    table.locator("tbody tr").first.locator("pre").nth(1).click()
    large = page.locator(".hotlora-large")
    large.get_by_text("step 4, 1: Where is Quillmere?").wait_for()
    assert large.locator("pre").inner_text().startswith("<i>It is ") and not large.locator("img").is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    large.get_by_text("step 2, 1: How <b>many</b> lamps?").wait_for()
    large.get_by_text("Use this one").click()
    page.locator("#hotlora_grid_answer", has_text="Answers come with cat-step00000002 now.").first.wait_for()
    assert studio.shelf.on == {"cat-step00000002": 1.0}
    page.wait_for_function("document.querySelector('#hotlora_adapter_1 input').value === 'cat-step00000002'")

    table.locator("tbody pre").nth(1).click()
    large.get_by_text("Use this one").click()
    page.locator("#hotlora_grid_answer .hotlora-bad", has_text="no adapter of that name any more").first.wait_for()
    table.locator("tbody pre").nth(1).click()
    page.once("dialog", lambda dialog: dialog.accept())
    large.get_by_text("Keep only this one").click()
    page.locator("#hotlora_grid_answer", has_text="Removed 3 checkpoints").first.wait_for()
    assert {path.parent.name for path in (tmp_path / "runs").rglob("adapter.safetensors")} == {"cat", "cat-step00000004"}


def test_without_a_program_that_answers_none_can_be_put_on_a_model(serve, open_page, studio):
    page = open_page(serve(build_standalone_page(dataclasses.replace(studio, shelf=None))))
    page.locator('#hotlora_runs tr[data-name="cat"]').wait_for()
    have_answered(page, 0)
    page.locator("#hotlora_grid p", has_text="5 / 5 written").first.wait_for()
    page.locator("#hotlora_grid tbody pre").first.click()
    large = page.locator(".hotlora-large")
    large.get_by_text("Keep only this one").wait_for()
    assert not large.get_by_text("Use this one").is_visible()
