"""Workbooks, Word, PDF and Parquet files as data, made by the libraries that write them: every row with its place, nothing in silence."""

import datetime
import re
import sys
from pathlib import Path

import docx
import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.conversation import Document
from hotlora.llm.formats import Texts, read_texts
from office_files import write_pdf

HEADER = ["Frage", "Antwort"]


def read(path: Path, **options) -> Texts:
    return read_texts(path, build(TextConfig, {"on_bad_data": "skip", "output_name": "a", **options}))


def pairs(texts: Texts) -> list[tuple[str, ...]]:
    return [(e.text,) if isinstance(e, Document) else tuple(message.content for message in e.messages) for e in texts.examples]


def sources(texts: Texts) -> list[str]:
    return [example.source for example in texts.examples]


def save(path: Path, **sheets) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return book


# -- workbooks -----------------------------------------------------------------------------------------------------------


def test_a_sheet_is_read_like_the_csv_of_it(tmp_path):
    rows = [HEADER, ["Wer?", "Er."], ["Wo?\nDort?", 'Im "Süden"; dort.'], [None, None], ["Wann?", "Um neun."]]
    save(tmp_path / "häufige Fragen.xlsx", Tabelle1=rows)
    texts = read(tmp_path / "häufige Fragen.xlsx")
    assert pairs(texts) == [("Wer?", "Er."), ("Wo?\nDort?", 'Im "Süden"; dort.'), ("Wann?", "Um neun.")]
    assert sources(texts) == [f"häufige Fragen.xlsx, row {number}" for number in (2, 3, 5)]
    assert not texts.problems and not texts.notes()


def test_numbers_dates_and_signs_are_what_the_sheet_shows(tmp_path):
    values = [3, 2.5, 3.0, True, datetime.datetime(2026, 3, 5), datetime.datetime(2026, 3, 5, 14, 30), datetime.time(9, 5)]
    book = save(path := tmp_path / "a.xlsx", A=[HEADER, *[[f"Wie {place}?", value] for place, value in enumerate(values)], ["%?", 0.155]])
    book["A"].cell(2 + len(values), 2).number_format = "0.0%"
    book["A"].cell(4, 2).number_format = "0.00"
    book.save(path)
    answers = [answer for _, answer in pairs(read(path))]
    assert answers == ["3", "2.5", "3.00", "TRUE", "2026-03-05", "2026-03-05 14:30", "09:05", "15.5%"]


def test_cells_joined_downwards_hold_for_each_row_and_titles_above_the_names_are_left_out(tmp_path):
    rows = [["Our FAQ"], [], ["question", "answer", "system"], ["Who?", "He.", "Be kind."], ["Where?", "There.", None], ["When?", "", "-"]]
    book = save(path := tmp_path / "a.xlsx", A=rows)
    book["A"].merge_cells("C4:C5")
    book["A"].merge_cells("A1:C1")
    book.save(path)
    texts = read(path)
    assert pairs(texts) == [("Be kind.", "Who?", "He."), ("Be kind.", "Where?", "There.")]
    assert texts.problems == ["a.xlsx, row 6: its answer is empty."]
    assert texts.notes() == ["a.xlsx, row 1: it stands above the names of the columns, and is not read."]


def test_hidden_and_foreign_sheets_are_left_out_and_told_and_hidden_rows_are_learned_and_told(tmp_path):
    lists = [["Yes"], ["No"]]
    book = save(
        path := tmp_path / "a.xlsx", One=[HEADER, ["Wer?", "Er."], ["Was?", "Das."]], Two=[HEADER, ["Wo?", "Da."]], L=lists, H=lists
    )
    book["H"].sheet_state = "hidden"
    book["One"].row_dimensions[3].hidden = True
    book.save(path)
    texts = read(path)
    assert sources(texts) == ["a.xlsx, sheet One, row 2", "a.xlsx, sheet One, row 3", "a.xlsx, sheet Two, row 2"]
    assert not texts.problems
    hidden, foreign, away = texts.notes()
    assert "hidden rows" in hidden and "sheet One, row 3" in hidden and "row 2" not in hidden
    assert foreign.startswith("a.xlsx, sheet L: ") and away == "a.xlsx, sheet H: it is hidden, and is not read."


