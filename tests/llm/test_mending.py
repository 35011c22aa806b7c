"""What the report about texts offers: rows go, letters are mended, all else stays byte for byte, and every change is undone."""

import json
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.formats import read_texts
from hotlora.llm.health import find_health, report_health
from hotlora.llm.mending import ORIGINALS, TextMender
from hotlora.llm.spans import find_rows, take_out
from messy_texts import clean_rows, write_sheet

QUESTIONS = [
    ("Who keeps the lamp?", "The ferryman keeps it."),
    ("Where is it, said nobody?", "In Quillmere, by the old quay."),
    ("Who keeps the lamp?", "The ferryman keeps it."),
    ("When is it lit?", "At four."),
    ("When is it lit?", "At nine, always."),
    ("Wo ist der Hafen?", "Am Fluss, schÃ¶n gelegen, gegenÃ¼ber."),
    ("How deep is the lake?", "Ninety feet, they say."),
]
FORMS = ("jsonl", "json", "one line", "csv", "tsv", "crlf", "utf-16", "escaped")


def write(folder, form):
    rows = [{"question": question, "answer": answer} for question, answer in QUESTIONS]
    if form in ("jsonl", "crlf", "utf-16", "escaped"):
        lines = [json.dumps(row, ensure_ascii=form == "escaped") for row in rows]
        path, text = folder / "faq.jsonl", ("\r\n" if form == "crlf" else "\n").join(["", *lines])
    elif form in ("json", "one line"):
        path, text = folder / "faq.json", json.dumps(rows, ensure_ascii=False, indent=None if form == "one line" else 2) + "\n"
    else:
        comma = "\t" if form == "tsv" else ","
        cells = [[f'"{question}"', f'"{answer}"'] for question, answer in QUESTIONS]
        path, text = folder / f"faq.{form}", "\r\n".join(comma.join(row) for row in [["question", "answer"], *cells, ["", ""]])
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") if form == "utf-16" else text.encode("utf-8"))
    return path


def config_of(place):
    return build(TextConfig, {"train_data_dir": str(place), "output_name": "a", "on_bad_data": "skip"})


def remedies(config):
    return {finding.kind: vars(finding.remedy) for finding in report_health(config) if finding.remedy}


def pairs(config):
    return [tuple(message.content for message in example.messages) for example in read_texts(Path(config.train_data_dir), config).examples]


