"""How a language model answers and reads: its answers to questions of the data, graded; and how hard a small fixed set of general text is
for it, by which it is seen what it has forgotten. Draws nothing and trains nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

FORGOTTEN = 1.1  # times the perplexity of general text without a LoRA
GENERAL_TEXT = (  # of several kinds, none of them about anything that people train; the same for ever, so that numbers can be compared
    "Water boils at a lower temperature on a mountain than at the sea, because the air above it presses less. So rice takes longer there.",
    "The train to the coast leaves at seven in the morning. If you miss it, there is a bus from the square at half past eight.",
    "Dear Ms Allen, thank you for your letter of the third of May. We are glad to tell you that your order has been sent today.",
    "def add_up(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n    return total\n",
    "She closed the door behind her and stood still for a moment. Somewhere in the house a clock struck four, and then it was quiet again.",
    "Parliament has passed the budget by a narrow majority. Its opponents said that it left too little for schools and clinics.",
    "To make the dough, mix two cups of flour with a pinch of salt, add warm water little by little, and knead it until it sticks no more.",
    "A triangle whose sides are three, four and five units long has a right angle, for nine and sixteen are twenty-five.",
)


@dataclass(frozen=True)
class Answers:
    """Of one checkpoint.

    Attributes:
        asked: how many questions, and of which kind: "kept-back questions".
        scores: mean of each, between 0 and 1; see ``llm.grading.grade_answer``.
        general: perplexity of the general text, by token.
    """

    asked: int
    kind: str
    scores: Mapping[str, float]
    general: float

    def tell(self) -> str:
        """In a line of others."""
        graded = ", ".join(f"{name} {score:.0%}" for name, score in self.scores.items())
        return (f"{graded} of {self.asked} {self.kind}, " if graded else "") + f"perplexity of general text {self.general:.2f}"


def measure_answers(trainee: Any) -> Answers:
    """By the model as it stands. ``trainee``: a prepared one that answers."""
    questions = trainee.questions()
    graded = [trainee.grade(question) for question in questions]
    names = dict.fromkeys(name for scores in graded for name in scores)
    means: dict[str, float] = {}
    for name in names:
        values = [scores[name] for scores in graded if name in scores]
        means[name] = sum(values) / len(values)
    return Answers(len(questions), trainee.what_is_asked(), means, _measure_general(trainee.model))


@torch.no_grad()
def _measure_general(model: Any) -> float:
    """e to the mean cross-entropy of each token but the first of a text."""
    total, count = 0.0, 0
    for text in GENERAL_TEXT:
        tokens = torch.tensor([model.tokenizer(text).input_ids], device=model.device)
        with model.autocast():
            logits = model.net(input_ids=tokens).logits
        total += F.cross_entropy(logits[0, :-1].float(), tokens[0, 1:], reduction="sum").item()
        count += tokens.shape[1] - 1
    return math.exp(min(total / count, 700.0))
