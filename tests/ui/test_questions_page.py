"""Questions about documents from the page, in a real browser and by HTTP: written in line, stopped, gone on with, reviewed row by row, and
trained on; and chats that become a data set."""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.access import Access
from hotlora.engine.examples import DataView, Example
from hotlora.engine.jobs import Jobs
from hotlora.llm.config import TextConfig
from hotlora.llm.questions.asking import Pair
from hotlora.llm.questions.desk import QuestionDesk
from hotlora.llm.questions.folder import QuestionFolder
from hotlora.llm.questions.passages import Passage
from hotlora.tasks import TEXTS
from hotlora.ui.api import build_router
from hotlora.ui.page import build_standalone_page
from hotlora.ui.question_views import show_review
from playwright.sync_api import expect
from toy import ToyHost, ToyTrainee
from toy_studio import toy_studio

DOCUMENT = "\n\n".join(
    f"# Lamp {number}\n\nThe lamp number {number} of Quillmere is lit at {number + 3}, and <b>nobody</b> else may touch it."
    for number in range(1, 8)
)
NAME = "handbook questions"


class Talker(ToyTrainee):
    """Answers as slowly as to be watched; every fifth question is none."""

    seconds = 0.05
    model = SimpleNamespace(name="small")

    def ask(self, prompt, max_tokens, temperature, seed):
        time.sleep(self.seconds)
        lamp = prompt.partition("# Lamp ")[2].partition("\n")[0]
        if "Answer this question" in prompt:
            return f"Lamp {lamp} is lit late, and nobody else may touch it.", True
        return ("", True) if lamp == "5" else (f"Question: When is lamp {lamp} lit, way {seed % 1000}?", True)


@dataclass
class Kept:
    key: str
    name: str
    partner: str
    day: str
    turns: int


class Chats:
    """Two conversations, as a host lists them."""

    def __init__(self, data: Path):
        self._data, self.used = data, []

    def list_chats(self):
        return [Kept("a.json", "About <lamps>", "", "2026-01-02 10:20", 3), Kept("b.json", "Moss", "Zoë", "2026-01-01 10:20", 1)]

    def use(self, keys, name):
        self.used.append((list(keys), name))
        folder = self._data / (name or "my chats")
        folder.mkdir(parents=True)
        (folder / "chats.jsonl").write_text('{"messages": []}\n', encoding="utf-8")
        return folder, f"{len(keys)} chats are in it."


def look(config):
    return DataView(1, [Example("questions.jsonl, line 1", f"looked at {Path(config.train_data_dir).name}")], [("examples", "1")], [])


