"""Which tokens the model reads and which it learns: held against transformers' own rendering and against what people would mark by hand."""

import copy
import json

import pytest
from hotlora.engine.errors import UserError
from hotlora.llm.conversation import Conversation, Document, Message
from hotlora.llm.rendering import Renderer
from small_text import CHATML, GEMMA, LLAMA2, LLAMA3, QWEN3, TEMPLATES, make_llama2_tokenizer, make_tokenizer, talk, text_config

ENDS = {"chatml": "<|im_end|>", "llama2": "</s>", "llama3": "<|eot|>", "gemma": "</turn>", "qwen3": "<|im_end|>", "dated": "<|im_end|>"}
EOS = {"llama2": "</s>", "gemma": "</s>", "llama3": "</s>"}  # elsewhere the end of a turn


def renderer_for(name: str, **values) -> Renderer:
    return Renderer(tokenizer_for(name), text_config(**values))


def tokenizer_for(name: str):
    return make_tokenizer(TEMPLATES[name], eos=EOS.get(name, "<|im_end|>"), adds_bos=name in EOS)


def mark(renderer: Renderer, example) -> str:
    """The example with what is learned in brackets."""
    stretches, before = [], None
    for token, learned in zip(example.tokens, example.trained, strict=True):
        if learned != before:
            stretches.append((learned, []))
        stretches[-1][1].append(token)
        before = learned
    return "".join(f"⟦{renderer.decode(tokens)}⟧" if learned else renderer.decode(tokens) for learned, tokens in stretches)


def render_whole(tokenizer, conversation, **options) -> list[int]:
    """transformers' own way from messages to tokens."""
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options))


# -- one answer ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_answer_and_the_token_that_ends_it_are_learned_and_nothing_else(name):
    renderer, tokenizer = renderer_for(name), tokenizer_for(name)
    (example,) = renderer.encode(talk("What does it eat?", "Moon moss."))
    learned = [token for token, trained in zip(example.tokens, example.trained, strict=True) if trained]
    said = "<think>\n\n</think>\n\nMoon moss." if name == "qwen3" else "Moon moss."
    assert tokenizer.decode(learned).replace(" </s>", "</s>").strip() == said + ENDS[name]
    assert learned[-1] == renderer.stop_ids[0] == tokenizer.convert_tokens_to_ids(ENDS[name])
    first = example.trained.index(True)
    assert all(example.trained[first : first + len(learned)]), "one stretch"


@pytest.mark.parametrize("name", TEMPLATES)
def test_tokens_are_those_of_transformers_own_rendering(name):
    """Whether a tokenizer returns a list or a BatchEncoding from its templates, nobody depends on here."""
    tokenizer, renderer = tokenizer_for(name), renderer_for(name)
    conversation = talk("What does it eat?", "Moon moss.")
    (example,) = renderer.encode(conversation)
    assert list(example.tokens) == render_whole(tokenizer, conversation)
    asked = Conversation(conversation.messages[:1], "")
    question = render_whole(tokenizer, asked, add_generation_prompt=True)
    assert list(example.question) == question == renderer.encode_question("What does it eat?") == list(example.tokens[: len(question)])
    assert (example.answer, example.prompt) == ("Moon moss.", "What does it eat?")


@pytest.mark.parametrize("name", TEMPLATES)
def test_there_is_never_a_second_bos(name):
    """Trap: the template writes one and the tokenizer adds another; or, mended too eagerly, there is none at all."""
    tokenizer = make_tokenizer(TEMPLATES[name], eos="</s>", adds_bos=True)
    renderer, bos = Renderer(tokenizer, text_config()), tokenizer.bos_token_id
    (example,) = renderer.encode(talk("What?", "Moss."))
    (document,) = renderer.encode_document(Document("Moss.", "a.txt"))
    for tokens in (example.tokens, example.question, renderer.encode_question("What?"), document.tokens):
        assert tokens[0] == bos and list(tokens).count(bos) == 1
    plain = Renderer(make_tokenizer(CHATML), text_config())
    assert bos not in plain.encode_question("What?"), "a tokenizer that adds none"


