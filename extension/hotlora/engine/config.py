"""The options every kind of training run has. ``sd`` and ``llm`` add their own in subclasses.

One dataclass is the single source of YAML keys, ``--set`` overrides, the tables in docs/options.md, metadata and widgets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from .errors import UserError
from .idle import Uses, list_uses, tell_idle
from .names import check_name
from .options import option, options_of
from .other_names import OtherName
from .settling import sets_own_rates, settle
from .spellings import MIXED_PRECISIONS, PRECISIONS
from .spellings import OPTIMIZERS as OPTIMIZER_SPELLINGS
from .spellings import SCHEDULERS as SCHEDULER_SPELLINGS
from .values import read_arguments, read_first_word

OPTIMIZERS = ("AdamW", "AdamW8bit", "PagedAdamW8bit", "Lion", "Prodigy", "Adafactor", "AdamWScheduleFree")
SCHEDULERS = ("constant", "linear", "cosine", "cosine_with_restarts", "polynomial")
AUTO_RANK = 32  # what `lora_rank: auto` trains at
_SPLIT_FOR_AUTO_RANK = 0.1


@dataclass
class RunConfig:
    """Options of a training run, whatever it trains."""

    TASK: ClassVar[str] = ""
    TASK_SPELLINGS: ClassVar[Sequence[str]] = ()  # other words for it
    OTHER_NAMES: ClassVar[Mapping[str, OtherName]] = {}  # what other trainers call these options, or have that is none here
    FILE_SUFFIX: ClassVar[str] = ""  # of an adapter; none where it is a folder
    NAMES_TAKEN: ClassVar[Sequence[str]] = ("checkpoints", "samples", "state", "logs", "grid")  # by folders of a run
    ALSO_WRITES: ClassVar[Sequence[str]] = ()  # files of a finished run beside the adapter, of which `{name}` is the name
    OF_THE_MODEL: ClassVar[Sequence[str]] = ("mixed_precision",)  # options by which a model is loaded
    NEVER_SEARCHED: ClassVar[Sequence[str]] = ()  # options of the adapter and of learning on which data or judge depend after all

    task_type: str = option("", "What is trained.", group="Run")
    base_model: str = option(
        "", "The model to train on: a single-file checkpoint or a model folder.", advanced=False, path=True, personal=True
    )
    train_data_dir: str = option("", "Folder with the training data, searched recursively.", advanced=False, path=True, personal=True)
    metadata_path: str = option("", "File that names the examples; looked for in `train_data_dir` when empty.", path=True)
    output_dir: str = option(
        "output/my_lora", "Folder of this run: everything it writes goes there.", advanced=False, personal=True, written=True
    )
    output_name: str = option("", "Name of the finished LoRA; the name of `output_dir` when empty.", advanced=False, personal=True)

    lora_rank: int = option(
        16,
        "Rank of the adapter: how much it can learn, and how large the file is.",
        minimum=1,
        maximum=100_000,
        advanced=False,
        fixed=True,
        group="Adapter",
    )
    auto_rank: bool = option(
        False,
        "At the end, write beside the LoRA the smallest one that does as well on kept-back examples, with a rank of its own for each "
        "layer. `lora_rank: auto` means this, at rank 32.",
    )
    lora_alpha: float | None = option(
        None, "Strength: updates are scaled by alpha / rank. Same as `lora_rank` when empty.", minimum=0, fixed=True
    )
    lora_dropout: float = option(0.0, "Chance to drop an adapter's input value during training.", minimum=0, maximum=0.95)
    use_rslora: bool = option(False, "Scale by alpha / sqrt(rank), so that high ranks keep learning (arXiv 2312.03732).", fixed=True)
    use_dora: bool = option(False, "Learn magnitude and direction of the weights separately (arXiv 2402.09353).", fixed=True)
    init_lora: str = option("", "Go on from this LoRA file, on new data; its rank is taken over.", fixed=True, path=True, personal=True)

    batch_size: int = option(
        1, "Examples that go through the model at once.", minimum=1, maximum=100_000, advanced=False, fixed=True, group="Learning"
    )
    gradient_accumulation_steps: int = option(
        1, "Batches per optimizer step; equal to a batch that much larger.", minimum=1, maximum=1_000_000, fixed=True
    )
    epochs: int = option(10, "How often every example is seen, unless `max_steps` is set.", minimum=1, maximum=100_000, advanced=False)
    max_steps: int | None = option(None, "Optimizer steps to train; counts instead of `epochs` when set.", minimum=1, maximum=100_000_000)
    least_steps: int | None = option(
        None, "Train so many steps at least, where `epochs` of few examples are fewer.", minimum=1, maximum=100_000_000
    )
    most_steps: int | None = option(
        None, "Train so many steps at most, where `epochs` of many examples are more.", minimum=1, maximum=100_000_000
    )
    learning_rate: float = option(1e-4, "How far each step goes. Empty means 1.0 with Prodigy.", minimum=0, maximum=1000, advanced=False)
    optimizer: str = option(
        "AdamW",
        "The update rule. The 8-bit ones need the package bitsandbytes.",
        choices=OPTIMIZERS,
        spellings=OPTIMIZER_SPELLINGS,
        advanced=False,
        fixed=True,
    )
    optimizer_args: dict = option(
        {}, "Further arguments of the optimizer, such as `{betas: [0.9, 0.99]}`.", fixed=True, read=read_arguments
    )
    weight_decay: float = option(0.01, "Pull of the adapter's weights towards zero.", minimum=0, maximum=1000)
    scheduler: str = option(
        "cosine", "How the learning rate falls over the run.", choices=SCHEDULERS, spellings=SCHEDULER_SPELLINGS, advanced=False
    )
    warmup_steps: int = option(0, "Steps over which the learning rate rises from zero at the start.", minimum=0, maximum=100_000_000)
    scheduler_cycles: int = option(1, "Restarts of `cosine_with_restarts`.", minimum=1, maximum=1_000_000)
    scheduler_power: float = option(1.0, "Exponent of `polynomial`.", minimum=0, maximum=100)
    max_grad_norm: float = option(1.0, "Longer gradients are cut to this length; 0 leaves them.", minimum=0)
    max_norm: float = option(0.0, "Upper bound of each layer's adapter weight norm; 0 for none. Tames overtraining.", minimum=0)
    ema_decay: float = option(
        0.0,
        "Keep a running average of the adapter with this decay, shorter at first, and save that; 0 for none.",
        minimum=0,
        maximum=0.99999,
        fixed=True,
    )
    mixed_precision: str = option(
        "auto",
        "Precision of the base model's arithmetic; the adapter itself is always fp32. `auto`: bf16 where the GPU is made for it, else fp16 "
        "on CUDA, else `no`; in a host that computes in half precision, as the host.",
        choices=("auto", "no", "fp16", "bf16"),
        spellings=MIXED_PRECISIONS,
    )
    gradient_checkpointing: bool = option(False, "Save memory by computing activations twice; about a third slower.")
    seed: int = option(42, "Start of every random draw; the same seed gives the same run.", minimum=0, maximum=2**53 - 1, fixed=True)

    save_steps: int = option(0, "Save a usable LoRA every so many steps; 0 for none.", minimum=0, advanced=False, group="Saving")
    save_epochs: int = option(0, "Save a usable LoRA every so many epochs; 0 for none.", minimum=0)
    keep_last: int = option(0, "Keep only so many of those; 0 keeps all.", minimum=0)
    save_precision: str = option("fp16", "Number format in the saved file.", choices=("fp32", "fp16", "bf16"), spellings=PRECISIONS)
    state_minutes: float = option(1.0, "How often the state for resuming is written, at the latest.", minimum=0, maximum=1e9)

    sample_prompts: list = option(
        [],
        "Prompts for samples during training and for the comparison at the end; or a text file with one a line.",
        advanced=False,
        group="Samples",
        personal=True,
    )
    sample_every_steps: int = option(0, "Make samples every so many steps; 0 for none.", minimum=0, advanced=False)
    sample_every_epochs: int = option(0, "Make samples every so many epochs; 0 for none.", minimum=0)
    sample_seed: int = option(
        1234, "Seed of samples: the same noise each time, so that they can be compared.", minimum=0, maximum=2**53 - 1
    )
    sheet_weights: list = option([0, 0.4, 0.8, 1.0], "Weights of the LoRA on the comparison at the end.", items=float)

    validation_split: float = option(
        0.0, "Share of the examples that is kept out of training to judge it.", minimum=0, maximum=0.9, fixed=True, group="Validation"
    )
    validation_dir: str = option("", "Folder with examples to judge by, instead of a split.", path=True)
    validation_every_steps: int = option(0, "Judge every so many steps; once per epoch when 0.", minimum=0)
    early_stopping_patience: int = option(0, "Stop when validation has not improved so many times in a row; 0 never stops.", minimum=0)

    on_bad_data: str = option(
        "stop",
        "What to do about unreadable or contradictory examples, after listing all of them.",
        choices=("stop", "skip"),
        group="Program",
    )
    tensorboard: bool = option(True, "Write TensorBoard curves and samples into the run folder's `logs/`.")
    train_device: str = option(
        "",
        "The graphics card to train on, such as `cuda:1`; when empty the program's own, or the fastest. In a host another card takes a second "
        "copy of the base, in a process of its own, which makes the samples as runs without a host do.",
        personal=True,
        read=read_first_word,
    )
    slice_seconds: float = option(
        60.0,
        "Inside a host: after how long training gives the model back although nobody asks. Who asks has it after the next step.",
        minimum=0.05,
        maximum=3600,
    )
    training_share: float = option(
        0.1,
        "Inside a host: training's share of the time while others ask for the model without a pause; a step between two of theirs at least.",
        minimum=0,
        maximum=0.9,
    )

    notes: list = field(default_factory=list, repr=False, compare=False)  # what people should know about how these were read
    given: frozenset = field(default=frozenset(), repr=False, compare=False)  # keys the user set, as opposed to defaults

    @property
    def name(self) -> str:
        """Name of the finished adapter."""
        return self.output_name or Path(self.output_dir).resolve().name

    @property
    def alpha(self) -> float:
        """`lora_alpha`, or the rank where none is set."""
        return float(self.lora_alpha if self.lora_alpha else self.lora_rank)

    def places(self) -> Iterator[tuple[str, str]]:
        """(option, what it says) of every file and folder that people have chosen."""
        for name, declared in options_of(type(self)).items():
            if declared.metadata["path"] and getattr(self, name):
                yield name, str(getattr(self, name))

    def adopt(self, key: str, value: Any) -> None:
        """Take an option over from ``init_lora``. Raises UserError when the user asked for another value."""
        if key in self.given and getattr(self, key) != value:
            raise UserError(
                f"cannot go on from '{self.init_lora}' with {key} {getattr(self, key)}: it has {key} {value}. Set {key}: {value} or leave it out."
            )
        setattr(self, key, value)

    @classmethod
    def spell_out(cls, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """What people write shorter."""
        if str(values.get("lora_rank", "")).strip().lower() != "auto":
            return values
        return {**values, "lora_rank": AUTO_RANK, "auto_rank": True}

    def search_also(self) -> Mapping[str, tuple[Any, ...]]:
        """What a search for better settings changes, beside what all runs have: option -> values, this config's own first."""
        return {}

    def search_first(self) -> Sequence[Mapping[str, Any]]:
        """Changes of those options that help often, and that a search therefore tries first."""
        return ()

    def list_uses(self) -> Uses:
        """Options that only count beside others; see :mod:`.idle`."""
        return list_uses(self)

    def save_memory(self) -> list[dict[str, Any]]:
        """Changes after which a step takes less memory, as a rule: what costs least first."""
        changes: list[dict[str, Any]] = [] if self.gradient_checkpointing else [{"gradient_checkpointing": True}]
        changes += [{"optimizer": "AdamW8bit"}] if self.optimizer == "AdamW" else []
        return [*changes, {"mixed_precision": "auto"}] if self.mixed_precision == "no" else changes

    def changed(self, changes: Mapping[str, Any]) -> "RunConfig":
        """The same options but for some, checked. Raises UserError where they contradict the others."""
        fresh = replace(self, **changes)
        fresh.notes = list(self.notes)
        fresh.check()
        return fresh

    @classmethod
    def describe_values(cls) -> Sequence[str]:
        """Tables for the documentation, of what an option's value is made of; each with its heading."""
        return ()

    def _prepare_auto_rank(self) -> None:
        if self.use_dora:
            raise UserError(
                "cannot choose ranks by themselves with DoRA: its magnitudes belong to one rank. Set use_dora: false or a rank."
            )
        if not (self.validation_split or self.validation_dir):
            if "validation_split" in self.given:
                raise UserError(
                    "cannot choose ranks by themselves without validation: nothing is kept back to judge by. Set validation_split to 0.1."
                )
            self.validation_split = _SPLIT_FOR_AUTO_RANK
            self.notes.append("A tenth of the examples is kept back (validation_split 0.1), to choose ranks by.")

    def learning_rates(self) -> list[float]:
        """Every rate that layers may learn at."""
        return [self.learning_rate]

    def check(self) -> None:
        """Raise UserError where options contradict each other; settle those that follow from others."""
        settle(self)
        if self.FILE_SUFFIX and self.output_name.lower().endswith(self.FILE_SUFFIX):
            self.output_name = self.output_name[: -len(self.FILE_SUFFIX)]
        check_name(self.name, "the LoRA", forbidden=",")  # which parts the words of a prompt
        if self.name.casefold() in self.NAMES_TAKEN:
            raise UserError(
                f"cannot name the LoRA '{self.name}': the run's folder has something else of that name. Choose another output_name."
            )
        if not (any(self.learning_rates()) or sets_own_rates(self)):
            self.notes.append("Nothing is learned: learning_rate is 0. Set it above 0, such as 1e-4.")
        if self.least_steps and self.most_steps and self.least_steps > self.most_steps:
            raise UserError(
                f"cannot train {self.least_steps} steps at least and {self.most_steps} at most: there are none. Raise most_steps or lower least_steps."
            )
        bad = [weight for weight in self.sheet_weights if not isinstance(weight, (int, float))]
        if bad:
            raise UserError(f"cannot put the weight '{bad[0]}' on the comparison: it is no number. Set sheet_weights to numbers.")
        if self.early_stopping_patience and not (self.validation_split or self.validation_dir):
            raise UserError(
                "cannot stop early without validation: nothing is kept back to judge by. Set validation_split or validation_dir."
            )
        if self.auto_rank:
            self._prepare_auto_rank()
        if self.validation_split and self.validation_dir:
            raise UserError("cannot use both validation_split and validation_dir. Leave one of them out.")
        self.notes += tell_idle(self)
