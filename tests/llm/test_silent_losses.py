"""Nothing that lies in a row or beside a file is learned against its own word, and nothing of it is left out in silence."""

import json

import pytest
from hotlora.engine.errors import UserError
from hotlora.llm.dataset import build_dataset
from hotlora.llm.formats import Texts, read_texts
from hotlora.llm.parts import read_parts
from hotlora.llm.rendering import Renderer
from small_text import finish, make_tokenizer, text_config

PAIR = [("user", "Who keeps the lamp?"), ("assistant", "The daughter.")]
QUESTION, ANSWER = (text for _, text in PAIR)


def read(folder, *rows, on_bad_data="stop") -> Texts:
    path = folder / "faq.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return read_texts(path, text_config(on_bad_data=on_bad_data))


def said(texts: Texts) -> list:
    return [[(turn.role, turn.content) for turn in example.messages] for example in texts.examples]


def learned(texts: Texts) -> list[str]:
    return [turn.content for example in texts.examples for turn in example.messages if turn.role == "assistant" and turn.learned]


def notes(texts: Texts) -> str:
    return "\n".join(texts.notes())


def talk(*answers: dict, roles=("role", "content")) -> dict:
    turns = [{roles[0]: role, roles[1]: text} for answer in answers for role, text in (("user", "What?"), ("assistant", "x"))]
    for turn, answer in zip(turns[1::2], answers, strict=True):
        turn.update({roles[1] if key == "content" else key: value for key, value in answer.items()})
    return {"messages": turns}


# -- what says that it is not to be learned ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"weight": "0"}, {"train": False}, {"training": "false"}, {"loss": False}, {"masked": True}]
)
def test_an_answer_that_is_not_to_be_learned_is_not(tmp_path, mark):
    texts = read(tmp_path, talk({"content": "Bad.", **mark}, {"content": "Good."}))
    assert learned(texts) == ["Good."] and said(texts)[0][1] == ("assistant", "Bad."), "but read, as what was said before"
    assert "1 example with an answer that is not learned" in notes(texts) and "faq.jsonl, line 1" in notes(texts)


@pytest.mark.parametrize("mark", [{"weight": 1}, {"train": True}, {"loss": True}, {"masked": False}])
def test_and_one_that_is_to_be_learned_is(tmp_path, mark):
    texts = read(tmp_path, talk({"content": "Good.", **mark}))
    assert learned(texts) == ["Good."] and texts.notes() == []


def test_weights_between_are_said_to_count_in_full(tmp_path):
    texts = read(tmp_path, talk({"content": "Good.", "weight": 0.5}))
    assert learned(texts) == ["Good."] and "weights other than 0 and 1" in notes(texts)


@pytest.mark.parametrize(
    "mark",
    [
        {"label": False},
        {"label": "False"},
        {"label": 0},
        {"kto_tag": False},
        {"accepted": False},
        {"rejected": True},
        {"weight": 0},
        {"deleted": True},
    ],
)
@pytest.mark.parametrize("row", [{"prompt": QUESTION, "completion": ANSWER}, talk({"content": ANSWER})])
def test_a_row_that_is_called_bad_is_not_learned(tmp_path, mark, row):
    texts = read(tmp_path, {**row, **mark}, {"q": "Good?", "a": "Good."})
    assert learned(texts) == ["Good."] and "1 example not learned, as " in notes(texts)


def test_a_label_beside_a_plain_text_is_no_verdict(tmp_path):
    texts = read(tmp_path, {"text": "A film.", "label": 0})
    assert len(texts.examples) == 1 and "label (1)" in notes(texts)


PREFERENCES = [
    {"prompt": QUESTION, "chosen": ANSWER, "rejected": "No."},
    {"prompt": QUESTION, "chosen": [{"role": "assistant", "content": ANSWER}], "rejected": [{"role": "assistant", "content": "No."}]},
    {"chosen": "\n\nHuman: Who?\n\nAssistant: He.", "rejected": "\n\nHuman: Who?\n\nAssistant: No."},
    {**talk({"content": ANSWER}), "rejected_response": "No."},
    {"system": "", "question": QUESTION, "chosen": ANSWER, "rejected": "No."},
    {"instruction": QUESTION, "input": "", "output": ["The good answer.", "The bad answer."]},
    {
        "conversations": [{"from": "human", "value": "Who?"}],
        "chosen": {"from": "gpt", "value": "He."},
        "rejected": {"from": "gpt", "value": "No."},
    },
]


