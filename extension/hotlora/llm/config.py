"""Options of a text run: everything that only means something for language models."""

from dataclasses import dataclass
from typing import ClassVar

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.options import option

BUILT_IN_TEMPLATES = ("chatml", "alpaca", "vicuna", "none")


@dataclass
class TextConfig(RunConfig):
    """All options of training a text LoRA."""

    TASK: ClassVar[str] = "text-generation"
    FILE_SUFFIX: ClassVar[str] = ""  # peft adapters are folders

    # other defaults than an image run has
    task_type: str = option(TASK, "What is trained: `image-generation` or `text-generation`.", group="Run")
    base_model: str = option("", "The model to train on: its Hugging Face folder.", advanced=False, fixed=True, path=True, personal=True)
    train_data_dir: str = option(
        "",
        "Folder (or one file) with the training data: questions and answers, conversations, or plain text. The format is found out.",
        advanced=False,
        fixed=True,
        path=True,
        personal=True,
    )
    batch_size: int = option(4, "Examples that go through the model at once.", minimum=1, advanced=False, fixed=True, group="Learning")
    epochs: int = option(3, "Times every example is seen; `max_steps` goes before it.", minimum=1, advanced=False)
    learning_rate: float = option(2e-4, "How far each step goes. With Prodigy leave it at 1.0.", minimum=0, advanced=False)
    weight_decay: float = option(0.0, "Pull of the adapter's weights towards zero.", minimum=0)
    sample_prompts: list = option(
        [], "Questions to answer during training, and once more at the end.", advanced=False, group="Samples", personal=True
    )
    sheet_weights: list = option([0, 1.0], "Weights of the LoRA on the comparison at the end; 0 is the model without it.")

    # adapter
    target_modules: str = option(
        "all-linear",
        "Layers that get an adapter: `all-linear`, `attention`, or the ends of their names, such as `q_proj, v_proj`.",
        advanced=False,
        fixed=True,
        group="Layers",
    )
    lora_start: str = option(
        "default",
        "Where the adapter starts: at no change, or (`pissa`, arXiv 2404.02948) along the weights' main directions, which learns faster.",
        choices=("default", "pissa"),
        fixed=True,
    )
    quantization: str = option(
        "none",
        "Stand-alone: load the model in fewer bits to save memory. Needs bitsandbytes and a GPU.",
        choices=("none", "8bit", "4bit"),
        fixed=True,
    )

    # text
    max_tokens: int = option(
        1024, "Longest example, in tokens; long plain texts are cut into such pieces.", minimum=8, fixed=True, group="Text"
    )
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

    def check(self) -> None:
        super().check()
        if self.overlap_tokens >= self.max_tokens:
            raise UserError(
                f"cannot overlap pieces of {self.max_tokens} tokens by {self.overlap_tokens}: nothing would be left. Set overlap_tokens lower."
            )
        if self.use_dora and self.lora_start == "pissa":
            raise UserError("cannot use use_dora with lora_start pissa: PiSSA is exported as a plain LoRA. Choose one of them.")