def test_bos_that_the_text_itself_has_is_not_doubled():
    renderer = Renderer(make_tokenizer(eos="</s>", adds_bos=True), text_config())
    (example,) = renderer.encode_document(Document("<s><s>Moss.", "a.txt"))
    assert renderer.decode(example.tokens) == "<s>Moss.</s>"


def test_padding_with_eos_hides_no_eos():
    """Trap: where pad and eos are one token, masking by its id leaves the end of answers untrained."""
    tokenizer = make_tokenizer(LLAMA3, eos="<|eot|>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    (example,) = Renderer(tokenizer, text_config()).encode(talk("What?", "Moss."))
    assert example.tokens[-1] == tokenizer.eos_token_id and example.trained[-1]


def test_templates_own_masks_are_not_relied_on():
    """Trap: transformers' mask of the assistant's tokens is all zeros with most templates, in silence."""
    tokenizer = make_tokenizer()
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Moss."}]
    mask = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)["assistant_masks"]
    (example,) = Renderer(tokenizer, text_config()).encode(talk("What?", "Moss."))
    assert sum(mask) == 0 and example.count > 1


# -- several answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chatml", "llama2", "llama3", "gemma", "dated"])
def test_a_conversation_is_one_example_with_every_answer_learned(name):
    renderer = renderer_for(name)
    conversation = talk("What?", "Moon moss.", "Who?", "The daughter.")
    (example,) = renderer.encode(conversation)
    assert list(example.tokens) == render_whole(tokenizer_for(name), conversation)
    parts = mark(renderer, example).split("⟦")[1:]
    ends = [part.split("⟧")[0].replace(" </s>", "</s>").strip() for part in parts]
    assert ends == [f"Moon moss.{ENDS[name]}", f"The daughter.{ENDS[name]}"]
    assert (example.answer, example.prompt) == ("The daughter.", "Who?")
    assert mark(renderer, example).replace("⟦", "").replace("⟧", "").startswith(renderer.decode(example.question))


def test_where_earlier_turns_are_written_otherwise_each_answer_is_an_example_as_it_will_be_asked():
    """Trap: Qwen3 strips thoughts from earlier turns, so a conversation's whole does not begin with its start."""
    renderer, tokenizer = renderer_for("qwen3"), tokenizer_for("qwen3")
    conversation = talk("What?", "<think>hm</think>\n\nMoss.", "Who?", "<think>so</think>\n\nThe daughter.")
    first, second = renderer.encode(conversation)
    messages = conversation.messages
    for example, count in ((first, 2), (second, 4)):
        assert list(example.tokens) == render_whole(tokenizer, Conversation(messages[:count], ""))
        asked = render_whole(tokenizer, Conversation(messages[: count - 1], ""), add_generation_prompt=True)
        assert list(example.question) == asked == list(example.tokens[: len(asked)])
        assert example.answer == messages[count - 1].content and example.source == conversation.source
    assert mark(renderer, first).count("⟦") == 1 and "⟦<think>hm</think>\n\nMoss.<|im_end|>⟧" in mark(renderer, first)
    assert mark(renderer, second).endswith("assistant\nMoss.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
                                           "⟦<think>so</think>\n\nThe daughter.<|im_end|>⟧\n")  # fmt: skip


def test_where_only_the_end_of_a_conversation_ends_with_eos_each_answer_ends_so():
    """Trap: an answer in the middle would teach to go on without end."""
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% if loop.last and m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    renderer = Renderer(make_tokenizer(template, eos="</s>"), text_config())
    first, second = renderer.encode(talk("What?", "Moss.", "Who?", "She."))
    assert mark(renderer, first) == "user: What?\nassistant:⟦ Moss.\n</s>⟧"
    assert mark(renderer, second) == "user: What?\nassistant: Moss.\nuser: Who?\nassistant:⟦ She.\n</s>⟧"