@pytest.mark.parametrize("row", PREFERENCES)
def test_preference_pairs_are_refused_and_counted(tmp_path, row):
    with pytest.raises(UserError, match="faq.jsonl, line 1: it is a preference pair"):
        read(tmp_path, row)
    texts = read(tmp_path, row, {"q": "Who?", "a": "He."}, on_bad_data="skip")
    assert learned(texts) == ["He."] and len(texts.problems) == 1


# -- what else a row says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "history",
    [
        [["When?", "At nine."]],
        [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At nine."}],
        [{"prompt": "When?", "response": "At nine."}],
        '[["When?", "At nine."]]',
    ],
)
def test_history_is_what_was_said_before(tmp_path, history):
    texts = read(tmp_path, {"instruction": QUESTION, "output": ANSWER, "history": history, "system": "Be brief."})
    assert said(texts) == [[("system", "Be brief."), ("user", "When?"), ("assistant", "At nine."), *PAIR]] and texts.notes() == []
    with pytest.raises(UserError, match="its history is no list of questions and answers"):
        read(tmp_path, {"instruction": QUESTION, "output": ANSWER, "history": [["When?"]]})


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "Complex_CoT", "思考"])
def test_thoughts_are_kept_beside_their_answers(tmp_path, key):
    texts = read(tmp_path, talk({"content": ANSWER, key: "hm"}), {"question": QUESTION, "response": ANSWER, key: "hm"})
    assert [example.messages[-1].thought for example in texts.examples] == ["hm", "hm"] and texts.notes() == []


def test_every_key_that_is_not_used_is_told_with_its_count(tmp_path):
    rows = [{"question": QUESTION, "answer": ANSWER, "category": "x", "id": number, "empty": None} for number in range(3)]
    texts = read(tmp_path, *rows, talk({"content": ANSWER, "name": "Bo"}))
    assert notes(texts) == "What these keys hold is not used: category (3), id (3), name (of turns) (1), first in faq.jsonl, line 1."


TREE = [
    {"message_id": "1", "parent_id": None, "text": "Who?", "role": "prompter", "rank": None, "lang": "en"},
    {"message_id": "2", "parent_id": "1", "text": "Bad.", "role": "assistant", "rank": 1.0},
    {"message_id": "3", "parent_id": "1", "text": "She.", "role": "assistant", "rank": 0.0},
    {"message_id": "4", "parent_id": "3", "text": "Sure?", "role": "prompter", "rank": None},
    {"message_id": "5", "parent_id": "4", "text": "Yes.", "role": "assistant", "rank": 0},
    {"message_id": "6", "parent_id": "4", "text": "Deleted.", "role": "assistant", "rank": None, "deleted": True},
    {"message_id": "7", "parent_id": "5", "text": "Thanks!", "role": "prompter", "rank": None},
]


def test_rows_of_openassistant_are_conversations_along_the_best_replies(tmp_path):
    texts = read(tmp_path, *TREE[::-1])
    assert said(texts) == [[("user", "Who?"), ("assistant", "She."), ("user", "Sure?"), ("assistant", "Yes.")]]
    assert "other replies, which people ranked lower, are not learned" in notes(texts)
    nested = {"message_tree_id": "1", "prompt": {**TREE[0], "replies": [{**TREE[2], "replies": []}, {**TREE[1], "replies": []}]}}
    assert said(read(tmp_path, nested)) == [[("user", "Who?"), ("assistant", "She.")]]


