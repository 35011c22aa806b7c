"""What files of texts hold, whoever wrote them and however; and that whatever else they hold is said, and nothing worse happens."""

import csv
import io
import json
import random
import re
import sys
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.conversation import Conversation, Document
from hotlora.llm.formats import Texts, read_texts
from hotlora.llm.readers import TEXT_SUFFIXES

PAIR = [("user", "Who keeps the lamp?"), ("assistant", "The ferryman's daughter.")]
QUESTION, ANSWER = (text for _, text in PAIR)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "meine Texte ü"
    folder.mkdir()
    return folder


def config(on_bad_data: str = "stop") -> TextConfig:
    return build(TextConfig, {"train_data_dir": "data", "output_dir": "output/keeper", "on_bad_data": on_bad_data})


def write(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(path: Path) -> Texts:
    return read_texts(path, config())


def read_rows(folder: Path, *rows) -> Texts:
    return read(write(folder / "faq.json", json.dumps(rows)))


def said(texts: Texts) -> list:
    """What is in the examples, without their sources: the turns of a conversation, or a text."""
    return [
        [(turn.role, turn.content) for turn in example.messages] if isinstance(example, Conversation) else example.text
        for example in texts.examples
    ]


def sources(texts: Texts) -> list[str]:
    return [example.source for example in texts.examples]


def complaint(path: Path, on_bad_data: str = "stop") -> str:
    with pytest.raises(UserError) as caught:
        read_texts(path, config(on_bad_data))
    return str(caught.value)


# -- rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"instruction": QUESTION, "output": ANSWER}, "alpaca"),
        ({"instruction": QUESTION, "input": "", "output": ANSWER}, "alpaca"),
        ({"instruction": "", "input": QUESTION, "output": ANSWER}, "alpaca"),
        ({"instruction": QUESTION, "response": ANSWER, "category": "open_qa"}, "alpaca"),
        ({"instruction": QUESTION, "input": None, "output": ANSWER, "text": "Below is an instruction …"}, "alpaca"),
        ({"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]}, "ShareGPT"),
        ({"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]}, "messages"),
        (
            {
                "messages": [
                    {"role": "User", "content": [{"type": "text", "text": "Who "}, {"type": "text", "text": "keeps the lamp?"}]},
                    {"role": "model", "content": ANSWER},
                ]
            },
            "messages",
        ),
        ([{"role": "user", "content": QUESTION}, {"role": "bot", "content": ANSWER}], "messages"),
        ({"prompt": QUESTION, "completion": ANSWER}, "prompt/completion"),
        ({"prompt": QUESTION, "response": ANSWER}, "prompt/completion"),
        (
            {"prompt": [{"role": "user", "content": QUESTION}], "completion": [{"role": "assistant", "content": ANSWER}]},
            "prompt/completion",
        ),
        ({"id": 7, "question": QUESTION, "answer": ANSWER, "source": "wiki"}, "question/answer"),
        ({" Question ": f"\n {QUESTION} ", "ANSWER": f"{ANSWER}\n\n"}, "question/answer"),
        ({"Q": QUESTION, "A": ANSWER}, "question/answer"),
        ({"query": QUESTION, "reply": ANSWER}, "question/answer"),
        ({"Input": QUESTION, "Output": ANSWER}, "question/answer"),
        ({"user": QUESTION, "assistant": ANSWER}, "question/answer"),
        ({"messages": None, "question": QUESTION, "answer": ANSWER}, "question/answer"),
        ([QUESTION, ANSWER], "question/answer"),
    ],
)
def test_every_usual_shape_of_a_row_is_known_by_its_keys(folder, row, shape):
    texts = read_rows(folder, row, row)
    assert said(texts) == [PAIR, PAIR] and texts.formats == {shape: 2} and texts.problems == []
    assert sources(texts) == ["faq.json, row 1", "faq.json, row 2"]
    lines = read(write(folder / "faq.jsonl", f"{json.dumps(row)}\n{json.dumps(row)}\n"))
    assert said(lines) == [PAIR, PAIR] and lines.formats == {shape: 2}


def test_further_text_follows_the_question_and_a_system_prompt_goes_before_it(folder):
    texts = read_rows(
        folder,
        {"instruction": "Translate.", "input": "  moon moss ", "output": "Mondmoos", "system": "Be brief."},
        {"question": "Who?", "context": "A ferry.", "answer": "He.", "System-Prompt": "Be brief."},
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "He."}]},
        {
            "system": "Not this",
            "messages": [{"role": r, "content": c} for r, c in [("system", "Be brief."), ("user", "?"), ("assistant", "!")]],
        },
        {"question": "Who?", "answer": "He.", "system": ""},
    )
    brief = ("system", "Be brief.")
    assert said(texts) == [
        [brief, ("user", "Translate.\n\nmoon moss"), ("assistant", "Mondmoos")],
        [brief, ("user", "Who?\n\nA ferry."), ("assistant", "He.")],
        [brief, ("user", "Who?"), ("assistant", "He.")],
        [brief, ("user", "?"), ("assistant", "!")],
        [("user", "Who?"), ("assistant", "He.")],
    ]


