"""How questions are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...engine.errors import UserError
from ...engine.options import option

QUESTION = (
    "Read this passage.\n\n{passage}\n\nWrite one question that this passage answers. Somebody who has not seen the passage must be able "
    "to understand it, so name what it is about. Write in the language of the passage. Write the question and nothing else."
)
ANSWER = (
    "Read this passage.\n\n{passage}\n\nAnswer this question by what the passage says, and by nothing else. Do not mention the passage. "
    "Write in the language of the question.\n\n{question}"
)


@dataclass
class QuestionSettings:
    """All that rows depend on beside the documents and the model."""

    OTHER_NAMES: ClassVar[Mapping] = {}
    given: ClassVar[frozenset[str]] = frozenset()

    questions_per_passage: int = option(2, "Questions that are asked of each passage.", minimum=1, maximum=20)
    passage_characters: int = option(
        1500, "Longest passage, in characters. Passages end where a paragraph or at least a sentence does.", minimum=200, maximum=20_000
    )
    answer_tokens: int = option(
        256, "Longest answer, in tokens; one that is not done by then is cut after its last full sentence.", minimum=8
    )
    question_temperature: float = option(0.7, "Randomness of questions. Answers are always the likeliest.", minimum=0, maximum=2)
    question_instruction: str = option(QUESTION, "What the model is told when it writes a question; {passage} stands for the passage.")
    answer_instruction: str = option(ANSWER, "What it is told when it answers; {passage} and {question} stand for those.")

    @classmethod
    def spell_out(cls, values: Mapping) -> Mapping:
        """Nothing here is written shorter."""
        return values

    def check(self) -> None:
        """Raise UserError where the model would not be shown what it is asked about."""
        wanted = {"question_instruction": ("{passage}",), "answer_instruction": ("{passage}", "{question}")}
        for name, places in wanted.items():
            for place in places:
                if place not in getattr(self, name):
                    raise UserError(f"cannot ask with this {name}: {place} is missing in it. Write {place} where that is to stand.")