def make_studio(tmp_path):
    jobs = Jobs(lambda: ToyHost(Talker), tmp_path / "runs", TextConfig, check_access=Access([tmp_path / "data", tmp_path / "docs"]).check)
    studio = toy_studio(tmp_path, questions=QuestionDesk(jobs, tmp_path / "data"), chats=Chats(tmp_path / "data"), data_word="texts")
    studio.jobs, studio.look_at, studio.shipped_presets, studio.upload_suffixes = jobs, look, TEXTS.presets, (".txt", ".md", ".jsonl")
    return studio


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "docs" / "handbook"
    folder.mkdir(parents=True)
    (folder / "lamps.md").write_text(DOCUMENT, encoding="utf-8")
    return folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def shoot(page, name):
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_they_are_written_stopped_gone_on_with_reviewed_and_trained_on(serve, open_page, tmp_path, monkeypatch, documents, size, theme):
    monkeypatch.setattr(Talker, "seconds", 1.0)
    page = open_page(serve(build_standalone_page(make_studio(tmp_path))), size=size, theme=theme)
    page.locator("#hotlora_beat i").first.wait_for(state="attached")  # it answers
    page.locator("#hotlora_questions").get_by_text("Questions about documents").first.click()
    page.locator("#hotlora_write_questions").click()
    page.locator("#hotlora_message", has_text="no documents are given").first.wait_for()
    page.locator("#hotlora_documents").locator("textarea, input").first.fill(str(documents))
    page.locator("#hotlora_write_questions").click()
    page.locator("#hotlora_questions_status b", has_text=re.compile(r"^[1-9] / 14")).wait_for()
    page.locator("#hotlora_now", has_text=NAME).first.wait_for(state="attached")
    expect(page.locator("#hotlora_write_questions").first).to_be_disabled()
    page.locator("#hotlora_stop_questions").click()
    page.locator("#hotlora_questions_status", has_text="Stopping after the question that is written now.").first.wait_for()
    page.locator("#hotlora_questions_status", has_text="Stopped. Write questions goes on").first.wait_for()
    expect(page.locator("#hotlora_stop_questions").first).to_be_disabled()
    assert "Stopping" not in page.locator("#hotlora_message").first.inner_text()
    monkeypatch.setattr(Talker, "seconds", 0.01)
    folder = tmp_path / "data" / NAME
    assert 1 <= len(rows_of(folder / "proposed.jsonl")) < 12
    page.locator("#hotlora_write_questions").click()
    page.locator("#hotlora_questions_status", has_text="Done. Review them").first.wait_for()
    status = page.locator("#hotlora_questions_status").first.inner_text()
    assert "14 / 14" in status and "2 dropped: the question is empty" in status
    assert len(rows_of(folder / "proposed.jsonl")) == 12 and not (folder / "questions.jsonl").exists()
    listed = page.locator("#hotlora_review [data-key]")
    page.wait_for_function("document.querySelectorAll('#hotlora_review [data-key]').length === 12")
    first = listed.nth(0)
    assert "and <b>nobody</b> else may touch it" in first.locator("blockquote").inner_text()
    shoot(page, f"questions-{size}-{theme}")
    first.locator("[data-part=answer]").fill("At four <i>sharp</i>.")
    first.locator("[data-verdict=accept]").click()
    page.wait_for_function("document.querySelectorAll('#hotlora_review [data-key]').length === 11")
    (row,) = rows_of(folder / "questions.jsonl")
    assert (row["question"], row["answer"], row["accepted"]) == (
        "When is lamp 1 lit, way " + row["question"][24:],
        "At four <i>sharp</i>.",
        True,
    )
    listed.nth(0).locator("[data-verdict=refuse]").click()
    page.wait_for_function("document.querySelectorAll('#hotlora_review [data-key]').length === 10")
    listed.nth(1).locator("[data-part=question]").fill("Which lamp?")
    listed.nth(0).locator("[data-part=question]").press("Control+Enter")
    page.wait_for_function("document.querySelectorAll('#hotlora_review [data-key]').length === 9")
    assert listed.nth(0).locator("[data-part=question]").input_value() == "Which lamp?", "what is written elsewhere is not lost"
    page.locator("#hotlora_review [data-review=switch]").click()
    page.locator("#hotlora_review [data-verdict=reopen]").first.wait_for()
    assert listed.count() == 1 and listed.nth(0).locator("textarea").first.get_attribute("readonly") is not None
    listed.nth(0).locator("[data-verdict=reopen]").click()
    page.locator("#hotlora_review", has_text="None was refused.").first.wait_for()
    page.locator("#hotlora_review [data-review=switch]").click()
    page.wait_for_function("document.querySelectorAll('#hotlora_review [data-key]').length === 10")
    page.locator("#hotlora_review [data-review=all][data-verdict=accept]").click()
    page.locator("#hotlora_review", has_text="Nothing is left to review.").first.wait_for()
    assert len(rows_of(folder / "questions.jsonl")) == 12 and rows_of(folder / "proposed.jsonl") == []
    page.locator("#hotlora_review [data-review=take]").click()
    page.locator("#hotlora_album", has_text=f"looked at {NAME}").first.wait_for()
    assert page.locator("#hotlora_train_data_dir").locator("textarea, input").first.input_value() == str(folder)
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]
    shoot(page, f"questions-taken-{size}-{theme}")


def test_hundreds_of_rows_are_turned_over_in_pages_without_stutter(serve, open_page, tmp_path):
    store = QuestionFolder(tmp_path / "data" / "many")
    store.settle({"model": "m"})
    for number in range(1, 451):
        passage = Passage("book.md", number, f"Passage {number}. " + "Nobody else may touch the lamp of Quillmere. " * 30)
        store.add(passage, 1, Pair(f"What is said in {number}?", f"This is said in {number}, and more than that."), "small")
    studio = make_studio(tmp_path)
    began = time.process_time()
    for start in range(0, 440, 20):
        assert len(show_review(studio.questions.review("many", start=start), ["many"])) < 100_000
    assert (time.process_time() - began) / 22 < 0.2, "a page takes no time, wherever it is"
    page = open_page(serve(build_standalone_page(studio)))
    page.locator("#hotlora_questions").get_by_text("Questions about documents").first.click()
    page.locator("#hotlora_review", has_text="1–20 / 450").first.wait_for()
    for start in range(21, 142, 20):
        page.locator("#hotlora_review [data-by='1']").click()
        page.locator("#hotlora_review", has_text=f"{start}–{start + 19} / 450").first.wait_for()
    page.locator("#hotlora_review [data-review=all][data-verdict=accept]").click()
    page.locator("#hotlora_review", has_text="141–160 / 430").first.wait_for()
    asked = [row["question"] for row in rows_of(tmp_path / "data" / "many" / "questions.jsonl")]
    assert asked == [f"What is said in {number}?" for number in range(141, 161)], "those that were shown, and no others"
    page.locator("#hotlora_review [data-by='-1']").click()
    page.locator("#hotlora_review", has_text="121–140 / 430").first.wait_for()
    shoot(page, "questions-many")


