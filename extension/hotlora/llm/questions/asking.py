"""What the model is asked about a passage, and which of what it says can be used.

Two plain generations: a question to the passage, then, with that question, its answer. Small models do not keep to formats such as JSON,
and what they say beside one ("Here is your question:") is easily told from a single question; a whole list of pairs that breaks off, or
of which one comma is missing, is lost. The second generation also sees nothing but what it has to answer.

Nothing is mended by guessing: what cannot be used is dropped, with a reason. Pure, but for the model that is handed in.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass

from ..thoughts import split_thought
from .passages import Passage
from .settings import QuestionSettings

Ask = Callable[[str, int, float, int], tuple[str, bool]]
"""(prompt, most tokens, temperature, seed) -> (what the model says, whether it came to an end by itself)."""

QUESTION_TOKENS = 128
_LONGEST_QUESTION = 400  # characters
_MOST_COPIED = 0.7  # of a passage
_GRAM, _LOOPED = 8, 80  # characters: what goes round in circles is seen in so long a text by pieces of that length
_LABEL = re.compile(
    r"(?:[-*•>#\s]|\d{1,2}[.)]\s|\*\*)*(?:(?:the |your |a )?(?:question|answer|frage|antwort|pregunta|respuesta|réponse)(?: \d+)?|[qa]\d*|"
    r"问题|問題|问|答案|回答|答|質問)\s*[:：]\s*(?:\*\*)?\s*",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*(?:[-*•]\s+|\d{1,2}[.)]\s+|#{1,6}\s+)")
_NEXT = re.compile(r"\n\s*(?:\*\*)?(?:question|answer|q|a|passage|问题|問題|答案|回答|質問)(?: ?\d+)?\s*[:：]", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "«": "»", "„": "“", "「": "」", "*": "*", "`": "`"}
_LEAD = re.compile(
    r"[^:：?？]{0,60}\b(?:question|frage|pregunta)\b[^:：?？]{0,30}[:：]\s*|[^:：?？]{0,20}(?:问题|問題|質問)[^:：?？]{0,8}[:：]\s*",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\b(?:passage|(?:this|the|given) (?:text|document|excerpt|paragraph))\b|[本上]文|文中|这段|该段|段落", re.IGNORECASE)
_ACCORDING = re.compile(
    r"(?:according to|based on|as (?:stated|mentioned) in) (?:this|the)(?: given)? (?:passage|text|document),?\s+", re.IGNORECASE
)
_SENTENCES = re.compile(r"[.!。！]\s*\S")
_ECHO = 20  # letters: less of an instruction may be said by chance
_SENTENCE_END = re.compile(r"[.!?…。！？؟।](?=[\"'”’»」)\]]*(?:\s|$))[\"'”’»」)\]]*|[。！？][”’」）]*")


@dataclass(frozen=True)
class Pair:
    """A question and its answer, or why there is none. ``dropped``: one of a few reasons, for people who count them."""

    question: str = ""
    answer: str = ""
    dropped: str = ""


def ask_pair(
    ask: Ask, passage: Passage, known: Collection[str], earlier: Sequence[str], settings: QuestionSettings, seed: int
) -> Generator[None, None, Pair]:
    """The pair; between its two generations the model may go back to its host.

    Args:
        known: questions that are there already, as :func:`plain` writes them.
        earlier: those about this passage.
    """
    prompt = fill(settings.question_instruction, passage=passage.text)
    if earlier:
        prompt += "\n\nThese are there already; ask about something else:\n" + "\n".join(f"- {question}" for question in earlier)
    said, is_whole = ask(prompt, QUESTION_TOKENS, settings.question_temperature, seed)
    question = clean_question(said)
    told = fill(settings.question_instruction, passage="")
    dropped = "the question is there already" if plain(question) in known else _judge_question(question, is_whole, told, passage)
    if dropped:
        return Pair(question, dropped=dropped)
    yield
    prompt = fill(settings.answer_instruction, passage=passage.text, question=question)
    said, is_whole = ask(prompt, settings.answer_tokens, 0.0, seed)
    answer = clean_answer(said, is_whole)
    told = fill(settings.answer_instruction, passage="", question="")
    return Pair(question, answer, _judge_answer(answer, said, question, told, passage))


def fill(instruction: str, **values: str) -> str:
    """With what stands for its places; braces in that are left alone."""
    return re.sub(r"\{(passage|question)\}", lambda place: values.get(place[1], place[0]), instruction)


def clean_question(said: str) -> str:
    """The first line that is no introduction, without labels, bullets and quotation marks, up to its question mark."""
    lines = [line.strip() for line in split_thought(said)[1].splitlines() if line.strip()]
    while len(lines) > 1 and lines[0].rstrip("* ").endswith((":", "：")):
        lines = lines[1:]
    line = lines[0] if lines else ""
    for introduction in (_LABEL, _LEAD, _BULLET):
        found = introduction.match(line)
        line = line[found.end() :] if found and found.end() < len(line) else line
    line = _skip_source(_unwrap(line))
    last = max((line.rfind(mark) for mark in "?？؟"), default=-1)
    return line[: last + 1].strip() if last > 0 else line


def clean_answer(said: str, is_whole: bool) -> str:
    """Without thought and label, and without a next question that the model asks itself; of one that was cut off, the full sentences."""
    text = split_thought(said)[1].strip()
    label = _LABEL.match(text)
    text = text[label.end() :] if label else text
    following = _NEXT.search(text)
    if following:
        text = text[: following.start()]
    elif not is_whole:
        ends = [found.end() for found in _SENTENCE_END.finditer(text)]
        text = text[: ends[-1]] if ends else ""
    return _skip_source(_unwrap(text))


def _skip_source(text: str) -> str:
    """Without `According to the passage,` in front: nobody who asks will have seen one."""
    found = _ACCORDING.match(text)
    return text[found.end()].upper() + text[found.end() + 1 :] if found and found.end() < len(text) else text


def _unwrap(text: str) -> str:
    """Without quotation marks or stars around the whole of it."""
    text = text.strip()
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1].replace("**", ""):
        text = text[1:-1].strip()
    return text.strip("*").strip() if text.startswith("**") and text.endswith("**") else text


def plain(text: str) -> str:
    """Equal for two spellings of the same: letters and digits alone."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def _judge_question(question: str, is_whole: bool, told: str, passage: Passage) -> str:
    """Why it cannot be used; nothing where it can. ``told``: the instruction alone."""
    said = plain(question)
    if not said:
        return "the question is empty"
    asks = question.endswith(("?", "？", "؟"))
    if len(question) > _LONGEST_QUESTION or not (asks or is_whole):
        return "the question does not come to an end"
    if _echoes(said, told):
        return "the question repeats what the model was told"
    if not asks and said in plain(passage.text):
        return "the question repeats the passage"
    if not asks and _SENTENCES.search(question):
        return "the question is none"
    if _is_about_passage(question, passage):
        return "the question is about the passage itself"
    return "the question goes round in circles" if goes_round(question) else ""


