"""What people see of their texts is what training would use, character by character."""

import io
import json
from pathlib import Path

import pytest
from hotlora.engine.console import paint
from hotlora.engine.examples import Example
from hotlora.llm.conversation import TokenizedExample
from hotlora.llm.dataset import build_dataset
from hotlora.llm.look import look_at_texts, mark_spans
from hotlora.llm.rendering import Renderer
from small_text import GEMMA, QWEN3, finish, make_llama2_tokenizer, make_tokenizer, talk, text_config


@pytest.fixture
def faq(tmp_path) -> Path:
    path = tmp_path / "häufige Fragen.jsonl"
    write(path, [{"instruction": "What does a duskcrab eat?", "output": "Moon moss 月の苔 🌙."}, {"instruction": "Who?", "output": "She."}])
    return path


def write(path: Path, rows) -> None:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


def look(path: Path, template: str | None = None, limit: int = 30, **values):
    tokenizer = make_tokenizer(template) if template else make_tokenizer()
    return look_at_texts(text_config(train_data_dir=str(path), **values), tokenizer, limit=limit)


def test_what_is_learned_is_marked_and_the_rest_is_not(faq):
    view = look(faq)
    first = view.examples[0]
    assert first.spans == (
        ("<|im_start|>user\nWhat does a duskcrab eat?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Moon moss 月の苔 🌙.<|im_end|>", True),
        ("\n", False),
    )
    assert first.text == "".join(text for text, _ in first.spans) and first.name == "häufige Fragen.jsonl, line 1"
    assert view.count == 2 and view.notes == () and {example.problem for example in view.examples} == {""}


def test_facts_are_those_of_training(faq):
    config = text_config(train_data_dir=str(faq))
    dataset, _ = finish(build_dataset(config, Renderer(make_tokenizer(), config)))
    assert list(look(faq).facts) == dataset.facts


@pytest.mark.parametrize("border", range(1, 14))
@pytest.mark.parametrize("make", [make_tokenizer, make_llama2_tokenizer])
def test_a_character_that_a_border_goes_through_is_shown_whole(make, border):
    """Tokenizers make several tokens of it, of which none can be shown alone."""
    tokenizer, text = make(), "a 月苔🌙\ufffd z"
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    assert len(tokens) >= 14
    trained = tuple(place >= border for place in range(len(tokens)))
    spans = mark_spans(TokenizedExample(tuple(tokens), trained, "row 1"), Renderer(tokenizer, text_config()))
    read = max(end for _, end in offsets[:border])
    if make is make_llama2_tokenizer and border == 1:
        read = 0  # the space in front, which is none of the text's
    assert spans == tuple((piece, learned) for piece, learned in ((text[:read], False), (text[read:], True)) if piece)


def test_everything_is_one_span_but_for_the_first_token(faq):
    spans = look(faq, train_on="everything").examples[0].spans
    assert [learned for _, learned in spans] == [False, True] and spans[0][0] == "<|im_start|>"


def test_trouble_comes_first(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"question": f"{number}?", "answer": f"{number}."} for number in range(40)]
    rows[10] = {"messages": [{"role": "assistant", "content": "Ahoy!"}]}
    rows[20] = {"question": "Long?", "answer": "moss " * 100}
    rows[30] = rows[5]
    write(path, rows)
    view = look(path, max_tokens=60, limit=6)
    assert [example.name.partition(", ")[2] for example in view.examples] == ["line 11", "line 21", "line 31", "line 1", "line 2", "line 3"]
    wrong, long, double, sound = view.examples[:4]
    assert "leaves no token" in wrong.problem and [example.problem for example in (long, double, sound)] == ["", "", ""]
    assert "60 are allowed" in long.warning and "the same as a.jsonl, line 6" in double.warning and sound.warning == ""
    assert view.count == 40 and "1 cannot be trained on" in view.notes[0]
    assert view.examples[0].spans == (("<|im_start|>assistant\nAhoy!<|im_end|>\n", False),)


def test_what_a_template_refuses_is_shown_as_it_was_written(tmp_path):
    path = tmp_path / "a.jsonl"
    refusing = "{% if messages | length > 2 %}{{ raise_exception('no more than one question') }}{% endif %}" + GEMMA
    turns = [
        {"role": role, "content": text}
        for role, text in (("user", "What?"), ("assistant", "Moss."), ("user", "Who?"), ("assistant", "She."))
    ]
    write(path, [{"messages": turns}, {"messages": turns[:2]}])
    first, second = look(path, refusing).examples
    assert "no more than one question" in first.problem and "user: What?\n\nassistant: Moss." in first.text
    assert second.problem == "" and second.text.startswith("<s><turn>user")


def test_a_conversation_that_is_parted_shows_each_part(tmp_path):
    path = tmp_path / "a.jsonl"
    turns = [
        {"role": role, "content": text}
        for role, text in (("user", "What?"), ("assistant", "Moss."), ("user", "Who?"), ("assistant", "She."))
    ]
    write(path, [{"messages": turns}])
    assert [example.name for example in look(path, QWEN3).examples] == ["a.jsonl, line 1 (1 of 2)", "a.jsonl, line 1 (2 of 2)"]


def test_rows_that_cannot_be_read_are_said_and_do_not_hide_the_others(faq):
    faq.write_text(faq.read_text(encoding="utf-8") + '\n{"instruction": "no answer"}\n{broken', encoding="utf-8")
    view = look(faq)
    assert view.count == 2 and "2 cannot be trained on" in view.notes[0]
    assert any("line 3" in note for note in view.notes) and any("line 4" in note for note in view.notes)


def test_a_data_set_with_nothing_to_train_on_is_shown_all_the_same(faq):
    view = look(faq, max_tokens=8)
    assert view.count == 2 and all("too long" in example.warning for example in view.examples)
    assert any("all of its examples are longer than 8 tokens" in note for note in view.notes)


def test_very_long_texts_are_shown_in_part(tmp_path):
    write(tmp_path / "a.jsonl", [{"question": "Long?", "answer": "1 " * 5000}])
    example = look(tmp_path / "a.jsonl").examples[0]
    assert len(example.text) < 20_000 and example.spans[-1] == (" …", False) and "too long: 10" in example.warning


def test_without_a_tokenizer_conversations_are_shown_as_they_are(faq):
    view = look_at_texts(text_config(train_data_dir=str(faq)), None)
    assert view.examples[1].text == "user: Who?\n\nassistant: She." and view.examples[1].spans == ()
    assert dict(view.facts)["examples"] == "2" and "Load the model" in view.notes[-1]


# -- console -------------------------------------------------------------------------------------------------------------


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_console_marks_what_is_learned_in_brackets_or_in_colour():
    example = Example("row 1", "What?Moss.", spans=(("What?", False), ("Moss.", True)), problem="odd")
    assert paint(example, io.StringIO()) == "--- row 1 (odd)\nWhat?⟦Moss.⟧"
    assert paint(example, _Terminal()) == "--- row 1 (odd)\nWhat?\x1b[32mMoss.\x1b[0m"
    assert paint(Example("row 2", "plain"), io.StringIO()) == "--- row 2\nplain"


def test_a_console_that_lacks_letters_is_no_reason_to_fail():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    print(paint(Example("row 1", "月é", spans=(("月é", True),)), stream), file=stream)


def test_talk_and_files_give_the_same_tokens(faq):
    renderer = Renderer(make_tokenizer(), text_config())
    (by_hand,) = renderer.encode(talk("Who?", "She."))
    assert look(faq).examples[1].text == renderer.decode(by_hand.tokens)