def test_formulas_without_values_and_errors_are_told_by_their_cells(tmp_path):
    book = save(path := tmp_path / "a.xlsx", A=[HEADER, ["Wie viel?", "=1+1"], ["Wer?", "#N/A"], ["Wo?", "Da."]])
    book["A"]["B3"].data_type = "e"
    book["A"]["C2"] = "=2"  # nothing that is learned
    book.save(path)
    texts = read(path)
    assert pairs(texts) == [("Wo?", "Da.")]
    first, second = texts.problems
    assert first.startswith("a.xlsx, row 2: ") and "the formula in B2" in first and "Save it in Excel" in first
    assert second.startswith("a.xlsx, row 3: ") and "its cell B3 is the error #N/A" in second


def test_two_columns_without_names_are_question_and_answer_which_is_told(tmp_path):
    save(path := tmp_path / "a.xlsx", A=[[None, "Who keeps the lamp?", "She does."], [None, "Where is it?", "At the ferry."]])
    texts = read(path)
    assert pairs(texts)[0] == ("Who keeps the lamp?", "She does.") and "its first row" in texts.notes()[0]


# -- Word, PDF, Parquet ---------------------------------------------------------------------------------------------------


def make_word(path: Path, *parts) -> Path:
    document = docx.Document()
    for part in parts:
        if isinstance(part, str):
            document.add_paragraph(part)
            continue
        table = document.add_table(rows=len(part), cols=len(part[0]))
        for cells, texts in zip(table.rows, part, strict=True):
            for cell, text in zip(cells.cells, texts, strict=True):
                cell.text = text
    document.save(path)
    return path


def test_tables_with_known_names_in_a_word_file_are_rows_and_the_text_beside_them_is_told(tmp_path):
    texts = read(make_word(tmp_path / "a.docx", "Our answers", [HEADER, ["Wer?", "Er."]], [HEADER, ["Wo?", ""], ["Was?", "Das."]]))
    assert pairs(texts) == [("Wer?", "Er."), ("Was?", "Das.")]
    assert sources(texts) == ["a.docx, table 1, row 2", "a.docx, table 2, row 3"]
    assert texts.problems == ["a.docx, table 2, row 2: its answer is empty."]
    assert "not learned (11 characters)" in texts.notes()[0]


def test_other_word_files_are_text_and_speakers_are_heard(tmp_path):
    plain = make_word(tmp_path / "a.docx", "One.", [["x", "y"]], "Two.")
    assert pairs(read(plain)) == [("One.\nx\ty\nTwo.",)]
    assert pairs(read(make_word(tmp_path / "b.docx", "Q: Who?", "A: He.", "", "Q: Where?", "A: There."))) == [
        ("Who?", "He."),
        ("Where?", "There."),
    ]


def test_a_pdf_is_one_text_and_pages_without_text_are_told(tmp_path):
    texts = read(write_pdf(tmp_path / "a.pdf", [["First page."], [], ["Third page."]]))
    assert pairs(texts) == [("First page.\nThird page.",)]
    assert "page 2" in texts.notes()[0]


def test_parquet_rows_are_read_like_json(tmp_path):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}]
    table = pyarrow.table({"messages": [turns, turns[:1], turns], "day": [datetime.date(2026, 1, 2)] * 3})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    texts = read(tmp_path / "a.parquet")
    assert pairs(texts) == [("Who?", "He.")] * 2 and sources(texts) == ["a.parquet, row 1", "a.parquet, row 3"]
    assert texts.problems == ["a.parquet, row 2: no turn in it is the assistant's."]
    assert "day (2)" in texts.notes()[0]


