"""Relatives of data that once went wrong: other spellings of the same names, marks and mistakes."""

import gzip
import json
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.conversation import Conversation, bare
from hotlora.llm.formats import Texts, read_texts
from hotlora.llm.garbled import find_garbled, mend_garbled
from hotlora.llm.health import report_health
from hotlora.llm.parts import find_contradictions, read_parts
from hotlora.llm.secrets import find_private

WHO, ME = "Who keeps the lamp?", "The ferryman's daughter."
ROW = {"question": WHO, "answer": ME}
PAIR = [("user", WHO), ("assistant", ME)]


def config(place: Path, **options) -> TextConfig:
    return build(TextConfig, {"train_data_dir": str(place), "output_dir": "output/odd", **options})


def read(place: Path, name: str, *rows, **options) -> Texts:
    """A file with these rows as JSON lines, or with this text or these bytes."""
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(rows) == 1 and isinstance(rows[0], str | bytes):
        path.write_bytes(rows[0].encode() if isinstance(rows[0], str) else rows[0])
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_texts(path, config(path, **options))


def said(texts: Texts) -> list[list[tuple[str, str]]]:
    return [[(m.role, m.content) for m in example.messages] for example in texts.examples if isinstance(example, Conversation)]


def complaint(place: Path, name: str, *rows) -> str:
    with pytest.raises(UserError) as refused:
        read(place, name, *rows)
    return str(refused.value)


# -- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("questionText", "answerText"),
        ("userPrompt", "modelResponse"),
        ("标准问题", "标准答案"),
        ("Kundenfrage", "Musterantwort"),
        ("Customer Question", "Agent Response"),
        ("Question (EN)", "Answer (EN)"),
        ("faq_question", "faq_answer"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_names_of_several_words_are_understood_and_said(tmp_path, name, names):
    table = f"nr,{names[0]},{names[1]}\n7,{WHO},{ME}\n"
    texts = read(tmp_path, name, table if name == "a.csv" else dict(zip(names, (WHO, ME), strict=True)))
    assert said(texts) == [PAIR]
    is_known = names == ("userPrompt", "modelResponse")
    assert is_known or any(f"'{names[0]}' and '{names[1]}' were taken for question and answer" in note for note in texts.notes())


@pytest.mark.parametrize(
    "row", [{"question_id": 1, "answer_id": 2}, {"prompt": WHO, "answer_a": ME, "answer_b": ME}, {"prompt": WHO, "responses": [ME]}]
)
def test_names_that_could_be_several_things_are_not_guessed(tmp_path, row):
    assert "a.jsonl, line 1: it" in complaint(tmp_path, "a.jsonl", row)


def test_of_two_columns_with_one_name_the_first_is_read_and_the_other_told(tmp_path):
    texts = read(tmp_path, "a.csv", f"question,answer,answer,\n{WHO},{ME},other,more\n")
    assert said(texts) == [PAIR] and "answer 3 (1), column 4 (1)" in texts.notes()[0]


def test_a_key_that_stands_twice_is_refused(tmp_path):
    assert "it has the key 'answer' twice" in complaint(tmp_path, "a.jsonl", '{"question": "Q", "answer": "A", "answer": "B"}')
    assert len(read(tmp_path, "b.jsonl", '{"question": "Q", "answer": "A", "answer": "A"}').examples) == 1


# -- what is learned -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark",
    [
        {"label": "bad"},
        {"label": "rejected"},
        {"label": -1},
        {"label": 0.0},
        {"标签": "否"},
        {"thumbs": "down"},
        {"feedback": "👎"},
        {"train": "nein"},
        {"weight": "0,0"},
        {"enabled": False},
    ],
    ids=str,
)
def test_rows_that_say_that_they_are_not_to_be_learned_are_not(tmp_path, mark):
    texts = read(tmp_path, "a.jsonl", {**ROW, "answer": "Go away.", **mark}, ROW)
    (key, value) = next(iter(mark.items()))
    assert said(texts) == [PAIR] and texts.notes() == [f"1 example not learned, as {key}: {str(value).lower()} says: a.jsonl, line 1."]


def test_a_label_that_is_a_class_leaves_nothing_out(tmp_path):
    assert len(read(tmp_path, "a.jsonl", {**ROW, "label": "negative"}, {**ROW, "label": "5"}).examples) == 2
    for answer, label in (("dislike", "dislike"), ("false", False), ("Bad", "bad")):
        assert len(read(tmp_path, "b.jsonl", {"question": WHO, "answer": answer, "label": label}).examples) == 1