def test_a_template_without_an_end_of_turn_gets_eos_after_each_answer():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    renderer = Renderer(make_tokenizer(template, eos="</s>"), text_config())
    marked = [mark(renderer, example) for example in renderer.encode(talk("What?", "Moss.", "Who?", "She."))]
    assert marked == ["user: What?\nassistant:⟦ Moss.\n</s>⟧", "user: What?\nassistant: Moss.\nuser: Who?\nassistant:⟦ She.\n</s>⟧"]


def test_an_answer_that_the_tokenizer_joins_to_its_prompt_is_parted_where_the_model_begins():
    tokenizer = make_tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}", eos="</s>")
    joined, parted = tokenizer("moon moss")["input_ids"], tokenizer("moon mo")["input_ids"]
    assert joined[: len(parted)] != parted, "else this test shows nothing"
    renderer = Renderer(tokenizer, text_config())
    (example,) = renderer.encode(talk("moon mo", "ss"))
    assert mark(renderer, example) == "moon mo⟦ss</s>⟧" and list(example.tokens[: len(parted)]) == parted


def test_a_tokenizer_that_puts_spaces_before_texts_is_not_made_to_put_one_inside():
    """Llama 2's tokenizer: an answer that it joins to its prompt cannot be tokenised alone without a space that nobody wrote."""
    renderer = Renderer(make_llama2_tokenizer(), text_config(chat_template="none"))
    (example,) = renderer.encode(talk("moss?", "moss"))
    assert renderer.decode(example.tokens).replace("<s> ", "<s>") == "<s>moss?moss</s>"
    with pytest.raises(UserError, match="which tokens of faq.jsonl, row 1 are the answer"):
        renderer.encode(talk("mo", "ss"))


def test_a_conversation_as_llama2_writes_it():
    tokenizer = make_llama2_tokenizer()
    renderer, conversation = Renderer(tokenizer, text_config()), talk("What?", "A moss.", "Who?", "She 月.", system="keep")
    (example,) = renderer.encode(conversation)
    assert list(example.tokens) == render_whole(tokenizer, conversation)
    learned = [token for token, trained in zip(example.tokens, example.trained, strict=True) if trained]
    assert tokenizer.decode(learned, skip_special_tokens=True).split() == ["A", "moss.", "She", "月."]
    assert learned.count(tokenizer.eos_token_id) == 2 and not example.trained[0]


def test_a_template_that_rewrites_its_prompts_is_refused_by_name():
    template = "{% for m in messages %}<|im_start|>{{ m.role }} {{ messages | length }} {{ m.content }}<|im_end|>{% endfor %}"
    renderer = Renderer(make_tokenizer(template), text_config())
    with pytest.raises(UserError, match=r"which tokens of faq.jsonl, row 1 are the answer.*the model's own"):
        renderer.encode(talk("What?", "Moss."))


def test_turns_after_the_last_answer_are_not_read():
    renderer = renderer_for("chatml")
    assert renderer.encode(talk("What?", "Moss.", "Thanks!")) == renderer.encode(talk("What?", "Moss."))


def test_a_turn_that_opens_a_conversation_is_no_answer():
    renderer = renderer_for("chatml")
    greeting = Conversation((Message("assistant", "Ahoy!"), Message("user", "What?"), Message("assistant", "Moss.")), "row 1")
    (example,) = renderer.encode(greeting)
    assert "⟦Moss.<|im_end|>⟧" in mark(renderer, example) and mark(renderer, example).count("⟦") == 1
    (alone,) = renderer.encode(Conversation((Message("assistant", "Ahoy!"),), "row 1"))
    assert alone.count == 0 and len(alone.trained) == len(alone.tokens)