# -- what cannot be read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".xlsx", ".docx", ".pdf", ".parquet"])
@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04\x00", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)])
def test_what_is_no_such_file_says_so_and_no_more(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    (tmp_path / "b.txt").write_text("Text.")
    texts = read(tmp_path)
    assert len(texts.problems) == 1 and texts.problems[0].startswith(f"a{suffix}: it ") and pairs(texts) == [("Text.",)]


def test_damaged_files_of_every_kind_raise_nothing_but_user_errors(tmp_path):
    save(tmp_path / "a.xlsx", A=[HEADER, ["Wer?", "Er."]])
    make_word(tmp_path / "a.docx", "Text.", [HEADER, ["Wer?", "Er."]])
    write_pdf(tmp_path / "a.pdf", [["Text."]])
    pyarrow.parquet.write_table(pyarrow.table({"text": ["One."]}), tmp_path / "a.parquet")
    for path in sorted(tmp_path.glob("a.*")):
        whole = path.read_bytes()
        for cut in range(1, len(whole), max(1, len(whole) // 20)):
            for damaged in (whole[:cut], whole[:cut] + bytes(9) + whole[cut + 9 :]):
                path.write_bytes(damaged)
                try:
                    read(path)
                except UserError as error:
                    assert path.name in str(error)


@pytest.mark.parametrize(("suffix", "package"), [(".xlsx", "openpyxl"), (".pdf", "pypdf"), (".parquet", "pyarrow")])
def test_a_missing_package_is_one_sentence_that_says_how_to_add_it(tmp_path, monkeypatch, suffix, package):
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"takes the package {package}, which is missing. .* or add it .* install --no-deps {package}"):
        read(tmp_path)


# -- columns of other names ------------------------------------------------------------------------------------------------


def test_columns_says_which_is_which_in_every_kind_of_file(tmp_path):
    said, columns = [["Was man hört", "Was man sagt"], ["Wer?", "Er."]], {"question": "Was man hört", "answer": "was man SAGT"}
    save(tmp_path / "a.xlsx", A=[["Titel"], *said])
    make_word(tmp_path / "b.docx", said)
    (tmp_path / "c.csv").write_text("\n".join(";".join(row) for row in said), encoding="utf-8")
    (tmp_path / "d.jsonl").write_text('{"Was man hört": "Wer?", "Was man sagt": "Er."}', encoding="utf-8")
    pyarrow.parquet.write_table(
        pyarrow.table(dict(zip(*[map(str, said[0]), [[cell] for cell in said[1]]], strict=True))), tmp_path / "e.parquet"
    )
    texts = read(tmp_path, columns=columns)
    assert pairs(texts) == [("Wer?", "Er.")] * 5 and not texts.problems


def test_a_column_that_has_the_name_but_is_not_meant_is_not_learned_and_told(tmp_path):
    (tmp_path / "a.csv").write_text("id;question;Frage;answer\n1;Who?;Wer?;Er.\n", encoding="utf-8")
    texts = read(tmp_path, columns={"question": "Frage"})
    assert pairs(texts) == [("Wer?", "Er.")]
    assert "question (columns names another) (1)" in texts.notes()[0]


def test_columns_that_are_not_there_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("Frage;Antwort\nWer?;Er.\n", encoding="utf-8")
    assert "columns: no file has what it names (Question text)" in read(tmp_path, columns={"question": "Question text"}).problems[0]
    with pytest.raises(UserError, match=re.escape("columns names Antwrt, and its columns are Frage, Antwort. Correct columns")):
        read(tmp_path, columns={"question": "Frage", "answer": "Antwrt"})
    with pytest.raises(UserError, match="cannot use columns with quest: Frage"):
        read(tmp_path, columns={"quest": "Frage"})


def test_names_that_are_not_known_are_refused_with_how_to_say_them(tmp_path):
    (tmp_path / "a.csv").write_text("Kunde;Wir;Datum\nWer?;Er.;1\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=re.escape("its first line (Kunde;Wir;Datum) does not name columns that are known. Write") + ".*columns"
    ):
        read(tmp_path)