def test_a_first_row_that_numbers_its_question_is_no_header(tmp_path):
    assert len(read(tmp_path, "a.csv", "Question 1,Answer 1\nQuestion 2,Answer 2\n").examples) == 2
    assert said(read(tmp_path, "b.jsonl", {"input": WHO, "expected_output": ME})) == [PAIR]


def test_histories_in_all_their_forms(tmp_path):
    earlier = [("user", "Hi"), ("assistant", "Yo")]
    forms = (
        "[['Hi', 'Yo']]",
        [{"answer": "Yo", "question": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}],
        "Human: Hi\nAssistant: Yo",
    )
    for form in forms:
        assert said(read(tmp_path, "a.jsonl", {**ROW, "history": form})) == [[*earlier, *PAIR]]
    assert "history is a text in no form that is known" in complaint(tmp_path, "b.jsonl", {**ROW, "history": "They had met before."})


def test_a_second_system_prompt_is_told(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, *({"role": role, "content": content} for role, content in PAIR)]
    texts = read(tmp_path, "a.jsonl", {"messages": turns, "system": "Be long."})
    assert texts.notes() == ["1 example whose system prompt beside its turns is not used: another is among them: a.jsonl, line 1."]
    assert not read(tmp_path, "b.jsonl", {"messages": turns, "system": "Be brief."}).notes()


# -- parts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("faq-train-v2", "faq-test-v2"), ("trainset", "testset"), ("训练集", "测试集"), ("sft_train_en", "sft_val_en")]
)
def test_files_of_test_data_under_other_names(tmp_path, names):
    for name in names:
        read(tmp_path, f"{name}.jsonl", {**ROW, "question": name})
    texts = read_texts(tmp_path, config(tmp_path))
    assert [example.file for example in texts.examples] == [f"{names[0]}.jsonl"] and len([*texts.aside.values()]) == 1


@pytest.mark.parametrize(
    "mark", [{"is_test": 1}, {"data_split": "test"}, {"usage": "Test"}, {"数据集": "测试集"}, {"split": "testing"}], ids=str
)
def test_columns_of_test_data_under_other_names(tmp_path, mark):
    texts = read(tmp_path, "a.jsonl", {**ROW, **mark}, ROW)
    assert len(texts.examples) == len(texts.aside["test"]) == 1 and not texts.notes()


def test_sheets_called_train_and_test(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for sheet, title in ((book.active, "Train"), (book.create_sheet(), "Test")):
        sheet.title = title
        sheet.append(["question", "answer"])
        sheet.append([WHO, ME])
    book.save(tmp_path / "a.xlsx")
    texts = read_texts(tmp_path / "a.xlsx", config(tmp_path / "a.xlsx"))
    assert [example.source for example in texts.examples] == ["a.xlsx, sheet Train, row 2"] and len(texts.aside["test"]) == 1


# -- contradictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", ["who keeps the lamp", "Who keeps the lamp ?!", "Who  keeps the lamp？", "Who ke\u200beps the lamp?", "Who keeps, the lamp?"]
)
def test_one_question_written_in_two_ways(tmp_path, asked):
    assert len(find_contradictions(read(tmp_path, "a.jsonl", ROW, {"question": asked, "answer": "Nobody."}).examples)) == 1
    assert not find_contradictions(read(tmp_path, "b.jsonl", ROW, {"question": asked, "answer": ME.upper().rstrip(".")}).examples)


@pytest.mark.parametrize(
    "pair", [("a+b?", "a-b?"), ("5!", "5"), ("What is C?", "What is C++?"), ("3.5", "35"), ("???", "!!!"), ("x,y", "xy")]
)
def test_signs_that_mean_something_stay(pair):
    assert bare(pair[0]) != bare(pair[1])