def _judge_answer(answer: str, said: str, question: str, told: str, passage: Passage) -> str:
    """Likewise. ``said``: all of it, as the model did."""
    words = plain(answer)
    if not words:
        return "the answer does not come to an end" if plain(said) else "the answer is empty"
    if words == plain(question):
        return "the answer repeats the question"
    if _echoes(words, told):
        return "the answer repeats what the model was told"
    whole = plain(passage.text)
    if len(words) > _LOOPED and (whole in words or (words in whole and len(words) > _MOST_COPIED * len(whole))):
        return "the answer repeats the whole passage"
    if _is_about_passage(answer, passage):
        return "the answer is about the passage itself"
    return "the answer goes round in circles" if goes_round(answer) else ""


def _is_about_passage(said: str, passage: Passage) -> bool:
    """Whether it speaks of a text that whoever asks has never seen, and the passage itself does not."""
    return bool(_ABOUT.search(said)) and not _ABOUT.search(passage.text)


def _echoes(said: str, told: str) -> bool:
    return len(said) >= _ECHO and said in plain(told)


def goes_round(text: str) -> bool:
    """Whether more than three quarters of it are repetition, as of models that have lost their way; in any language."""
    text = " ".join(text.split())
    grams = [text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1)]
    return len(text) >= _LOOPED and len(set(grams)) < len(grams) / 4
