"""Models that think before they answer: their templates' prompts begin thoughts which the same templates leave out of given answers.

The templates imitate, in few words, the shapes of those in the wild; each is named after a family that has it.
"""

import pytest
from hotlora.engine.errors import UserError
from hotlora.llm.conversation import Conversation, Message
from hotlora.llm.grading import grade_answer
from hotlora.llm.rendering import Renderer
from hotlora.llm.thoughts import find_opening, split_thought
from small_text import CHATML, DATED, QWEN3, make_tokenizer, talk, text_config

_TURNS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<turn>assistant\n{ANSWER}<|eot|>"
    "{% else %}<turn>{{ m.role }}\n{{ m.content }}</turn>{% endif %}{% endfor %}"
)
_DROPS = "{{ m.content.split('</think>')[-1].lstrip('\n') }}"


def shape(answer: str, prompt: str) -> str:
    asks = "{% if add_generation_prompt %}<turn>assistant\n" + prompt + "{% endif %}"
    return _TURNS.replace("{ANSWER}", answer) + asks


R1 = shape(_DROPS, "<think>\n")
QWQ = shape("{% if loop.last and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}" + _DROPS, "<think>\n")
NEMOTRON = shape("{% if loop.last %}<think>\n\n{{ m.content }}{% else %}" + _DROPS + "{% endif %}", "<think>\n\n")  # never closes it
SWITCHED = shape(_DROPS, "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}")
DEEPSEEK = shape("</think>" + _DROPS, "{% if thinking %}<think>{% else %}</think>{% endif %}")
SEED = shape("{{ m.content.split('</seed:think>')[-1] }}", "<seed:think>")
UNPROMPTED = shape(_DROPS, "")
SQUARE = shape("{{ m.content.split('[/THINK]')[-1] }}", "[THINK]")


def render(template: str, conversation: Conversation, **values) -> tuple[list[str], Renderer]:
    """What the model is asked and what of it is learned, `prompt⟦learned⟧rest`, of every example."""
    renderer = Renderer(make_tokenizer(template, eos="</s>"), text_config(**values))
    marked = []
    for example in renderer.encode(conversation):
        first = example.trained.index(True)
        last = len(example.trained) - example.trained[::-1].index(True)
        assert list(example.tokens[: len(example.question)]) == list(example.question) and first == len(example.question)
        parts = (example.tokens[:first], example.tokens[first:last], example.tokens[last:])
        marked.append("{}⟦{}⟧{}".format(*map(renderer.decode, parts)))
    return marked, renderer


def thinking(answer: str = "Moss.", thought: str = "hm") -> Conversation:
    return Conversation((Message("user", "What?"), Message("assistant", answer, thought=thought)), "row 1")


ASKED = "<turn>user\nWhat?</turn><turn>assistant\n"


@pytest.mark.parametrize(
    ("template", "values", "without", "with_thought"),
    [
        (R1, {}, "<think>\n⟦\n</think>\n\nMoss.<|eot|>⟧", "<think>\n⟦hm\n</think>\n\nMoss.<|eot|>⟧"),
        (QWQ, {}, "<think>\n⟦\n</think>\n\nMoss.<|eot|>⟧", "<think>\n⟦hm\n</think>\n\nMoss.<|eot|>⟧"),
        (NEMOTRON, {}, "<think>\n\n⟦\n</think>\n\nMoss.<|eot|>⟧", "<think>\n\n⟦hm\n</think>\n\nMoss.<|eot|>⟧"),
        (SWITCHED, {}, "<think>\n⟦\n</think>\n\nMoss.<|eot|>⟧", "<think>\n⟦hm\n</think>\n\nMoss.<|eot|>⟧"),
        (
            SWITCHED,
            {"template_args": {"enable_thinking": False}},
            "<think>\n\n</think>\n\n⟦Moss.<|eot|>⟧",
            "<think>\n\n</think>\n\n⟦Moss.<|eot|>⟧",
        ),
        (DEEPSEEK, {}, "</think>⟦Moss.<|eot|>⟧", "</think>⟦Moss.<|eot|>⟧"),
        (
            DEEPSEEK,
            {"template_args": {"thinking": True}},
            "<think>⟦\n\n</think>\n\nMoss.<|eot|>⟧",
            "<think>⟦\nhm\n</think>\n\nMoss.<|eot|>⟧",
        ),
        (SEED, {}, "<seed:think>⟦\n\n</seed:think>\n\nMoss.<|eot|>⟧", "<seed:think>⟦\nhm\n</seed:think>\n\nMoss.<|eot|>⟧"),
        (SQUARE, {}, "[THINK]⟦\n\n[/THINK]\n\nMoss.<|eot|>⟧", "[THINK]⟦\nhm\n[/THINK]\n\nMoss.<|eot|>⟧"),
        (UNPROMPTED, {}, "⟦Moss.<|eot|>⟧", "⟦<think>\nhm\n</think>\n\nMoss.<|eot|>⟧"),
    ],
)
def test_what_is_learned_goes_on_from_the_prompt_that_will_be_asked(template, values, without, with_thought):
    (plain,), renderer = render(template, talk("What?", "Moss."), **values)
    assert plain == ASKED + without
    closed = "</think>" in without.split("⟦")[0]
    assert any("learns not to" in note for note in renderer.warnings) is not closed
    (thought,), renderer = render(template, thinking(), **values)
    assert thought == ASKED + with_thought
    assert any("a thought that is not learned" in note for note in renderer.warnings) is closed
    assert not any("learns not to" in note for note in renderer.warnings)