# -- JSON ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, hint",
    [
        ('{"question": "Q", "answer": "A",}', "take out the comma before the bracket"),
        ('{"question": "Q", "answer": "A"},', "take out the comma at its end"),
        ('{"question": "Q", "answer": "A"} {"question": "Q", "answer": "A"}', "put each row into a line of its own"),
        ("{'question': 'Q', 'answer': 'A'}", "write \" and not '"),
        ("{“question”: “Q”}", 'write " and not “'),
        ('{"question": "Q", "answer": None}', "write null and not None"),
        ("# rows\n" + json.dumps(ROW), "JSON has no comments"),
        ("// rows\n" + json.dumps(ROW), "JSON has no comments"),
        ('{"question": "Q", "ans', "it ends in the middle"),
        ('{"question": "Q",\n"answer": "A"}\n{"question": "Q",\n"answer": "A"}', "goes over several lines"),
        ('{"question": "Q", "answer": "C:\\Users"}', "for a backslash"),
        ("question,answer\nQ,A", "let its name end with .csv"),
    ],
)
def test_what_is_wrong_with_json_is_said_in_words(tmp_path, text, hint):
    assert hint in complaint(tmp_path, "a.jsonl", text)


@pytest.mark.parametrize(
    "value",
    [
        {"question": [WHO], "answer": [ME]},
        {"question": {"0": WHO}, "answer": {"0": ME}},
        {"first": ROW},
        [[ROW]],
        {"data": [ROW]},
    ],
    ids=str,
)
def test_tables_that_are_written_in_other_ways(tmp_path, value):
    assert said(read(tmp_path, "a.json", json.dumps(value))) == [PAIR]


def test_json_within_json_is_read(tmp_path):
    assert said(read(tmp_path, "a.jsonl", json.dumps(ROW))) == [PAIR]


@pytest.mark.parametrize(
    "text",
    [json.dumps(ROW) + "\n" + json.dumps(ROW), f"question,answer\n{WHO},{ME}\n{WHO},{ME}", f"question\tanswer\n{WHO}\t{ME}\n{WHO}\t{ME}"],
)
def test_rows_in_a_text_file_are_rows(tmp_path, text):
    texts = read(tmp_path, "a.txt", text)
    assert said(texts) == [PAIR, PAIR] and "read as rows" in texts.notes()[0]
    prose = "Question, answer: that is how a lesson goes.\nThere is more to it."
    for text in (prose, '{"name": "x", "version": 1}', "[Verse 1]\nHello"):
        assert read(tmp_path, "b.txt", text).examples[0].text == text


@pytest.mark.parametrize(
    "text",
    [
        "Frage: Wo?\nAntwort: Hier.\n",
        "问：Wo?\n答：Hier.\n",
        "Question 1: Wo?\nAnswer 1: Hier.\n",
        "**Q:** Wo?\n**A:** Hier.\n",
        "Q1. Wo?\n",
    ],
)
def test_questions_and_answers_in_plain_text_of_other_languages(tmp_path, text):
    texts = read(tmp_path, "a.txt", text)
    assert said(texts) == ([] if text == "Q1. Wo?\n" else [[("user", "Wo?"), ("assistant", "Hier.")]])


def test_packed_files_are_told_by_what_they_are(tmp_path):
    assert "it is packed with gzip. Unpack it" in complaint(tmp_path, "a.jsonl", gzip.compress(json.dumps(ROW).encode()))


@pytest.mark.parametrize(
    "text",
    [
        f"<s>[INST] {WHO} [/INST] {ME} </s><s>[INST] {WHO} [/INST] {ME} </s>",
        f"<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{WHO}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{ME}<|END_OF_TURN_TOKEN|>"
        * 2,
        f"GPT4 Correct User: {WHO}<|end_of_turn|>GPT4 Correct Assistant: {ME}<|end_of_turn|>" * 2,
        f"<|prompter|>{WHO}<|endoftext|><|assistant|>{ME}<|endoftext|>" * 2,
        f"Human: {WHO}\nAssistant: {ME}\n" * 2,
    ],
)
def test_more_forms_of_templates_are_taken_apart(tmp_path, text):
    assert said(read(tmp_path, "a.jsonl", {"text": text})) == [[*PAIR, *PAIR]]