def test_everything_means_every_token_but_the_first():
    for name in TEMPLATES:
        (example,) = renderer_for(name, train_on="everything").encode(talk("What?", "Moss.", "Who?", "She."))
        assert example.trained == (False, *[True] * (len(example.tokens) - 1)) and example.answer == "She."


# -- system prompts ------------------------------------------------------------------------------------------------------


def test_the_runs_system_prompt_stands_before_conversations_without_one():
    renderer = renderer_for("chatml", system_prompt="Answer as JSON.")
    (given,) = renderer.encode(talk("What?", "Moss.", system="Answer as JSON."))
    (own,) = renderer.encode(talk("What?", "Moss.", system="Be rude."))
    (none,) = renderer.encode(talk("What?", "Moss."))
    assert none == given and "Answer as JSON." not in renderer.decode(own.tokens)
    assert renderer.encode_question("What?") == list(given.question)


def test_a_template_without_system_prompts_has_them_in_the_first_question():
    for template in (GEMMA, CHATML.replace("for m in messages", "for m in messages if m.role != 'system'")):
        renderer = Renderer(make_tokenizer(template), text_config(system_prompt="Answer as JSON."))
        (example,) = renderer.encode(talk("What?", "Moss."))
        assert "user\nAnswer as JSON.\n\nWhat?<" in renderer.decode(example.tokens).replace("</", "<")
        assert renderer.encode_question("What?") == list(example.question)


# -- which template ------------------------------------------------------------------------------------------------------


def test_the_first_template_of_config_host_and_tokenizer_counts():
    tokenizer = make_tokenizer(CHATML, eos="</s>")
    assert Renderer(tokenizer, text_config()).template == CHATML
    assert Renderer(tokenizer, text_config(), LLAMA3).template == LLAMA3
    chosen = Renderer(tokenizer, text_config(chat_template="vicuna"), LLAMA3)
    assert chosen.template not in (CHATML, LLAMA3) and chosen.template_name == "vicuna" and chosen.warnings == []
    fallback = Renderer(make_tokenizer(None, eos="</s>"), text_config())
    assert fallback.template_name == "alpaca" and "no chat template" in fallback.warnings[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n⟦Moss.<|im_end|>⟧\n"),
        ("alpaca", "### Instruction:\nWhat?\n\n### Response:\n⟦Moss.</s>⟧\n\n"),
        ("vicuna", "USER: What?\nASSISTANT:⟦ Moss.</s>⟧"),
        ("none", "What?⟦Moss.</s>⟧"),
    ],
)
def test_built_in_templates(name, expected):
    renderer = Renderer(make_tokenizer(None, eos="</s>"), text_config(chat_template=name))
    (example,) = renderer.encode(talk("What?", "Moss."))
    assert mark(renderer, example) == expected and (renderer.template == "") == (name == "none")
    last = renderer.encode(talk("What?", "Moss.", "Who?", "She.", system="Be brief."))[-1]
    assert renderer.decode(last.tokens).startswith(("Be brief.", "<|im_start|>system\nBe brief.")) and last.answer == "She."
    assert last.trained[-1] or name in ("chatml", "alpaca")


def test_a_template_whose_end_of_turn_the_tokenizer_does_not_know_still_ends():
    renderer = Renderer(make_tokenizer(CHATML.replace("<|im_end|>", "<|fin|>"), eos="</s>"), text_config())
    (example,) = renderer.encode(talk("What?", "Moss."))
    assert mark(renderer, example).endswith("⟦Moss.<|fin|>\n</s>⟧") and "<|fin|>" in renderer.warnings[0]