@pytest.mark.parametrize("whole", [True, False], ids=["file", "folder"])
@pytest.mark.parametrize("form", FORMS)
def test_each_remedy_does_what_it_says_leaves_nothing_to_report_and_is_undone_byte_for_byte(tmp_path, form, whole):
    path = write(tmp_path, form)
    config, before, mender = config_of(path if whole else tmp_path), path.read_bytes(), TextMender()
    assert remedies(config).keys() == {"same", "contradiction", "encoding"}
    told = [mender.mend(config, remedies(config)[kind]) for kind in ("same", "contradiction", "encoding")]
    assert told[0] == f"Left out 1 row of {path.name}. As it was before, it is kept in {ORIGINALS}." and "Left out 2 rows of" in told[1]
    mended = (QUESTIONS[5][0], "Am Fluss, schön gelegen, gegenüber.")
    assert pairs(config) == [QUESTIONS[0], QUESTIONS[1], mended, QUESTIONS[6]]
    assert remedies(config) == {} and {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {path.suffix}
    assert mender.count_steps(config) == 3
    assert [mender.undo(config).removeprefix("Undone: ")[:8] for _ in range(3)] == ["Mended t", "Left out", "Left out"]
    assert path.read_bytes() == before and mender.count_steps(config) == 0
    with pytest.raises(UserError, match="no text was mended here"):
        mender.undo(config)


def test_what_stays_is_not_touched_to_the_letter(tmp_path):
    lines = [f'{{"question":  "What is {n}?",\t"answer": "It is {n}.0e1", "id": {n}.50}}' for n in range(5)]
    path = tmp_path / "faq.jsonl"
    path.write_text("\n".join([*lines, lines[2]]), encoding="utf-8")
    TextMender().mend(config_of(path), remedies(config_of(path))["same"])
    assert path.read_text(encoding="utf-8") == "\n".join([*lines, ""])


def test_a_remedy_is_for_the_files_as_they_were_reported(tmp_path):
    path, mender = write(tmp_path, "jsonl"), TextMender()
    config = config_of(path)
    offered = remedies(config)
    mender.mend(config, offered["same"])
    before = path.read_bytes()
    with pytest.raises(UserError, match="changed since the report was made"):
        mender.mend(config, offered["contradiction"])
    assert path.read_bytes() == before
    path.write_bytes(before + b'{"question": "New?", "answer": "Yes, quite."}\n')
    with pytest.raises(UserError, match=r"faq.jsonl was changed meanwhile. What it held is .*\.hotlora-originals"):
        mender.undo(config)


def test_rows_that_differ_in_anything_are_not_called_the_same(tmp_path):
    rows = [{"question": "Who keeps it?", "answer": "The ferryman."}, {"question": "who keeps it?", "answer": "The ferryman."}]
    rows.append({**rows[0], "system": "Answer shortly."})
    path = tmp_path / "faq.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    (finding,) = report_health(config_of(path))
    assert finding.kind == "same" and len(finding.names) == 3 and finding.remedy is None


def test_a_file_of_another_form_is_left_as_it_is_and_that_is_said(tmp_path):
    rows = [*clean_rows(20), clean_rows(20)[3]]
    write_sheet(tmp_path / "faq.xlsx", rows)
    (tmp_path / "more.jsonl").write_text(
        json.dumps([dict(zip(("question", "answer"), row, strict=True)) for row in rows]), encoding="utf-8"
    )
    findings = [finding for _, found in find_health(config_of(tmp_path)) for finding in found]
    assert not any(finding.remedy for finding in findings)
    (told,) = (finding.said for finding in findings if finding.kind == "unfit")
    assert told.startswith("Nothing is mended here in: ") and "faq.xlsx" in told and "more.jsonl" in told


def test_no_file_is_left_without_a_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "When is it lit?", "answer": "At four."}\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(
        '{"question": "When is it lit?", "answer": "At nine, always."}\n{"question": "Who?", "answer": "The ferryman."}\n', encoding="utf-8"
    )
    assert remedies(config_of(tmp_path))["contradiction"]["names"] == ("b.jsonl, line 1",)


def test_a_file_that_nobody_may_read_does_not_keep_the_others_from_being_mended(tmp_path):
    write(tmp_path, "jsonl")
    (tmp_path / "z.jsonl").mkdir()
    (tmp_path / "y.jsonl").write_bytes(b"\xff\xfe\x00")
    config = config_of(tmp_path)
    assert remedies(config).keys() == {"same", "contradiction", "encoding"}
    assert TextMender().mend(config, remedies(config)["same"]).startswith("Left out 1 row of faq.jsonl.")


def test_messages_of_a_tree_do_not_go_alone(tmp_path):
    texts = ["Where is it, do you know?", "TODO"]
    rows = [
        {"message_id": str(n), "parent_id": str(n - 1) if n else None, "text": text, "role": "assistant" if n else "prompter"}
        for n, text in enumerate(texts)
    ]
    path = tmp_path / "tree.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert remedies(config_of(path)) == {}


def test_a_step_that_came_with_the_data_leads_nowhere_else(tmp_path):
    (tmp_path / "data").mkdir()
    config, mender = config_of(write(tmp_path / "data", "jsonl").parent), TextMender()
    secret = tmp_path / "secret.jsonl"
    secret.write_text("kept", encoding="utf-8")
    step = tmp_path / "data" / ORIGINALS / "000001"
    step.mkdir(parents=True)
    (step / "0 x").write_text("stolen", encoding="utf-8")
    (step / "step.json").write_text(json.dumps({"told": "x", "files": [["../secret.jsonl", "0 x", ""]]}), encoding="utf-8")
    assert mender.count_steps(config) == 0
    with pytest.raises(UserError, match="no text was mended here"):
        mender.undo(config)
    assert secret.read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("gone", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
def test_items_of_a_list_go_with_what_parts_them(gone):
    for text in ('[{"a": 1}, {"a": 2},\n {"a": 3}]', '[\n  {"a": 1},\n  {"a": 2},\n  {"a": 3}\n]\n'):
        rows = find_rows(text, ".json", {})
        left = json.loads(take_out(text, rows, [f"row {number + 1}" for number in gone]))
        assert [item["a"] - 1 for item in left] == [number for number in range(3) if number not in gone]
