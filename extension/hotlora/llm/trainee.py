"""A language model with its texts, as the training loop sees it.

Joins data, loss, judging and file format to any :class:`~.model.TextModel`; the same for every host.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine.errors import UserError
from ..engine.examples import Example
from ..engine.grid import Grid
from ..engine.interfaces import AdapterChoice, Adapters, Draws, Loss, PreviewRequest, Progress, Target
from ..engine.precision import describe_precision
from ..engine.redrawing import Opened
from ..engine.run import Run
from .adopting import adopt_peft_folder, open_peft_folder
from .batches import TextBatch, make_batch, plan_text_batches
from .comparison import Completion, write_comparison
from .config import TextConfig
from .conversation import TokenizedExample
from .dataset import TextDataset, build_dataset, fingerprint_examples
from .forward import LanguageLoss
from .grading import grade_answer
from .grid_page import write_grid_pages
from .limits import check_limits, find_learned_positions
from .look import show_example
from .model import TextModel
from .peft_folder import Origin, write_peft_folder
from .peft_reading import PeftFile, warn_other_base
from .rendering import Renderer
from .targets import choose_text_targets, name_targets, say_left_out

_SAMPLES_WITHOUT_PROMPTS = 3
_EXAMPLES_SHOWN = 3
_PROCESSOR_TOKENS = 192  # at once: more need memory there and win no time; a GPU is faster with more
_SPARE_TOKENS = 16


class TextTrainee:
    """Implements :class:`hotlora.engine.interfaces.Trainee`."""

    largest_batch: int | None = None

    def __init__(self, model: TextModel, config: TextConfig):
        self.model, self.config = model, config
        self.modules: list[nn.Module] = [model.net]
        self.fingerprint, self.device, self.compute_dtype = model.fingerprint, model.device, model.compute_dtype
        self._renderer = Renderer(model.tokenizer, config, model.chat_template)
        self._warnings: list[str] = []
        self.data_fingerprint = ""
        self._initial: PeftFile | None = None

    # -- data ----------------------------------------------------------------------------------------------------------

    def prepare(self) -> Iterator[Progress]:
        """Read, render and check the texts, and try whether the model can take several in a row."""
        if self.data_fingerprint:
            return  # renewed
        if self.config.init_lora and not any((Path(self.config.output_dir) / "state").glob("*.pt")):
            self.read(Path(self.config.init_lora))  # what is wrong with it is said before texts are read
        self.dataset: TextDataset = yield from build_dataset(self.config, self._renderer)
        self._examples: list[TokenizedExample] = [*self.dataset.train, *self.dataset.validation]
        self.data_fingerprint = fingerprint_examples(self.dataset.train)
        self._warnings += check_limits(self._examples, self.model.net, self.model.tokenizer)
        self._language_loss = LanguageLoss(self.model, self.config)
        if self.device.type == "cpu":
            mean = sum(len(example.tokens) for example in self.dataset.train) / len(self.dataset.train)
            self.largest_batch = max(int(_PROCESSOR_TOKENS / mean), 1)

    def renew(self, config: TextConfig) -> "TextTrainee":
        """The same texts, in tokens, for a run of other options; see :class:`~..engine.interfaces.Renewing`."""
        fresh = TextTrainee(self.model, config)
        fresh.dataset, fresh._examples, fresh._warnings = self.dataset, self._examples, self._warnings
        fresh._language_loss, fresh.largest_batch, fresh.data_fingerprint = self._language_loss, self.largest_batch, self.data_fingerprint
        return fresh

    def warnings(self) -> list[str]:
        told = [*self.model.warnings, *self._renderer.warnings, *self.dataset.problems, *self._language_loss.warnings]
        return [*told, *self._warnings, *say_left_out(self.model.net, self.config)]

    def summary(self) -> dict[str, Any]:
        precision = describe_precision(self.config.mixed_precision, self.compute_dtype)
        packing = "yes" if self._language_loss.packs else "no"
        return {"base model": self.model.name, "precision": precision, **dict(self.dataset.facts), "packing": packing}

    def examples(self) -> list[Example]:
        """The first as rendered, with what is learned marked."""
        return [show_example(example, self._renderer) for example in self.dataset.train[:_EXAMPLES_SHOWN]]

    def batches(self, epoch: int, seed: int) -> list[TextBatch]:
        by_length = not self._language_loss.packs
        return plan_text_batches(self.dataset.train, self.config.batch_size, group_by_length=by_length, epoch=epoch, seed=seed)

    # -- objective -----------------------------------------------------------------------------------------------------

    def adapter_choice(self) -> AdapterChoice:
        """DoRA's axis is peft's, and so everybody's who loads the folder."""
        return AdapterChoice(start=self.config.lora_start, dora_axis="output")

    def targets(self) -> Mapping[str, Target]:
        """Checked by name: peft finds the same ones by what the saved folder will say."""
        targets = choose_text_targets(self.model.net, self.config)
        name_targets(self.model.net, targets)
        return targets

    def training(self) -> contextlib.AbstractContextManager[None]:
        return self.model.training(gradient_checkpointing=self.config.gradient_checkpointing)

    def loss(self, batch: TextBatch, draws: Draws) -> Loss:
        """Sum over the batch of each learned token's cross-entropy; see ``losses``."""
        examples = [self._examples[index] for index in batch.items]
        return Loss(self._language_loss.total(examples, draws), batch.count)

    def validation_batches(self) -> list[TextBatch]:
        first, size = len(self.dataset.train), self.config.batch_size
        order = sorted(range(first, len(self._examples)), key=lambda index: len(self._examples[index].tokens))
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        return [make_batch(self._examples, group) for group in groups]

    def spread_training(self, count: int) -> list[TextBatch]:
        """So many training examples, evenly over all, one by one: to be judged as those that were kept back."""
        total = len(self.dataset.train)
        count = min(count, total)
        return [make_batch(self._examples, [place * total // count]) for place in range(count)]

    def validation_loss(self, batch: TextBatch) -> Loss:
        return Loss(self._language_loss.total([self._examples[index] for index in batch.items]), batch.count)

    # -- judging -------------------------------------------------------------------------------------------------------

    @property
    def grading_share(self) -> float:
        return self.config.test_answers_share

    def describe_validation(self, loss: float) -> Mapping[str, float]:
        """Perplexity: e to the mean loss of a token."""
        return {"perplexity": math.exp(min(loss, 700.0))}  # e^710 is more than a float holds

    def questions(self) -> Sequence[TokenizedExample]:
        """Kept-back conversations where there are any, else trained ones, evenly over the data set."""
        return self._choose_questions(self.config.test_answers)

    def _choose_questions(self, count: int) -> list[TokenizedExample]:
        examples = self.dataset.validation or self.dataset.train
        answerable = [example for example in examples if example.answer]
        count = min(count, len(answerable))
        return [answerable[place * len(answerable) // count] for place in range(count)]

    def what_is_asked(self) -> str:
        return "kept-back questions" if self.dataset.validation else "trained questions"

    def grade(self, question: TokenizedExample) -> Mapping[str, float]:
        """A greedy answer, compared with the right one."""
        longest = 2 * (len(question.tokens) - len(question.question)) + _SPARE_TOKENS  # what is longer is wrong anyway
        return grade_answer(question.answer, self._answer(question.question, longest, 0.0, 0))

    def ask(self, prompt: str, max_tokens: int, temperature: float, seed: int) -> tuple[str, bool]:
        """What the model says to a prompt, its data unprepared; and whether it came to an end by itself."""
        tokens = self._renderer.encode_question(prompt)
        places = find_learned_positions(self.model.net)
        room = max_tokens if places is None else min(max_tokens, places - len(tokens))
        if room < 1:
            return "", False
        new = self.model.generate(tokens, max_tokens=room, temperature=temperature, seed=seed, stop=self._renderer.stop_ids)
        return self.model.tokenizer.decode(new, skip_special_tokens=True).strip(), len(new) < room

    def _answer(self, tokens: Sequence[int], max_tokens: int, temperature: float, seed: int) -> str:
        new = self.model.generate(tokens, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=self._renderer.stop_ids)
        return self.model.tokenizer.decode(new, skip_special_tokens=True).strip()

    # -- samples -------------------------------------------------------------------------------------------------------

    def preview_requests(self) -> list[PreviewRequest]:
        prompts = [str(prompt) for prompt in self.config.sample_prompts] or self._first_questions()
        return [PreviewRequest(prompt, self.config.sample_seed) for prompt in prompts]

    def _first_questions(self) -> list[str]:
        return [example.prompt for example in self.questions()[:_SAMPLES_WITHOUT_PROMPTS]]

    def preview(self, request: PreviewRequest) -> Completion:
        tokens = self._encode(request)
        return Completion(self._answer(tokens, self.config.sample_max_tokens, self.config.sample_temperature, _seed_of(request)))

    def _encode(self, request: PreviewRequest) -> Sequence[int]:
        """What is read before the answer; a question of the data with all that stands before it there."""
        if not request.wanted:
            return self._renderer.encode_question(request.prompt)
        return next(e.question for e in self._examples if (e.prompt, e.answer) == (request.prompt, request.wanted))

    # -- finished files ------------------------------------------------------------------------------------------------

    def open(self, path: Path) -> Opened:
        """A finished peft folder, fitted to the model."""
        return open_peft_folder(path, self.model.net)

    def find_questions(self, count: int) -> dict[str, str]:
        """Kept-back ones where there are any, else trained ones."""
        return {example.prompt: example.answer for example in self._choose_questions(count)}

    def settle(self, request: PreviewRequest) -> dict[str, Any]:
        """The tokens that are read, and how it is answered. Where nothing is left to chance the seed counts for nothing."""
        if "cfg" in request.settings:
            raise UserError("cannot answer with CFG: language models have no such thing. Leave it out.")
        config, chance = self.config, self.config.sample_temperature
        facts = {"tokens": list(self._encode(request)), "longest": config.sample_max_tokens, "temperature": chance}
        read_as = [str(self.compute_dtype), list(self._renderer.stop_ids)]
        return {**facts, "read as": read_as, "seed": _seed_of(request) if chance else None}

    def write_grid(self, grid: Grid) -> Path:
        """A page with all answers in it."""
        return write_grid_pages(grid, f"{grid.title} on {self.model.name}")

    def write_comparison(self, rows: Sequence[Sequence[tuple[PreviewRequest, Completion]]], run: Run) -> dict[str, Path]:
        """A page; the adapter's folder has a card of its own, so no cover."""
        return {"sheet": write_comparison(rows, run.folder / "comparison.md")}

    # -- files ---------------------------------------------------------------------------------------------------------

    def write(self, adapters: Adapters, path: Path, notes: Mapping[str, Any]) -> Path:
        """A peft folder with its card."""
        origin = Origin(
            base=str(self.model.path or self.model.name),
            fingerprint=self.fingerprint,
            template=self._renderer.template,
            target_modules=name_targets(self.model.net, adapters.targets),
            facts=self.dataset.facts,
        )
        return write_peft_folder(adapters, path, self.config, origin, notes)

    def read(self, path: Path) -> dict[str, dict[str, torch.Tensor]]:
        if self._initial is None:
            self._initial = adopt_peft_folder(path, self.config, self.model.net)
            other = warn_other_base(self._initial.base, self._initial.fingerprint, self.fingerprint, self.model.name)
            self._warnings += [*self._initial.notes, *([other] if other else [])]
        return self._initial.tensors


def _seed_of(request: PreviewRequest) -> int:
    return int(request.settings.get("seed", request.seed))