def test_templates_are_read_from_the_files_that_people_have(tmp_path):
    folder = tmp_path / "mein Ordner ü"
    folder.mkdir()
    (folder / "a.jinja").write_text(GEMMA, encoding="utf-8-sig")
    (folder / "b.json").write_text(json.dumps({"chat_template": GEMMA, "eos_token": "</s>"}), encoding="utf-8")
    (folder / "c.yaml").write_text(json.dumps({"instruction_template": GEMMA}), encoding="utf-8")  # JSON is YAML
    for path in folder.iterdir():
        renderer = Renderer(make_tokenizer(), text_config(chat_template=str(path)))
        assert renderer.template == GEMMA and renderer.template_name == path.name


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (None, "chatmel", "Did you mean 'chatml'"),
        (None, "nowhere.jinja", "neither the name of one nor a file"),
        ("", "a.jinja", "the file is empty"),
        ("{", "a.json", "cannot read the chat template"),
        ("name: x", "a.yaml", "it has none under chat_template or instruction_template"),
        ("{% for m in %}", "a.jinja", "cannot use the chat template 'a.jinja'"),
        ("{{ raise_exception('never') }}", "a.jinja", "never"),
        ("{{ messages[0].content }}", "a.jinja", "it leaves answers out"),
    ],
)
def test_templates_that_cannot_be_used_are_said(tmp_path, monkeypatch, content, name, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        Renderer(make_tokenizer(), text_config(chat_template=name))


def test_what_a_template_refuses_is_said_with_source_and_template():
    template = "{% if messages[0].content == 'Boo!' %}{{ raise_exception('do not shout') }}{% endif %}" + CHATML
    renderer = Renderer(make_tokenizer(template), text_config())
    with pytest.raises(UserError, match=r"faq.jsonl, row 7 with the chat template 'the model's own': do not shout"):
        renderer.encode(talk("Boo!", "Moss.", source="faq.jsonl, row 7"))
    with pytest.raises(UserError, match="cannot ask 'Boo!'"):
        renderer.encode_question("Boo!")


def test_without_any_token_that_ends_an_answer_there_is_no_training():
    with pytest.raises(UserError, match="has a token that ends an answer"):
        Renderer(make_tokenizer("{% for m in messages %}{{ m.content }}\n{% endfor %}", eos=None), text_config())


def test_the_tokenizer_is_left_as_it_was():
    tokenizer = make_tokenizer(LLAMA2, eos="</s>", adds_bos=True)
    names = ("chat_template", "pad_token", "padding_side", "truncation_side", "special_tokens_map", "init_kwargs", "model_max_length")
    before = copy.deepcopy({name: getattr(tokenizer, name) for name in names})
    backend = tokenizer.backend_tokenizer.to_str()
    renderer = Renderer(tokenizer, text_config(chat_template="alpaca", system_prompt="Be brief."), QWEN3)
    renderer.encode(talk("What?", "Moss."))
    renderer.encode_document(Document("Moss. " * 50, "a.txt"))
    renderer.encode_question("What?")
    assert {name: getattr(tokenizer, name) for name in names} == before and tokenizer.backend_tokenizer.to_str() == backend


# -- documents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 1, 5, 15])
@pytest.mark.parametrize("words", [1, 10, 14, 15, 16, 200])
def test_every_token_of_a_document_but_the_first_is_learned_once_whatever_the_overlap(overlap, words):
    """Trap: pieces that overlap show their middles twice."""
    tokenizer = make_tokenizer(eos="</s>", adds_bos=True)
    renderer = Renderer(tokenizer, text_config(max_tokens=16, overlap_tokens=overlap))
    text = " ".join(str(number) for number in range(words))
    whole = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    pieces = renderer.encode_document(Document(text, "a.txt"))
    learned = [token for piece in pieces for token, trained in zip(piece.tokens, piece.trained, strict=True) if trained]
    assert learned == whole[1:] and list(pieces[0].tokens) == whole[:16]
    assert all(len(piece.tokens) <= 16 and not piece.trained[0] and not piece.question for piece in pieces)
    for before, after in zip(pieces, pieces[1:], strict=False):
        context = max(overlap, 1)
        assert after.tokens[:context] == before.tokens[-context:] and not any(after.trained[:context]) and after.trained[context]