def test_roles_are_called_what_templates_call_them(folder):
    names = ["developer", "human", "gpt", "observation", "ai", "tool", "chatgpt", "function", "bot"]
    (turns,) = said(read_rows(folder, {"conversations": [{"from": name, "value": name} for name in names]}))
    roles = ["system", "user", "assistant", "tool", "assistant", "tool", "assistant", "tool", "assistant"]
    assert turns == list(zip(roles, names, strict=True))


def test_answers_in_a_fixed_format_become_json(folder):
    answers = [{"name": "Köln", "open": True, "lamps": [1, 2]}, 12, 1.5, False, ["a", "b"], 0, '{"as": "text"}']
    rows = [{"question": "What?", "answer": answer} for answer in answers]
    rows += [[{"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}] for answer in answers]
    texts = said(read_rows(folder, *rows))
    written = [turns[1][1] for turns in texts]
    assert written == written[:7] * 2 and [json.loads(text) for text in written[:6]] == answers[:6]
    assert written[0] == '{"name": "Köln", "open": true, "lamps": [1, 2]}' and written[6] == '{"as": "text"}'
    assert said(read_rows(folder, {"input": {"city": "Köln"}, "output": {"open": True}}))[0][0] == ("user", '{"city": "Köln"}')


def test_whitespace_inside_is_kept_and_documents_keep_theirs(folder):
    code = "def f():\n\treturn  1\n\n\n# ende"
    texts = read_rows(folder, {"question": f" {code}\n", "answer": f"\n{code} "}, {"text": f"  {code} \n\n"}, {"text": "x"})
    assert said(texts) == [[("user", code), ("assistant", code)], f"  {code} ", "x"]
    assert texts.formats == {"question/answer": 1, "text": 2} and isinstance(texts.examples[1], Document)


def test_doubles_stay(folder):
    assert len(read_rows(folder, *[{"q": "Who?", "a": "He."}] * 3).examples) == 3


BAD_ROWS = [
    ({"question": QUESTION}, "no answer among its keys (question)"),
    ({"question": QUESTION, "answer": " \n"}, "its answer is empty"),
    ({"question": QUESTION, "answer": None}, "its answer is empty"),
    ({"question": "", "answer": ANSWER}, "its question is empty"),
    ({"question": ["Who?", "What?"], "answer": ["He.", "It."]}, "its question is a list"),
    ({"colour": "red", "size": 3}, "its keys (colour, size) are of no known format"),
    ({}, "no known format"),
    ({"text": 5}, "no known format"),
    ({"text": " "}, "it is empty"),
    (7, "neither an object nor a list"),
    (None, "neither an object nor a list"),
    ({"messages": []}, "no turn in it is the assistant's"),
    ({"messages": [{"role": "user", "content": QUESTION}]}, "no turn in it is the assistant's"),
    ({"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ""}]}, "one of its answers is empty"),
    ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "!"}]}, "one of its questions is empty"),
    ({"messages": [{"role": "narrator", "content": "So."}]}, "a turn of 'narrator'"),
    ({"messages": ["Who?", "He."]}, "no object with role and content"),
    ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "only calls a tool"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "part of type 'image_url'"),
    ({"role": "assistant", "content": ANSWER}, "single turn"),
    ({"question": "\ud800", "answer": ANSWER}, "half of a character"),
    ({"text": "x\udfff"}, "half of a character"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_with_the_reason(folder, row, reason):
    good = {"q": "Who?", "a": "He."}
    path = write(folder / "faq.jsonl", "\n".join(json.dumps(line) for line in (good, row, good)))
    texts = read_texts(path, config("skip"))
    assert sources(texts) == ["faq.jsonl, line 1", "faq.jsonl, line 3"]
    (problem,) = texts.problems
    assert problem.startswith("faq.jsonl, line 2: ") and reason in problem and problem.endswith(".")
    assert problem in complaint(path)


# -- JSON ----------------------------------------------------------------------------------------------------------------

ROWS = [{"question": f"Who is {name}?", "answer": f"{name} is one."} for name in ("Ann", "Bo\u2028ris", "Zoë\x85\x0b")]
TURNS = [[("user", row["question"].strip()), ("assistant", row["answer"])] for row in ROWS]


@pytest.mark.parametrize("key", ["data", "rows", "train", "conversations", "examples"])
def test_rows_may_lie_in_an_object(folder, key):
    assert said(read(write(folder / "a.json", json.dumps({"version": "1", key: ROWS}, indent=2)))) == TURNS


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.NDJSON"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_lines_are_read_whatever_the_file_is_called(folder, name, ending):
    """Only line ends end a line: JSON may hold other separators of Unicode as they are."""
    texts = read(write(folder / name, ending.join(json.dumps(row, ensure_ascii=False) for row in ROWS) + ending))
    step = 2 if ending == "\n\n" else 1
    assert said(texts) == TURNS and sources(texts) == [f"{name}, line {1 + step * number}" for number in range(3)]


@pytest.mark.parametrize("indent", [None, 2])
def test_and_so_is_an_array_that_is_called_lines(folder, indent):
    assert said(read(write(folder / "a.jsonl", json.dumps(ROWS, indent=indent)))) == TURNS


@pytest.mark.parametrize("wrap", [list, lambda turns: {"messages": turns}, lambda turns: {"conversations": turns}])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_file_may_be_one_conversation(folder, wrap, keys, name):
    turns = [dict(zip(keys, turn, strict=True)) for turn in PAIR * 2]
    assert said(read(write(folder / name, json.dumps(wrap(turns))))) == [PAIR * 2]


def test_a_line_may_be_a_pair_or_a_list_of_turns(folder):
    turns = [{"role": role, "content": content} for role, content in PAIR]
    lines = [json.dumps([QUESTION, ANSWER]), json.dumps(turns)]
    assert said(read(write(folder / "a.jsonl", "\n".join(lines)))) == [PAIR, PAIR]
    assert said(read(write(folder / "b.jsonl", lines[0]))) == [PAIR]


def test_a_broken_line_is_named_and_the_others_are_read(folder):
    lines = [json.dumps(ROWS[0]), '{"question": "Who?", "answer": "He.', "", "[" * 100_000, json.dumps(ROWS[2]), "oops"]
    texts = read_texts(write(folder / "a.jsonl", "\n".join(lines)), config("skip"))
    assert sources(texts) == ["a.jsonl, line 1", "a.jsonl, line 5"]
    assert [problem.partition(":")[0] for problem in texts.problems] == ["a.jsonl, line 2", "a.jsonl, line 4", "a.jsonl, line 6"]
    assert "no valid JSON: Unterminated string" in texts.problems[0] and "at character 32" in texts.problems[0]


def test_a_first_line_that_is_broken_does_not_hide_the_rest(folder):
    assert sources(read_texts(write(folder / "a.jsonl", "{oops\n" + json.dumps(ROWS[0])), config("skip"))) == ["a.jsonl, line 2"]


def test_broken_json_says_in_which_line(folder):
    text = json.dumps(ROWS, indent=1).replace("},\n {", "}\n {", 1)
    line = text.split("}\n {")[0].count("\n") + 2
    assert re.search(
        rf"a\.json: it is no valid JSON: Expecting ',' delimiter in line {line} at character 2\.", complaint(write(folder / "a.json", text))
    )


def test_empty_cells_of_pandas_are_empty(folder):
    assert "its answer is empty" in complaint(write(folder / "a.json", '[{"question": "Who?", "answer": NaN}]'))


# -- tables --------------------------------------------------------------------------------------------------------------


def table(rows, delimiter=",", **options) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, **options).writerows(rows)
    return stream.getvalue()


CELLS = [["Who, me; or you?", 'She said "no".'], ["Two\nlines?\n\nYes", "a\tb|c"], ["Größe?", "10 €, naïve — “so”"]]
SPOKEN = [[("user", question), ("assistant", answer)] for question, answer in CELLS]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_tables_of_every_usual_program_are_read(folder, delimiter, encoding, quoting):
    for header in (["Question", "Answer"], ["id", "question", "answer", ""]):
        rows = [["1", *cells, ""] if len(header) == 4 else cells for cells in CELLS]
        path = write(folder / "faq.csv", table([header, *rows], delimiter, quoting=quoting), encoding)
        texts = read(path)
        assert said(texts) == SPOKEN and texts.formats == {"question/answer": 3} and texts.problems == []
        assert sources(texts) == ["faq.csv, row 2", "faq.csv, row 3", "faq.csv, row 4"], "as a spreadsheet counts, not an editor"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_two_columns_without_a_header_are_question_and_answer(folder, delimiter):
    texts = read(write(folder / "faq.tsv", table(CELLS, delimiter)))
    assert said(texts) == SPOKEN and sources(texts)[0] == "faq.tsv, row 1"


def test_where_two_delimiters_fit_the_one_that_is_rare_in_prose_is_it(folder):
    assert said(read(write(folder / "faq.csv", "Wer bist du?;Ich, Anna\nUnd er?;Er, Bo\n"))) == [
        [("user", "Wer bist du?"), ("assistant", "Ich, Anna")],
        [("user", "Und er?"), ("assistant", "Er, Bo")],
    ]


def test_the_line_that_tells_excel_the_delimiter_is_no_row(folder):
    texts = read(write(folder / "faq.csv", "sep=;\r\n" + table([["question", "answer"], *CELLS], ";")))
    assert said(texts) == SPOKEN and sources(texts)[0] == "faq.csv, row 2"


def test_empty_rows_are_passed_over_and_counted(folder):
    texts = read(write(folder / "faq.csv", "\r\nq,a\r\n\r\nWho?,He.\r\n,\r\nWhat?,It.\r\n\r\n"))
    assert sources(texts) == ["faq.csv, row 4", "faq.csv, row 6"]


def test_a_space_after_the_comma_does_not_undo_quotes(folder):
    assert said(read(write(folder / "faq.csv", 'question, answer\nWho?, "He, and she."\n'))) == [
        [("user", "Who?"), ("assistant", "He, and she.")]
    ]


def test_other_columns_mean_what_they_mean_in_other_files(folder):
    path = write(folder / "a.csv", table([["instruction", "input", "output", "system"], ["Translate.", "moss", "Moos", "Be brief."]]))
    assert said(read(path)) == [[("system", "Be brief."), ("user", "Translate.\n\nmoss"), ("assistant", "Moos")]]
    turns = json.dumps([{"role": role, "content": content} for role, content in PAIR])
    assert said(read(write(folder / "a.csv", table([["messages"], [turns]])))) == [PAIR]


def test_a_single_column_of_texts_may_have_commas(folder):
    texts = read(write(folder / "a.csv", 'text\nOne, two;\tthree | four\n"Four, ""five"""\n'))
    assert said(texts) == ["One, two;\tthree | four", 'Four, "five"'] and texts.formats == {"text": 2}


def test_rows_of_a_table_that_do_not_fit_are_named_and_the_others_read(folder):
    lines = ["question,answer", "Who?,He.", "Well, who?,She.", "alone", '"odd" one,x', "What?,It.,,", "Why?,", '"open,x', "lost,y"]
    texts = read_texts(write(folder / "faq.csv", "\n".join(lines)), config("skip"))
    assert sources(texts) == ["faq.csv, row 2", "faq.csv, row 6"]
    reasons = {3: "3 columns and not 2", 4: "1 column and not 2", 5: "quotation marks are odd", 7: "its answer is empty", 8: "never closed"}
    assert len(texts.problems) == len(reasons)
    for problem, (row, reason) in zip(texts.problems, reasons.items(), strict=True):
        assert problem.startswith(f"faq.csv, row {row}: ") and reason in problem


def test_a_table_that_names_no_known_columns_says_what_to_write(folder):
    text = complaint(write(folder / "faq.csv", "colour,size,price\nred,3,5\n"))
    assert "colour,size,price" in text and "Write question,answer above the columns" in text


def test_a_cell_may_be_long(folder):
    assert len(said(read(write(folder / "a.csv", table([["text"], ["x" * 500_000]]))))[0]) == 500_000


# -- plain text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["book.txt", "book.MD"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_text_file_is_one_document(folder, name, encoding):
    texts = read(write(folder / name, "  Es war einmal\r\n\r\n\teine Fähre.\r\n", encoding))
    assert said(texts) == ["  Es war einmal\n\n\teine Fähre."] and sources(texts) == [name] and texts.formats == {"text": 1}


@pytest.mark.parametrize(("asks", "answers"), [("Q", "A"), ("q ", "a"), ("Question", "Answer")])
def test_lines_of_questions_and_answers_are_pairs(folder, asks, answers):
    text = f"\n{asks}: Who?\n{answers}: He.\n\n{asks}: Two\nlines: of?\n{answers}:\nOne.\n\n  Note: two.\n{asks}: Last?\n{answers}: Yes."
    texts = read(write(folder / "faq.txt", text))
    pairs = [("Who?", "He."), ("Two\nlines: of?", "One.\n\n  Note: two."), ("Last?", "Yes.")]
    assert said(texts) == [[("user", question), ("assistant", answer)] for question, answer in pairs]
    assert sources(texts) == ["faq.txt, line 2", "faq.txt, line 5", "faq.txt, line 11"] and texts.formats == {"question/answer": 3}


@pytest.mark.parametrize(("asks", "answers"), [("User", "Assistant"), ("Human", "AI"), ("USER", "Bot")])
@pytest.mark.parametrize(("inside", "between"), [(0, 1), (1, 2), (1, 3)])
def test_talks_part_where_more_empty_lines_come(folder, asks, answers, inside, between):
    talk = ("\n" + "\n" * inside).join(f"{who}: {text}" for who, text in [(asks, "Hi"), (answers, "Ho"), (asks, "Who?"), (answers, "I.")])
    texts = read(write(folder / "talk.txt", talk + "\n" + "\n" * between + talk))
    turns = [("user", "Hi"), ("assistant", "Ho"), ("user", "Who?"), ("assistant", "I.")]
    assert said(texts) == [turns, turns] and texts.formats == {"messages": 2}
    assert sources(texts) == ["talk.txt, line 1", f"talk.txt, line {talk.count(chr(10)) + 2 + between}"]


@pytest.mark.parametrize(
    "text",
    [
        "Q: Who?\nQ: What?\nA: It.",  # two questions
        "Q: Who?\nA: He.\nQ: What?",  # no answer
        "A talk\nQ: Who?\nA: He.",  # something before
        "A: He.\nQ: Who?",
        "User: Who?\nA: He.",
        "Question: who was he, all his life long?",
    ],
)
def test_anything_else_is_a_document(folder, text):
    assert said(read(write(folder / "a.txt", text))) == [text]


def test_what_is_said_without_words_is_a_problem(folder):
    assert "a.txt, line 3: its answer is empty" in complaint(write(folder / "a.txt", "Q: Who?\nA: He.\nQ: What?\nA:\n"))


# -- files and folders ---------------------------------------------------------------------------------------------------


def test_a_folder_is_read_with_those_below_it_in_a_fixed_order(folder):
    write(folder / "b.jsonl", json.dumps({"q": "B?", "a": "b"}))
    write(folder / "sub folder" / "é.csv", "q,a\nE?,e\n")
    write(folder / "a.txt", "Plain.")
    write(folder / "sub folder" / "deep" / "c.json", json.dumps([{"text": "C"}]))
    for hidden in (".git/x.json", ".hidden.txt", "sub folder/.ipynb_checkpoints/a.txt", "Thumbs.db", "~$faq.csv"):
        write(folder / hidden, "{broken")
    texts = read(folder)
    assert sources(texts) == ["a.txt", "b.jsonl, line 1", "sub folder/deep/c.json, row 1", "sub folder/é.csv, row 2"]
    assert texts.formats == {"text": 2, "question/answer": 2} and texts.problems == []


def test_what_is_about_the_data_is_left_out_and_said_but_stops_nothing(folder):
    about = [
        "LICENSE",
        "README.de.md",
        "README.md",
        "config.json",
        "dataset_info.json",
        "licence.txt",
        "sub/readme.txt",
        "tokenizer_config.json",
    ]
    for name in about:
        write(folder / name, '{"text": "About."}')
    write(folder / "readme_questions.jsonl", '{"q": "Who?", "a": "He."}')
    texts = read(folder)
    assert sources(texts) == ["readme_questions.jsonl, line 1"]
    assert [problem.partition(":")[0] for problem in texts.problems] == about and "left out" in texts.problems[0]
    assert said(read(folder / "README.md")) == ['{"text": "About."}'], "chosen itself, it is the data"
    (folder / "readme_questions.jsonl").unlink()
    assert "nothing in it can be used" in complaint(folder) and "README.md" in complaint(folder)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("notes.doc", "Save it as Word document (.docx) or plain text (.txt)"),
        ("page.HTML", "Save it as plain text (.txt)"),
        ("faq.xls", "Save it as Excel workbook (.xlsx) or CSV"),
        ("train.arrow", "Export it as JSON lines"),
        ("faq.jsonl.gz", "Unpack it"),
        ("picture.png", "Convert it to text, or take it away"),
        ("faq", "without an ending"),
    ],
)
def test_files_that_are_not_read_say_what_to_make_of_them(folder, name, advice):
    path = write(folder / name, "x")
    for on_bad_data in ("stop", "skip"):
        assert f"{name}: " in complaint(path, on_bad_data) and advice in complaint(path, on_bad_data)
    write(folder / "a.txt", "Plain.")
    texts = read_texts(folder, config("skip"))
    assert said(texts) == ["Plain."] and len(texts.problems) == 1 and advice in texts.problems[0]


