"""Columns of unknown names are chosen on the page by looking at the first rows, and what is chosen is an option like others."""

import json
import os

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.access import Access
from hotlora.engine.jobs import Jobs
from hotlora.llm.config import TextConfig
from hotlora.tasks import TEXTS
from hotlora.ui.api import build_router
from hotlora.ui.page import build_page, build_standalone_page
from hotlora.ui.studio import open_studio
from messy_texts import clean_rows, messy_rows, write_sheet
from toy import ToyHost


@pytest.fixture
def studio(tmp_path):
    return open_studio(TEXTS, Jobs(ToyHost, tmp_path / "runs", TextConfig), tmp_path / "program")


def write_table(folder):
    rows = "\n".join(f"{number}\t{question}\t{answer}" for number, (question, answer) in enumerate(clean_rows(8)))
    folder.mkdir(exist_ok=True)
    (folder / "kunden.tsv").write_text(f"Nr\tWas der Kunde sagt\tWas wir sagen\n{rows}\n", encoding="utf-8")
    return folder


def choose(page, part, column):
    page.locator(f"#hotlora_column_{part} input").first.click()
    page.locator(f"#hotlora_column_{part} [role=option], #hotlora_column_{part} li", has_text=column).first.click()


def test_unknown_columns_open_by_themselves_and_are_chosen_from_lists(serve, open_page, tmp_path, studio):
    page = open_page(serve(build_standalone_page(studio)))
    page.set_default_timeout(120_000)  # the first look loads what reads texts
    page.locator("#hotlora_train_data_dir textarea").first.fill(str(write_table(tmp_path / "data")))
    page.locator("#hotlora_look").first.click()
    page.locator(".hotlora-columns th", has_text="Was der Kunde sagt").wait_for()
    assert page.locator(".hotlora-columns tbody tr").count() == 5
    choose(page, "question", "Was der Kunde sagt")
    choose(page, "answer", "Was wir sagen")
    page.locator("#hotlora_look").first.click()
    page.locator("#hotlora_album figure").first.wait_for()
    assert page.locator("#hotlora_album figure").count() == 8
    page.locator("#hotlora_mapping").first.wait_for(state="hidden")
    page.locator("#hotlora_columns_open").first.click()
    known = page.locator("#hotlora_mapping .hotlora-hint", has_text="These names are known")
    known.wait_for()
    page.locator("#hotlora_train_data_dir textarea").first.fill(str(tmp_path / "other"))
    known.wait_for(state="hidden")
    assert page.locator("#hotlora_column_question").first.is_hidden(), "they are the other table's columns"


def test_what_is_chosen_becomes_the_option_and_comes_back_with_the_form(studio, tmp_path):
    page = build_page(studio).hotlora
    section, options = page.data._columns, page.recipe.options
    none = ["none"] * 7
    text = section._choose("Was der Kunde sagt", "Was wir: sagen", *none[2:])
    values = options.values(options.show({}) if not text else [text if name == "columns" else "" for name in options.names])
    assert values["columns"] == {"question": "Was der Kunde sagt", "answer": "Was wir: sagen"}
    assert section._choose(*none) == ""
    write_table(tmp_path / "data")
    shown = options.show({"train_data_dir": str(tmp_path / "data"), "columns": {"answer": "Was wir sagen"}})
    _, group, table, *parts = section._show(*shown)
    assert group["visible"] and "Was der Kunde sagt" in table
    assert [part["value"] for part in parts] == ["none", "Was wir sagen", *none[2:]]
    assert parts[0]["choices"] == ["none", "Nr", "Was der Kunde sagt", "Was wir sagen"]