@pytest.mark.parametrize(
    "names",
    [
        ("问题", "答案"),
        ("問題", "回答"),
        ("指令", "输出"),
        ("質問", "答え"),
        ("질문", "답변"),
        ("Вопрос", "Ответ"),
        ("Питання", "Відповідь"),
        ("FRAGE", "Antwort"),
        ("Pregunta:", "Respuesta"),
        ("question", "Réponse"),
        ("Pytanie", "Odpowiedź"),
        ("Soru", "Yanıt"),
        ("Câu hỏi", "Trả lời"),
        ("سؤال", "جواب"),
        ("שאלה", "תשובה"),
        ("Questions", "Answers"),
        ("Problem", "Solution"),
        ("User Message", "assistant-response"),
    ],
)
def test_columns_are_known_in_the_languages_people_write(tmp_path, names):
    assert said(read(tmp_path, dict(zip(names, (QUESTION, ANSWER), strict=True)))) == [PAIR]
    table = tmp_path / "faq.csv"
    table.write_text(f"{names[0]},{names[1]}\n{QUESTION},{ANSWER}\n", encoding="utf-8-sig")
    assert said(read_texts(table, text_config())) == [PAIR]


def test_names_above_columns_in_a_language_nobody_knows_are_not_learned(tmp_path):
    table = tmp_path / "faq.csv"
    table.write_text("Galdera bat,Erantzun\nNoiz irekitzen duzue?,Bederatzietan.\nNon zaudete?,Bilbon.\n", encoding="utf-8")
    texts = read_texts(table, text_config())
    assert len(texts.examples) == 2 and "'Galdera bat' and 'Erantzun', which were taken for question and answer" in notes(texts)
    table.write_text("Where are you?,In Bonn.\nWho is there?,Me.\n", encoding="utf-8")
    texts = read_texts(table, text_config())
    assert len(texts.examples) == 2 and "its first row (Where are you? …) is learned like the others" in notes(texts)


# -- what is written in a template already -------------------------------------------------------------------------------

WRITTEN = {
    "ChatML": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>\n",
    "Llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{q}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{a}<|eot_id|>",
    "Llama 2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{q} [/INST] {a} </s>",
    "Zephyr": "<|system|>\nBe brief.</s>\n<|user|>\n{q}</s>\n<|assistant|>\n{a}</s>",
    "Alpaca": "Be brief.\n\n### Instruction:\n{q}\n\n### Response:\n{a}</s>",
    "Vicuna": "Be brief. USER: {q} ASSISTANT: {a}</s>",
    "Guanaco": "Be brief.\n### Human: {q}\n### Assistant: {a}",
    "DeepSeek": "<｜begin▁of▁sentence｜>Be brief.<｜User｜>{q}<｜Assistant｜>{a}<｜end▁of▁sentence｜>",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_text_in_template_form_is_the_conversation_that_it_was(tmp_path, form):
    whole = WRITTEN[form].format(q=QUESTION, a=ANSWER)
    prompt = WRITTEN[form].partition("{a}")[0].format(q=QUESTION)
    texts = read(
        tmp_path,
        {"text": whole},
        {"prompt": prompt, "completion": WRITTEN[form][len(WRITTEN[form].partition("{a}")[0]) :].format(a=ANSWER)},
    )
    assert said(texts) == [[("system", "Be brief."), *PAIR]] * 2
    assert f"2 examples written in {form} form already, which was taken apart" in notes(texts)


def test_gemma_and_talks_of_several_turns_are_taken_apart_too(tmp_path):
    first = "<bos><start_of_turn>user\nA?<end_of_turn>\n<start_of_turn>model\nB.<end_of_turn>\n"
    text = first + "<start_of_turn>user\nC?<end_of_turn>\n<start_of_turn>model\nD."
    assert said(read(tmp_path, {"text": text})) == [[("user", "A?"), ("assistant", "B."), ("user", "C?"), ("assistant", "D.")]]


def test_prose_that_looks_a_little_like_it_stays_prose(tmp_path):
    for text in ("The user: a short story", "He wrote ### Response: and left.", "USER: nobody answers", "A [INST] tag"):
        (example,) = read(tmp_path, {"text": text}).examples
        assert example.text == text


@pytest.mark.parametrize("end", ["</s>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", " <|im_end|>\n<|endoftext|>"])
def test_an_answer_with_its_end_is_the_answer(tmp_path, end):
    texts = read(tmp_path, {"question": QUESTION, "answer": ANSWER + end}, talk({"content": ANSWER + end}))
    assert learned(texts) == [ANSWER, ANSWER] and "taken off" in notes(texts)
    (document,) = read(tmp_path, {"text": "Plain." + end}).examples
    assert document.text == "Plain."


# -- for what files are --------------------------------------------------------------------------------------------------


def write(path, *questions):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps({"q": question, "a": f"{question}!"}) for question in questions), encoding="utf-8")