@pytest.mark.parametrize(("size", "theme"), [("desktop", "dark"), ("phone", "light")])
def test_chats_that_are_ticked_become_what_is_trained_on(serve, open_page, tmp_path, size, theme):
    studio = make_studio(tmp_path)
    page = open_page(serve(build_standalone_page(studio)), size=size, theme=theme)
    page.locator("#hotlora_beat i").first.wait_for(state="attached")
    page.locator("#hotlora_chats").get_by_text("Your chats").first.click()
    page.locator("#hotlora_list_chats").click()
    boxes = page.locator("#hotlora_chats_list li input")
    page.locator("#hotlora_chats_list", has_text="About <lamps>").first.wait_for()
    page.locator("#hotlora_chats_list [type=search]").fill("moss")
    page.locator("#hotlora_chats_list [data-chats=all]").click()
    assert [box.is_checked() for box in boxes.all()] == [False, True], "all that are shown"
    page.locator("#hotlora_chats_list [data-chats=none]").click()
    page.locator("#hotlora_chats_list [type=search]").fill("")
    boxes.nth(0).check()
    assert page.locator("#hotlora_chats_list [data-chats=chosen]").inner_text() == "1"
    shoot(page, f"chats-{size}-{theme}")
    page.locator("#hotlora_chats_name").locator("textarea, input").first.fill("ours")
    page.locator("#hotlora_use_chats").click()
    page.locator("#hotlora_message", has_text="1 chats are in it.").first.wait_for()
    page.locator("#hotlora_album", has_text="looked at ours").first.wait_for()
    assert studio.chats.used == [(["a.json"], "ours")]
    assert page.locator("#hotlora_train_data_dir").locator("textarea, input").first.input_value() == str(tmp_path / "data" / "ours")
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


def test_the_same_is_done_by_http_and_in_allowed_folders_only(tmp_path, documents):
    app = FastAPI()
    studio = make_studio(tmp_path)
    app.include_router(build_router(studio, None))
    client = TestClient(app)
    at = "/hotlora/v1/questions"
    assert client.get(at).json()["number"] == 0 and client.get(at).json()["data_sets"] == []
    begun = client.post(at, json={"options": {"train_data_dir": str(documents)}, "settings": {"questions_per_passage": 1}})
    assert begun.status_code == 202 and begun.json()["total"] == 7 and begun.json()["name"] == NAME
    again = client.post(at, json={"options": {"train_data_dir": str(documents)}, "settings": {}, "name": "other"})
    assert again.status_code == 400 and "some are being written" in again.json()["detail"]
    for _ in range(400):
        status = client.get(at).json()
        if not status["busy"]:
            break
        time.sleep(0.05)
    assert status["kept"] == 6 and status["dropped"] == [["the question is empty", 1]] and status["data_sets"] == [NAME]
    page = client.get(f"{at}/{NAME}?count=2&start=2").json()
    assert page["open"] == 6 and [row["number"] for row in page["rows"]] == [3, 4] and page["rows"][0]["source"] == "lamps.md"
    key = page["rows"][0]["key"]
    told = client.post(f"{at}/{NAME}", json={"verdict": "accept", "keys": [key], "texts": {key: ["Which?", "The third."]}})
    assert told.json() == {"message": "1 accepted, 5 left."}
    assert client.post(f"{at}/{NAME}", json={"verdict": "refuse"}).json() == {"message": "5 refused, 0 left."}
    assert rows_of(tmp_path / "data" / NAME / "questions.jsonl")[0]["question"] == "Which?"
    for body, said in (({"verdict": "burn"}, "that is none of"), ({"texts": {key: ["x"]}}, "Give both")):
        refused = client.post(f"{at}/{NAME}", json=body)
        assert refused.status_code == 400 and said in refused.json()["detail"]
    assert client.get(f"{at}/nothing").status_code == 400
    (tmp_path / "secret").mkdir()
    elsewhere = client.post(at, json={"options": {"train_data_dir": str(tmp_path / "secret")}, "settings": {}})
    assert elsewhere.status_code == 400 and "only these folders may be used" in elsewhere.json()["detail"]
    stranger = client.post(f"{at}/{NAME}", json={"verdict": "accept"}, headers={"origin": "http://evil.example"})
    assert stranger.status_code == 403
    assert [chat["key"] for chat in client.get("/hotlora/v1/chats").json()] == ["a.json", "b.json"]
    made = client.post("/hotlora/v1/chats", json={"keys": ["b.json"], "name": "moss"})
    assert made.status_code == 201 and made.json()["folder"] == str(tmp_path / "data" / "moss")