def test_all_that_is_wrong_is_said_at_once_up_to_a_point(folder):
    write(folder / "a.jsonl", "\n".join(['{"q": "Who?", "a": ""}'] * 23))
    write(folder / "b.csv", "q,a\nWho?,\n")
    write(folder / "c.txt", "Plain.")
    text = complaint(folder)
    assert text.count("its answer is empty") == 20 and "and 4 more" in text and "on_bad_data: skip" in text
    assert len(read_texts(folder, config("skip")).problems) == 24


@pytest.mark.parametrize("on_bad_data", ["stop", "skip"])
def test_nothing_to_read_is_an_error_that_says_what_is_read(folder, on_bad_data):
    places = [folder / "missing", folder, folder / ("x" * 5000)]
    places += [write(folder.parent / f"empty{suffix}", content) for suffix in TEXT_SUFFIXES for content in ("", " \n\n")]
    places += [write(folder.parent / name, text) for name, text in [("a.json", "[]"), ("b.json", "{}"), ("c.csv", "question,answer\n")]]
    for place in places:
        text = complaint(place, on_bad_data)
        assert f"'{place}'" in text and (".jsonl" in text or "Check the path" in text)


# -- encodings -----------------------------------------------------------------------------------------------------------


def test_damaged_utf8_is_not_taken_for_another_encoding(folder):
    lines = [f"Straße {number} führt über Köln".encode() for number in range(9)]
    lines[6] = lines[6][:5] + lines[6][6:]  # half of the ß
    text = complaint(write(folder / "a.txt", b"\r\n".join(lines)))
    assert "a.txt: its UTF-8 text is damaged, first in line 7" in text


