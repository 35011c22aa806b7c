"""Columns of unknown names are chosen on the page by looking at the first rows, and what is chosen is an option like others."""

import pytest
from hotlora.engine.jobs import Jobs
from hotlora.llm.config import TextConfig
from hotlora.tasks import TEXTS
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