def test_a_text_page_has_a_health_report_that_names_rows(serve, open_page, tmp_path, studio):
    write_sheet(tmp_path / "messy.xlsx", messy_rows()[0])
    page = open_page(serve(build_standalone_page(studio)))
    page.locator("#hotlora_train_data_dir textarea").first.fill(str(tmp_path / "messy.xlsx"))
    page.set_default_timeout(120_000)
    page.locator("#hotlora_examine").first.click()
    page.locator("#hotlora_health li", has_text="messy.xlsx, row 22; messy.xlsx, row 322").wait_for()
    assert page.locator("#hotlora_health button").count() == 0 and "Characters: " in page.locator("#hotlora_health").first.inner_text()


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_what_a_text_report_offers_is_done_and_undone_by_a_press(serve, open_page, tmp_path, studio, size, theme):
    rows = [*clean_rows(6), clean_rows(6)[2]]
    path = tmp_path / "faq.jsonl"
    path.write_text("".join(f"{json.dumps({'question': asked, 'answer': answer})}\n" for asked, answer in rows), encoding="utf-8")
    before = path.read_bytes()
    page = open_page(serve(build_standalone_page(studio)), size=size, theme=theme)
    page.set_default_timeout(120_000)
    page.locator("#hotlora_train_data_dir textarea").first.fill(str(path))
    page.locator("#hotlora_look").first.click()
    page.locator("#hotlora_album figure").nth(6).wait_for()
    page.locator("#hotlora_examine").first.click()
    button = page.locator("#hotlora_health [data-remedy]", has_text="Keep one of each")
    button.wait_for()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    button.click()
    page.locator("#hotlora_message", has_text="Left out 1 row of faq.jsonl. As it was before, it is kept in").first.wait_for()
    assert "1: faq.jsonl, line 7" in asked[0] and "kept beside as they are" in asked[0]
    page.wait_for_function("document.querySelectorAll('#hotlora_album figure').length === 6")
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/text-health-{size}-{theme}.png", full_page=True)
    page.locator("#hotlora_health [data-undo]:not([disabled])").click()
    page.locator("#hotlora_message", has_text="Undone: Left out 1 row of faq.jsonl").first.wait_for()
    page.wait_for_function("document.querySelectorAll('#hotlora_album figure').length === 7")
    assert path.read_bytes() == before
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


def test_the_same_is_done_by_http_in_allowed_folders_only(tmp_path):
    jobs = Jobs(ToyHost, tmp_path / "runs", TextConfig, check_access=Access([tmp_path / "data"]).check)
    app = FastAPI()
    app.include_router(build_router(open_studio(TEXTS, jobs, tmp_path / "program"), None))
    client, row = TestClient(app), '{"question": "Who keeps the lamp?", "answer": "The ferryman keeps it."}\n'
    for name in ("data", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "faq.jsonl").write_text(row * 2, encoding="utf-8")
    options = {"train_data_dir": str(tmp_path / "data"), "on_bad_data": "skip"}
    (finding,) = (found for found in client.post("/hotlora/v1/data/report", json=options).json() if found["remedy"])
    assert finding["remedy"]["names"] == ["faq.jsonl, line 2"]
    done = client.post("/hotlora/v1/data/mend", json={"options": options, "remedy": finding["remedy"]})
    assert done.json()["message"].startswith("Left out 1 row") and (tmp_path / "data" / "faq.jsonl").read_text(encoding="utf-8") == row
    again = client.post("/hotlora/v1/data/mend", json={"options": options, "remedy": finding["remedy"]})
    assert again.status_code == 400 and "Make the report anew" in again.json()["detail"]
    assert client.post("/hotlora/v1/data/undo", json={"options": options}).status_code == 200
    assert (tmp_path / "data" / "faq.jsonl").read_text(encoding="utf-8") == row * 2
    elsewhere = {"options": {**options, "train_data_dir": str(tmp_path / "secret")}, "remedy": finding["remedy"]}
    refused = client.post("/hotlora/v1/data/mend", json=elsewhere)
    assert refused.status_code == 400 and "only these folders may be used" in refused.json()["detail"]
    assert (tmp_path / "secret" / "faq.jsonl").read_text(encoding="utf-8") == row * 2