@pytest.mark.parametrize(
    "content, said",
    [
        (b"PK\x03\x04\x00\x00", "a ZIP or an Office file"),
        (b"\x89PNG\r\n\x1a\n\x81\x01", "a picture"),
        (b"\x1f\x8b\x08\x00", "packed with gzip. Unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "only a Git LFS pointer"),
        ("abc".encode("utf-16-le"), "UTF-8"),
        ("abc".encode("utf-32"), "UTF-8"),
        (b"\xff\xfea", "UTF-8"),
    ],
)
def test_what_is_no_text_is_not_learned(folder, content, said):
    for suffix in TEXT_SUFFIXES:
        assert said in complaint(write(folder.parent / f"a{suffix}", content))


def test_a_web_page_that_came_instead_of_the_data_is_told(folder):
    for suffix in (".json", ".jsonl", ".csv", ".tsv"):
        for content, what in ((b"<!DOCTYPE html><html>", "a web page"), (b"Entry not found", "a server's message")):
            assert f"it is {what}" in complaint(write(folder.parent / f"a{suffix}", content))
    assert said(read(write(folder / "page.txt", "<html>Written about HTML.</html>"))) == ["<html>Written about HTML.</html>"]


# -- whatever comes ------------------------------------------------------------------------------------------------------


def mutate(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        begin, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        piece = data[begin : min(end, begin + 30)]
        new = rng.choice([b"", b'"', b"\n", b"{", b"[", b"]", b"\\ud800", b"null", b"\0", b"1e999", rng.randbytes(3), piece * 3])
        data = data[:begin] + new + data[begin + len(piece) :]
    return data


def test_no_bytes_whatever_raise_anything_but_a_user_error(tmp_path):
    rng = random.Random(4)
    rows = [row for row, _ in BAD_ROWS] + [{"messages": [{"role": role, "content": text} for role, text in PAIR]}, *ROWS]
    seeds = [
        json.dumps(rows).encode(),
        "\n".join(json.dumps(row) for row in rows).encode(),
        table([["question", "answer", "system"], *[[*cells, "x"] for cells in CELLS]], ";").encode(),
        table(CELLS).encode("utf-16"),
        b"Q: Who?\nA: He.\n\nUser: Hi\nAssistant: Ho\n",
    ]
    read_well = 0
    for number in range(1500):
        data = rng.randbytes(rng.randint(0, 300)) if number % 5 == 0 else mutate(rng, rng.choice(seeds))
        path = write(tmp_path / f"a{rng.choice(TEXT_SUFFIXES)}", data)
        try:
            texts = read_texts(path, config("skip"))
        except UserError as error:
            str(error).encode("utf-8")
            continue
        read_well += 1
        assert sum(texts.formats.values()) == len(texts.examples) > 0
        json.dumps([said(texts), texts.problems], ensure_ascii=False).encode("utf-8")
        for example in texts.examples:
            assert example.source.startswith(path.name)
            assert isinstance(example, Document) or any(turn.role == "assistant" and turn.content for turn in example.messages)
    assert read_well > 300, "too few got through for this to mean much"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are always text there")
def test_names_that_are_no_text_do_not_stop_reading(folder):
    for name in (b"a\xff.txt", b"a\xfe.txt"):
        Path(str(folder), name.decode("utf-8", "surrogateescape")).write_text("Plain.")
    texts = read(folder)
    assert sources(texts) == ["a?.txt", "a?.txt"]