@pytest.mark.parametrize("template", [R1, QWQ, SWITCHED, UNPROMPTED])
def test_a_thought_inside_the_answer_is_learned_like_one_beside_it(template):
    (inside,), _ = render(template, talk("What?", "<think>hm</think>\n\nMoss."))
    (beside,), _ = render(template, thinking())
    assert inside == beside


def test_of_a_talk_each_answer_is_learned_as_it_will_be_asked():
    marked, _ = render(R1, talk("What?", "<think>hm</think>Moss.", "Who?", "She."))
    assert marked == [
        f"{ASKED}<think>\n⟦hm\n</think>\n\nMoss.<|eot|>⟧",
        f"{ASKED}Moss.<|eot|><turn>user\nWho?</turn><turn>assistant\n<think>\n⟦\n</think>\n\nShe.<|eot|>⟧",
    ]


def test_a_template_that_keeps_thoughts_is_left_alone():
    (marked,), renderer = render(QWEN3, talk("What?", "<think>hm</think>\n\nMoss."))
    assert marked.endswith("assistant\n⟦<think>hm</think>\n\nMoss.<|im_end|>⟧\n") and renderer.warnings == []


def test_where_a_template_knows_no_thoughts_they_are_said_to_be_left_out():
    (marked,), renderer = render(CHATML, thinking())
    assert "hm" not in marked and "no place for it" in renderer.warnings[0] and "row 1" in renderer.warnings[0]
    assert render(CHATML, talk("What?", "Moss."))[1].warnings == []


def test_an_argument_that_the_template_does_not_know_is_refused_and_those_it_knows_are_named():
    with pytest.raises(UserError, match="enable_thinkin in template_args.*it knows enable_thinking"):
        render(SWITCHED, talk("What?", "Moss."), template_args={"enable_thinkin": False})
    with pytest.raises(UserError, match="it takes none"):
        render(CHATML, talk("What?", "Moss."), template_args={"enable_thinking": False})


def test_answers_are_graded_without_their_thoughts():
    for given in ("<think>so</think>Moss.", "so and so\n</think>\n\nMoss.", "[THINK]a[/THINK]Moss.", "Moss."):
        assert grade_answer("<think>hm</think>\n\nMoss.", given) == {"exact match": 1.0}
    assert split_thought("<thinking>a</thinking>b") == ("a", "b") and split_thought("b") == ("", "b")
    assert find_opening("x<think>") and not find_opening("<think>").closed and find_opening("plain") is None


# -- dates ---------------------------------------------------------------------------------------------------------------


def test_a_template_with_a_date_is_the_run_s_own_day_whenever_it_goes_on():
    config = text_config(template_date="2024-02-29")
    renderer = Renderer(make_tokenizer(DATED), config)
    assert "It is 2024-02-29." in renderer.decode(renderer.encode_question("What?"))
    fresh = text_config()
    Renderer(make_tokenizer(DATED), fresh)
    assert len(fresh.template_date) == 10, "kept in the run's config from here on"
    plain = text_config()
    Renderer(make_tokenizer(), plain)
    assert plain.template_date == ""
    assert renderer.template == DATED, "what is saved beside the adapter asks for the day as it did"
    with pytest.raises(UserError, match="it is no date"):
        text_config(template_date="tomorrow")


# -- what is learned of a talk -------------------------------------------------------------------------------------------


def test_an_answer_that_is_not_to_be_learned_is_read_only():
    bad = Message("assistant", "Bad.", learned=False)
    turns = (Message("user", "What?"), bad, Message("user", "Who?"), Message("assistant", "She."))
    renderer = Renderer(make_tokenizer(), text_config())
    (example,) = renderer.encode(Conversation(turns, "row 1"))
    learned = renderer.decode([token for token, trained in zip(example.tokens, example.trained, strict=True) if trained])
    assert learned == "She.<|im_end|>" and "Bad." in renderer.decode(example.tokens)
    (last,) = renderer.encode(Conversation((*turns[:2], turns[2], turns[3], Message("user", "So?"), bad), "row 1"))
    assert last.answer == "She." and "So?" not in renderer.decode(last.tokens), "what only comes after it is not read"
    (everything,) = Renderer(make_tokenizer(), text_config(train_on="everything")).encode(Conversation(turns, "row 1"))
    learned = renderer.decode([token for token, trained in zip(everything.tokens, everything.trained, strict=True) if trained])
    assert "Bad." not in learned and "What?" in learned and "She." in learned


def test_an_answer_that_ends_with_the_end_already_ends_once():
    renderer = Renderer(make_tokenizer(), text_config())
    (example,) = renderer.encode(talk("What?", "Moss.<|im_end|>"))
    assert list(example.tokens).count(renderer.stop_ids[0]) == 2  # the question's and the answer's
    assert "taken off" in renderer.warnings[0]