def parted(folder, **values):
    parts = read_parts(text_config(train_data_dir=str(folder), **values))
    return {name: [example.messages[0].content for example in texts.examples] for name, texts in parts.items()}, parts["train"]


@pytest.mark.parametrize(
    ("train", "judged"),
    [
        ("train.jsonl", "validation.jsonl"),
        ("train.jsonl", "test.jsonl"),
        ("faq.jsonl", "dev.jsonl"),
        ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
        ("faq_train.jsonl", "faq_test.jsonl"),
        ("train/a.jsonl", "test/a.jsonl"),
        ("Train.jsonl", "Eval.jsonl"),
    ],
)
def test_files_are_used_as_their_names_say(tmp_path, train, judged):
    write(tmp_path / train, "A", "B")
    write(tmp_path / judged, "C")
    parts, texts = parted(tmp_path)
    assert parts == {"train": ["A", "B"], "validation": ["C"]} and "kept back to judge by, as its name says" in notes(texts)
    parts, texts = parted(tmp_path, validation_split=0.5)
    assert parts == {"train": ["A", "B"]} and "not used, as its name says" in notes(texts)


def test_where_there_are_both_the_test_is_kept_out(tmp_path):
    for name in ("train", "validation", "test"):
        write(tmp_path / f"{name}.jsonl", name)
    parts, texts = parted(tmp_path)
    assert parts == {"train": ["train"], "validation": ["validation"]} and "(test)" in notes(texts)


@pytest.mark.parametrize(
    "names", [("faq.jsonl", "test_questions.jsonl"), ("faq.jsonl", "testimonials.jsonl"), ("test.jsonl",), ("test.jsonl", "val.jsonl")]
)
def test_questions_about_tests_are_learned(tmp_path, names):
    for name in names:
        write(tmp_path / name, name)
    assert sorted(parted(tmp_path)[0]["train"]) == sorted(names) and len(parted(tmp_path)[0]) == 1


def test_columns_and_keys_say_it_too(tmp_path):
    rows = [{"q": "A", "a": "a", "split": "train"}, {"q": "B", "a": "b", "split": "test"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert parted(tmp_path / "a.json")[0] == {"train": ["A"], "validation": ["B"]}
    (tmp_path / "b.json").write_text(json.dumps({"train": rows[:1], "validation": [{"q": "C", "a": "c"}]}))
    assert parted(tmp_path / "b.json")[0] == {"train": ["A"], "validation": ["C"]}
    (tmp_path / "c.json").write_text(json.dumps({"data": rows[:1], "others": rows[1:]}))
    with pytest.raises(UserError, match="'others': it lies beside 'data'"):
        parted(tmp_path / "c.json")


# -- contradictions ------------------------------------------------------------------------------------------------------


def test_one_question_with_two_answers_is_listed_and_stops_or_is_left_out(tmp_path):
    rows = [("When are you open?", "At nine."), ("when are you  open?", "At ten."), ("Where?", "Here."), ("Where?", "here.")]
    path = tmp_path / "faq.json"
    path.write_text(json.dumps([{"q": question, "a": answer} for question, answer in rows]))
    config = text_config(train_data_dir=str(path))
    with pytest.raises(
        UserError, match="1 question with contradictory answers:\n- 'When are you open\\?' .* faq.json, row 1; faq.json, row 2"
    ):
        read_parts(config)
    skipped = text_config(train_data_dir=str(path), on_bad_data="skip")
    dataset, _ = finish(build_dataset(skipped, Renderer(make_tokenizer(), skipped)))
    assert [example.prompt for example in dataset.train] == ["Where?", "Where?"]
    assert any("Left out as contradictory" in problem for problem in dataset.problems)
    assert len(read_parts(text_config(train_data_dir=str(path), several_answers=True))["train"].examples) == 4


def test_talks_that_begin_alike_are_no_contradictions(tmp_path):
    path = tmp_path / "faq.json"
    path.write_text(json.dumps([talk({"content": "Hello."}, {"content": "A."}), talk({"content": "Hi!"}, {"content": "B."})]))
    assert len(read_parts(text_config(train_data_dir=str(path)))["train"].examples) == 2
