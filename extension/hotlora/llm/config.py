"""Options of a text run: everything that only means something for language models."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.options import option
from .columns import MAPPED
from .other_names import NAMES

BUILT_IN_TEMPLATES = ("chatml", "alpaca", "vicuna", "none")


@dataclass
class TextConfig(RunConfig):
    """All options of training a text LoRA."""

    TASK: ClassVar[str] = "text-generation"
    TASK_SPELLINGS: ClassVar[Sequence[str]] = ("text", "texts", "language", "chat", "llm", "causal-lm", "text2text", "sft")
    OTHER_NAMES: ClassVar = NAMES
    FILE_SUFFIX: ClassVar[str] = ""  # peft adapters are folders
    ALSO_WRITES: ClassVar[Sequence[str]] = ("comparison.md",)
    OF_THE_MODEL: ClassVar[Sequence[str]] = ("mixed_precision", "quantization")
    NEVER_SEARCHED: ClassVar[Sequence[str]] = ("quantization", "trust_remote_code")

    # other defaults than an image run has
    task_type: str = option(
        TASK,
        "What is trained: `image-generation` or `text-generation`.",
        choices=(TASK,),
        spellings=dict.fromkeys(TASK_SPELLINGS, TASK),
        group="Run",
    )
    base_model: str = option("", "The model to train on: its Hugging Face folder.", advanced=False, path=True, personal=True)
    train_data_dir: str = option(
        "",
        "Folder (or one file) with the training data: questions and answers, conversations, or plain text. The format is found out.",
        advanced=False,
        path=True,
        personal=True,
    )
    batch_size: int = option(4, "Examples that go through the model at once.", minimum=1, advanced=False, fixed=True, group="Learning")
    epochs: int = option(3, "How often every example is seen, unless `max_steps` is set.", minimum=1, advanced=False)
    learning_rate: float = option(2e-4, "How far each step goes. With Prodigy leave it at 1.0.", minimum=0, advanced=False)
    weight_decay: float = option(0.0, "Pull of the adapter's weights towards zero.", minimum=0)
    sample_prompts: list = option(
        [], "Questions to answer during training, and once more at the end.", advanced=False, group="Samples", personal=True
    )
    sheet_weights: list = option([0, 1.0], "Weights of the LoRA on the comparison at the end; 0 is the model without it.", items=float)

    # adapter
    target_modules: str = option(
        "all-linear",
        "Layers that get an adapter: `all-linear`, `attention`, or the ends of their names, such as `q_proj, v_proj`.",
        many=True,
        advanced=False,
        fixed=True,
        group="Layers",
    )
    train_experts: bool = option(
        False, "Train the experts of mixture models too: more to learn with, and many times more to train. Needs peft 0.17.", fixed=True
    )
    rank_pattern: dict = option({}, "Other ranks for some layers, by the ends of their names, as in peft: `{down_proj: 32}`.", fixed=True)
    alpha_pattern: dict = option({}, "Other alphas for some layers, likewise.", fixed=True)
    lora_start: str = option(
        "default",
        "Where the adapter starts: at no change, or (`pissa`, arXiv 2404.02948) along the weights' main directions, which learns faster.",
        choices=("default", "pissa"),
        fixed=True,
    )
    quantization: str = option(
        "none",
        "Stand-alone: load the model in fewer bits to save memory. Needs the package bitsandbytes.",
        choices=("none", "8bit", "4bit"),
        fixed=True,
    )

    trust_remote_code: bool = option(
        False,
        "Stand-alone: run the code that the model's folder brings, where it is of no kind that transformers knows. Read it first.",
        fixed=True,
    )

    # text
    encoding: str = option(
        "",
        "Encoding of files that are not UTF-8, such as `gbk`, `big5`, `shift_jis` or `cp1251`; found out when empty.",
        fixed=True,
        group="Text",
    )
    columns: dict = option(
        {},
        "What columns or keys of other names are: `{question: Frage, answer: Antwort}`. It names question, answer, system, context, text, "
        "messages, and source: the document a row comes from (see `split_by`).",
        fixed=True,
    )
    split_by: str = option(
        "auto",
        "What `validation_split` never parts: `question`, examples that begin with the same question; `file`, also all of one file; "
        "`auto`, also all of one `source`, where `columns` names one.",
        choices=("auto", "question", "file"),
        fixed=True,
    )
    several_answers: bool = option(
        False,
        "One question may have several answers, all of them right; else those count as contradictory (see `on_bad_data`).",
        fixed=True,
    )
    max_tokens: int = option(1024, "Longest example, in tokens; long plain texts are cut into such pieces.", minimum=8, fixed=True)
    too_long: str = option("drop", "What happens to longer conversations.", choices=("drop", "truncate"), fixed=True)
    overlap_tokens: int = option(
        0, "Tokens of the piece before that a piece of plain text begins with: read for context, not learned twice.", minimum=0, fixed=True
    )
    train_on: str = option(
        "answers", "Which tokens are learned: the assistant's turns, or everything.", choices=("answers", "everything"), fixed=True
    )
    chat_template: str = option(
        "",
        f"How conversations are written: the model's own template when empty, else one of {', '.join(BUILT_IN_TEMPLATES)}, or a Jinja file. "
        "`none` joins question and answer as they are.",
        fixed=True,
        path=True,
    )
    template_args: dict = option({}, "What the chat template is told beside the messages, such as `{enable_thinking: false}`.", fixed=True)
    template_date: str = option(
        "",
        "Day that a chat template is given which writes the date; the day the run starts when empty. Kept, so that resuming is exact.",
        fixed=True,
    )
    system_prompt: str = option("", "Put before every conversation that has no system prompt of its own.", fixed=True)
    packing: str = option(
        "auto",
        "Join a batch's examples into one row instead of padding them: faster, same result. `auto` tries whether the model can.",
        choices=("auto", "on", "off"),
    )
    neftune_alpha: float = option(
        0.0, "Noise on the embeddings while training, against parroting (arXiv 2310.05914); 5 is usual, 0 is none.", minimum=0, fixed=True
    )

    # judging
    sample_max_tokens: int = option(128, "Longest answer, in tokens.", minimum=1, group="Answers")
    sample_temperature: float = option(0.0, "Randomness of sampled answers; 0 always takes the likeliest token.", minimum=0, maximum=5)
    test_answers: int = option(
        20,
        "Questions that are answered and compared with the right answers before, during and after training: kept-back ones where "
        "there are any, else trained ones. 0 for none.",
        minimum=0,
    )

    test_answers_share: float = option(0.1, "Share of a run's time that test answers may take; 1 asks all of them.", minimum=0, maximum=1)

    def save_memory(self) -> list[dict[str, Any]]:
        """Fewer bits of the base model, too."""
        return [*super().save_memory(), *({"quantization": bits} for bits in ("8bit", "4bit") if self.quantization == "none")]

    def search_also(self) -> Mapping[str, tuple[Any, ...]]:
        """Which layers."""
        return {"target_modules": tuple(dict.fromkeys((self.target_modules, "all-linear", "attention")))}

    def search_first(self) -> Sequence[Mapping[str, Any]]:
        """All linear layers (Dettmers et al. 2023, QLoRA, https://arxiv.org/abs/2305.14314, figure 2)."""
        return [{"target_modules": "all-linear"}]

    def check(self) -> None:
        super().check()
        for known, column in self.columns.items():
            if known not in MAPPED or not isinstance(column, str) or not column.strip():
                raise UserError(
                    f"cannot use columns with {known}: {column}: it says which column is which. Write a column's name behind each of "
                    f"{', '.join(MAPPED)} that there is, such as question: Frage."
                )
        if self.overlap_tokens >= self.max_tokens:
            raise UserError(
                f"cannot overlap pieces of {self.max_tokens} tokens by {self.overlap_tokens}: nothing would be left. Set overlap_tokens lower."
            )
        if self.template_date:
            try:
                datetime.date.fromisoformat(self.template_date)
            except ValueError:
                raise UserError(
                    f"cannot use the template_date '{self.template_date}': it is no date. Write it as year-month-day: 2026-11-26."
                ) from None
        if self.auto_rank and self.lora_start == "pissa":
            raise UserError(
                "cannot choose ranks by themselves with lora_start pissa: it is saved at twice its rank already. "
                "Set lora_start: default or auto_rank: false."
            )
        if self.use_dora and self.lora_start == "pissa":
            raise UserError("cannot use use_dora with lora_start pissa: PiSSA is exported as a plain LoRA. Choose one of them.")