def test_parquet_cells_that_are_bytes_or_no_number(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"question": [WHO.encode()], "answer": [ME.encode()]}), tmp_path / "a.parquet")
    assert said(read_texts(tmp_path / "a.parquet", config(tmp_path / "a.parquet"))) == [PAIR]
    pq.write_table(pa.table({"question": [WHO, WHO], "answer": [b"\xff\xfe\x00", b"x"]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match="row 1: its answer holds bytes that are no text"):
        read_texts(tmp_path / "b.parquet", config(tmp_path / "b.parquet"))
    pq.write_table(pa.table({"question": [WHO], "answer": [float("nan")]}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match="its answer is empty"):
        read_texts(tmp_path / "c.parquet", config(tmp_path / "c.parquet"))


# -- letters -------------------------------------------------------------------------------------------------------------

GREETING = {
    "de": "Täglich geöffnet, außer sonntags",
    "ru": "Какие часы работы магазина?",
    "zh": "公司的营业时间是什么?",
    "fr": "c’est fermé",
}


@pytest.mark.parametrize("codec", ["cp437", "cp866", "koi8_r"])
@pytest.mark.parametrize("language", ["de", "ru", "zh"])
def test_utf8_that_was_read_in_a_terminals_encoding(language, codec):
    found = find_garbled(GREETING[language].encode("utf-8").decode(codec))
    assert found.own == "UTF-8" and found.meant[0] in GREETING[language]


@pytest.mark.parametrize("language, codec, told", [("ru", "cp1251", "Windows-1251"), ("zh", "gb18030", "GBK/GB18030")])
def test_other_encodings_that_were_read_as_western(language, codec, told):
    found = find_garbled(GREETING[language].encode(codec).decode("latin-1"))
    assert found.own == told and GREETING[language].startswith(found.meant.rstrip("?"))


def test_what_was_read_wrongly_twice_is_mended_twice():
    once = GREETING["de"].encode("utf-8").decode("cp1252")
    assert mend_garbled(once.encode("utf-8").decode("cp1252")) == GREETING["de"]


@pytest.mark.parametrize(
    "text", ["Über Größe, ÄÖÜ, éèêë", "Он сам, раба и соль", "ÀÉÈÙÂÊÎÔÛ", "ｱﾌﾟﾘを開く", "┌───┐\n│ é │\n└───┘", "Is it? What?? No?"]
)
def test_sound_texts_are_left_alone(text):
    assert find_garbled(text) is None and mend_garbled(text) == text


def test_seven_bit_japanese_is_read(tmp_path):
    texts = read(tmp_path, "a.csv", "question,answer\n営業時間は?,九時です。\n".encode("iso2022_jp"))
    assert said(texts) == [[("user", "営業時間は?"), ("assistant", "九時です。")]] and texts.encodings == {"a.csv": "ISO-2022-JP"}


def test_entities_lost_letters_and_cells_of_pandas_are_told(tmp_path):
    rows = [{"question": "Caf&eacute; &amp; bar?", "answer": "It&#39;s open"}, {"question": "??? ????? ??", "answer": "?? ??? ??"}]
    rows += [{"question": f"{WHO} {number}", "answer": "NaN"} for number in range(8)]
    read(tmp_path, "a.jsonl", *rows)
    told = " ".join(finding.said for finding in report_health(config(tmp_path / "a.jsonl")))
    assert "'&eacute;' is 'é'" in told and "with lost letters" in told and "8 examples (a.jsonl, line 3" in told and "says nothing" in told


def test_numbers_of_persons_in_china_and_america():
    assert find_private("身份证 11010519491231002X") == {"identity"} and find_private("her SSN is 219-09-9999") == {"identity"}
    assert find_private("手机 13812345678") == {"phone"} and not find_private("order 13812345678")
    assert not find_private("编号 110105194912310021") and not find_private("000-12-3456")
    assert find_private("DE89 3704 0044 0532 0130 00") == {"iban"}, "no telephone number stands in it"


def test_what_is_judged_and_trained_on_in_other_letters_is_told(tmp_path):
    read(tmp_path, "train.jsonl", ROW, {"question": "When?", "answer": "At night."})
    read(tmp_path, "valid.jsonl", {"question": WHO.lower(), "answer": ME}, {"question": "When", "answer": "At noon."})
    notes = read_parts(config(tmp_path))["train"].notes()
    assert (
        "1 example that is one of training but for how it is written: validation will look better than it is: valid.jsonl, line 1." in notes
    )
    assert "1 example kept back to judge by that training answers otherwise: valid.jsonl, line 2." in notes


def test_a_question_at_the_end_that_nobody_answers_is_told(tmp_path):
    turns = [{"role": role, "content": content} for role, content in (*PAIR, ("user", "Thanks!"))]
    notes = read(tmp_path, "a.jsonl", {"messages": turns}).notes()
    assert "ending with a question that nobody answers, which only train_on: everything reads" in notes[0]
