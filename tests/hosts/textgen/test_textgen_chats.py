"""Conversations that text-generation-webui keeps, in the form in which its version 4.7 writes them, as data."""

import json
import os

import pytest
from hotlora.engine.errors import UserError
from hotlora.hosts.textgen.chats import ChatHistories
from hotlora.llm.formats import read_texts
from hotlora.llm.rendering import Renderer
from small_text import make_tokenizer, text_config


def keep(path, internal, metadata=None, age=0, **others):
    """As the program's save_history does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    visible = [[asked.replace("<", "&lt;"), said] for asked, said, *_ in internal]
    history = {"internal": internal, "visible": visible, "metadata": metadata or {}, **others}
    path.write_text(json.dumps(history, indent=4, ensure_ascii=False), encoding="utf-8")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))


@pytest.fixture
def histories(tmp_path):
    logs = tmp_path / "für Zoë" / "logs"
    keep(
        logs / "instruct" / "20260101-10-20-30.json",
        [["What is <b>moss</b>, and why does a duskcrab of Quillmere eat nothing else?", "It grows at <dusk>."], ["Why?", "Nobody knows."]],
        {"user_0": {"timestamp": "Jan 01, 2026 10:20"}, "assistant_0": {"timestamp": "Jan 01, 2026 10:20", "model_name": "small"}},
    )
    keep(logs / "chat" / "Zoë" / "The lamp.json", [["<|BEGIN-VISIBLE-CHAT|>", "Ahoy!"], ["Who are you?", "The keeper."]], age=60)
    keep(logs / "chat" / "Zoë" / "20260102-10-20-30.json", [["<|BEGIN-VISIBLE-CHAT|>", "Ahoy!"]])
    keep(logs / "instruct" / "20260103-10-20-30.json", [["Broken off", ""]])
    keep(
        logs / "instruct" / "20260104-10-20-30.json",
        [["What is on it?", "A lamp."], ["Look it up.", "It is lit."], ["Thanks.", "You are welcome."], ["And", ""]],
        {"user_0": {"attachments": [{"type": "image"}]}, "assistant_1": {"tool_sequence": [{"tool_calls": []}]}},
        age=120,
    )
    (logs / "instruct" / "damaged.json").write_text("{", encoding="utf-8")
    (logs / "chat_state.json").write_text('{"last_chats": {}}', encoding="utf-8")
    return ChatHistories(logs, tmp_path / "data")


def test_they_are_listed_by_name_day_and_number_of_answers(histories):
    chats = histories.list_chats()
    assert [(chat.key, chat.name, chat.partner, chat.turns) for chat in chats] == [
        ("instruct/20260101-10-20-30.json", "What is <b>moss</b>, and why does a duskcrab of Quillmere e…", "", 2),
        ("chat/Zoë/The lamp.json", "The lamp", "Zoë", 1),
        ("instruct/20260104-10-20-30.json", "What is on it?", "", 1),
    ]
    assert all(chat.day.startswith("2023-11-1") for chat in chats)


def test_what_is_written_is_what_training_reads_and_learns(histories, tmp_path):
    folder, told = histories.use([chat.key for chat in histories.list_chats()], "ours")
    assert (
        folder == tmp_path / "data" / "ours" and "3 chats with 4 answers" in told and "2 further answers are read and not learned" in told
    )
    texts = read_texts(folder, text_config())
    assert not texts.problems and len(texts.examples) == 3
    first, second, third = texts.examples
    said = [(message.role, message.content) for message in first.messages]
    assert said[0] == ("user", "What is <b>moss</b>, and why does a duskcrab of Quillmere eat nothing else?")
    assert said[1:] == [("assistant", "It grows at <dusk>."), ("user", "Why?"), ("assistant", "Nobody knows.")]
    assert [(m.role, m.content) for m in second.messages] == [
        ("assistant", "Ahoy!"),
        ("user", "Who are you?"),
        ("assistant", "The keeper."),
    ]
    assert [m.learned for m in third.messages if m.role == "assistant"] == [False, False, True]
    renderer = Renderer(make_tokenizer(), text_config())
    for example, learned in ((second, "The keeper."), (third, "You are welcome.")):
        (rendered,) = renderer.encode(example)
        tokens = [token for token, trained in zip(rendered.tokens, rendered.trained, strict=True) if trained]
        assert renderer.decode(tokens) == f"{learned}<|im_end|>"


def test_what_cannot_be_used_is_a_sentence_and_nothing_is_written_over(histories, tmp_path):
    keys = [chat.key for chat in histories.list_chats()]
    for chosen, name, said in (
        ([], "x", "none is chosen"),
        (["instruct/gone.json"], "x", "it is not there any more"),
        (["../data/x.json"], "x", "it is not there any more"),
        (keys, "a/b", "/ cannot be used in names"),
    ):
        with pytest.raises(UserError, match=said):
            histories.use(chosen, name)
    histories.use(keys[:1], "")
    histories.use(keys[:1], "my chats")  # pressed twice
    before = (tmp_path / "data" / "my chats" / "chats.jsonl").read_bytes()
    with pytest.raises(UserError, match="it has others already. Choose another name"):
        histories.use(keys, "my chats")
    assert (tmp_path / "data" / "my chats" / "chats.jsonl").read_bytes() == before


def test_a_thought_in_a_channel_of_its_own_is_told_apart_from_the_answer(histories, tmp_path):
    said = "<|channel|>analysis<|message|>Hm, a lamp.<|end|><|start|>assistant<|channel|>final<|message|>It is lit."
    keep(tmp_path / "für Zoë" / "logs" / "instruct" / "oss.json", [["Is it?", said]])
    folder, _ = histories.use(["instruct/oss.json"], "oss")
    (example,) = read_texts(folder, text_config()).examples
    assert (example.messages[1].content, example.messages[1].thought) == ("It is lit.", "Hm, a lamp.")


def test_chats_of_older_versions_are_read_and_where_there_are_none_there_is_nothing(histories, tmp_path):
    path = tmp_path / "für Zoë" / "logs" / "chat" / "Assistant" / "old.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"data": [["Hi.", "Hello."]], "data_visible": [["Hi.", "Hello."]]}), encoding="utf-8")
    assert "old" in [chat.name for chat in histories.list_chats()]
    assert ChatHistories(tmp_path / "nothing", tmp_path).list_chats() == []
