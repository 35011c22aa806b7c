"""Which checkpoint of a run is the best, and whether it copies: losses on fixed noise and timesteps, samples against the training pictures.

The model is the stand-alone host's own: a LoRA is added to its weights and taken out again. Nothing is trained, and no hub is asked.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine.errors import UserError
from ..engine.files import write_text
from ..engine.interfaces import Grading, Resembling
from ..engine.recipe import read_options
from ..engine.run import Run
from ..hosts.standalone.likeness import Embedder, Likeness
from ..pictures.entries import list_triggers
from ..pictures.focus import read_framed
from ..sd.names import is_plain_layer, name_outer_layers
from ..sd.spelling import Names
from ..tasks import TASKS
from .adapters import Adapter
from .answering import FORGOTTEN, Answers, measure_answers
from .baking import compute_change
from .copying import Nearest, Spread
from .image_files import read_image_lora
from .opening import telling
from .samples import Samples
from .side_effects import COLLAPSED, LEAKS, SideEffects, Untouched
from .text_files import read_text_lora

_MOST_EXAMPLES = 24  # of the training data, whose loss is measured
_CLEARLY = 0.01  # of the best kept-back loss: what is worse by more than this is worse


@dataclass
class Judgement:
    """One checkpoint.

    Attributes:
        label: "step 250", "best", "finished"; "without" for the model alone.
        training, kept_back: losses; None where there was nothing to measure.
        nearest: of each sample by a training caption.
        control: how near samples by captions that were kept back come to their own pictures; None where there are none.
        effects: what it does unasked.
        alike: its samples in the eyes of another model, where one was given.
        answers: of a language model.
    """

    label: str
    training: float | None
    kept_back: float | None
    nearest: list[Nearest] = field(default_factory=list)
    control: float | None = None
    effects: SideEffects = SideEffects()
    alike: Likeness | None = None
    answers: Answers | None = None

    @property
    def gap(self) -> float | None:
        """Kept-back loss above the training loss."""
        return None if self.training is None or self.kept_back is None else self.kept_back - self.training


def judge(folder: Path, samples: int, embedder: Path | None = None, *, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """Lines for people, of which ``say`` gets those of each checkpoint at once; the last is the verdict. ``judgement.json`` in the run's
    folder holds it all.

    Args:
        samples: pictures to draw by training captions with each checkpoint; 0 for none at all.
        embedder: the folder of a CLIP or DINOv2 model, for likeness.

    Raises:
        UserError: where there is no run, nothing was saved, or a model or data cannot be read.
    """
    config, files = _read_run(folder)
    task = TASKS[config.TASK]
    task.check_model(config)
    eyes = Embedder(embedder) if embedder and samples else None
    trainee: Any = task.make_host().borrow(config)
    for _ in trainee.prepare():
        pass
    with torch.no_grad():
        found = [_measure(trainee, "without")]
        say(_tell(found[0]))
        easel = Easel.of(trainee, samples, eyes) if samples and isinstance(trainee, Resembling) else None
        for label, path in files.items():
            with applied(trainee, path):
                one = _measure(trainee, label)
                if easel:
                    easel.look(trainee, one)
            found.append(one)
            say(_tell(one))
    spread = easel.spread if easel else None
    verdict = conclude(found, spread)
    plain: dict[str, Any] = {"checkpoints": [{**asdict(one), "gap": one.gap} for one in found], "verdict": verdict}
    if spread:
        plain["training pictures apart"] = spread.typical
    write_text(folder / "judgement.json", json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    return [verdict]


def _read_run(folder: Path) -> tuple[Any, dict[str, Path]]:
    """A run's options, as they are for judging, and what it has saved."""
    config: Any = read_options({name: task.config_class for name, task in TASKS.items()}, resume=folder)
    if config.init_lora and hasattr(config, "train_text_encoder"):
        config.train_text_encoder = True  # its file may hold frozen layers of it: captions are not to be encoded once for all
    config.init_lora = ""  # what went on from a file holds all of it by now
    files = Run(Path(config.output_dir), config.name, config.FILE_SUFFIX).list_adapters()
    if not files:
        raise UserError(f"cannot judge '{folder}': it has saved no LoRA yet. Set save_steps, or wait until it is finished.")
    return config, files


@dataclass(frozen=True)
class Easel:
    """Draws with each checkpoint and holds what comes out against the training pictures and against what the model draws alone."""

    count: int
    spread: Spread
    untouched: Untouched
    eyes: Embedder | None
    trained: torch.Tensor | None  # in their eyes

    @classmethod
    def of(cls, trainee: Any, count: int, eyes: Embedder | None) -> "Easel | None":
        """None where the training pictures say nothing, see :meth:`.Spread.of`. The model is as it is without a LoRA."""
        spread = Spread.of(trainee)
        if spread is None:
            return None
        pictures = spread.trained
        captions = [pictures.captions[place] for place in pictures.choose(count)]
        untouched = Untouched(Samples(trainee), captions, list_triggers(trainee.config))
        trained = [read_framed(pictures.paths[place]).rgb for place in pictures.choose(_MOST_EXAMPLES)] if eyes else []
        return cls(count, spread, untouched, eyes, eyes.of_pictures(trained) if eyes else None)

    def look(self, trainee: Any, one: Judgement) -> None:
        """What samples say of the checkpoint that is in the model now."""
        samples, pictures = Samples(trainee), self.spread.trained
        one.nearest, one.control = self.spread.find_nearest(samples, self.count)
        one.effects = self.untouched.compare(samples)
        if self.eyes and self.trained is not None:
            drawn = {pictures.captions[place]: samples.picture(pictures.captions[place], place) for place in pictures.choose(self.count)}
            one.alike = self.eyes.compare(self.trained, drawn)


@contextlib.contextmanager
def applied(trainee: Any, path: Path) -> Iterator[None]:
    """The model with a LoRA added to its weights; afterwards bit for bit as it was.

    Raises:
        UserError: for a LoRA that does not belong to this model.
    """
    with telling(path):
        layers, adapter = _fit(trainee, path)
    kept: dict[str, torch.Tensor] = {}
    try:
        for name, layer in adapter.layers.items():
            weight: Any = layers[name].weight
            kept[name] = weight.detach().clone()
            moved = weight.float().cpu()
            weight.copy_((moved + compute_change(layer, moved)).to(weight))
        yield
    finally:
        for name, before in kept.items():
            restored: Any = layers[name].weight
            restored.copy_(before)


def _fit(trainee: Any, path: Path) -> tuple[Mapping[str, nn.Module], Adapter]:
    if hasattr(trainee.model, "unet"):
        model = trainee.model
        paths = [name for name, layer in model.unet.named_modules() if is_plain_layer(layer)]
        outer = {name: layer for name, (layer, _) in name_outer_layers(model.unet, model.family).items()}
        layers: Mapping[str, nn.Module] = {**model.unet_layers(), **outer, **model.text_layers()}
        adapter = read_image_lora(path, model.family, Names(model.family, paths))
    else:
        layers, adapter = dict(trainee.model.net.named_modules()), read_text_lora(path)
    strange = [name for name in adapter.layers if not hasattr(layers.get(name), "weight")]
    if strange:
        raise UserError(
            f"cannot judge '{path}': the model has no layer {strange[0]}. Give a run of plain layers, on the model it was made for."
        )
    return layers, adapter


def _measure(trainee: Any, label: str) -> Judgement:
    training, kept_back = _mean(trainee, trainee.spread_training(_MOST_EXAMPLES)), _mean(trainee, trainee.validation_batches())
    return Judgement(label, training, kept_back, answers=measure_answers(trainee) if isinstance(trainee, Grading) else None)


def _mean(trainee: Any, batches: Sequence[Any]) -> float | None:
    losses = [trainee.validation_loss(batch) for batch in batches]
    count = sum(loss.count for loss in losses)
    return sum(loss.total.item() for loss in losses) / count if count else None


def _tell(one: Judgement) -> str:
    parts = [f"{one.label}:"]
    parts.append(f"training loss {one.training:.5f}" if one.training is not None else "no training loss")
    parts.append(f"kept-back loss {one.kept_back:.5f}, gap {one.gap:+.5f}" if one.gap is not None else "nothing kept back")
    if one.answers:
        parts += [f"perplexity {math.exp(one.kept_back):.2f}"] if one.kept_back is not None and one.kept_back < 700 else []
        parts.append(one.answers.tell())
    if one.nearest:
        closest = min(one.nearest, key=lambda near: near.share)
        against = f", {one.control:.2f} from pictures kept back" if one.control is not None else ""
        parts.append(
            f"samples at {closest.share:.2f} and more of the training pictures' distance from each other ({closest.picture}){against}"
        )
    if one.effects.variety is not None:
        parts.append(f"samples of one prompt {one.effects.variety:.2f} as different as without it")
    if one.effects.leak is not None:
        parts.append(f"{one.effects.leak:.2f} of the change without the trigger word")
    if one.alike:
        prompts = "" if one.alike.fidelity is None else f", to their prompts {one.alike.fidelity:.3f}"
        parts.append(f"likeness to the training pictures {one.alike.likeness:.3f}{prompts}")
    return parts[0] + " " + ", ".join(parts[1:])


def conclude(found: Sequence[Judgement], spread: Spread | None) -> str:
    """One or two plain sentences about all checkpoints; the first is the model without a LoRA."""
    saved = found[1:]
    copies = [(one, near) for one in saved for near in one.nearest if near.is_copy]
    said = [_say_best(found[0], saved)]
    if copies:
        one, near = copies[0]
        more = f", and {len(copies) - 1} more do so" if len(copies) > 1 else ""
        said.append(f"The sample of {one.label} for '{near.prompt[:60]}' copies {near.picture}{more}.")
    elif spread:
        said.append("None of the samples copies a training picture.")
    return " ".join([*said, *_say_answers(found[0], saved), *_say_effects(saved)])


def _say_answers(without: Judgement, saved: Sequence[Judgement]) -> Iterator[str]:
    """Which answers best, and from where on it forgets."""
    answering = [one for one in saved if one.answers and one.answers.asked]
    if answering and without.answers:
        best = max(answering, key=lambda one: _rate(one))
        scores = [f"{name} {score:.0%} ({without.answers.scores[name]:.0%} without)" for name, score in _scores(best).items()]
        yield f"The best answers to {without.answers.asked} {without.answers.kind} are those of {_call(best)}: {', '.join(scores)}."
    for one in saved:
        if one.answers and without.answers and one.answers.general > FORGOTTEN * without.answers.general:
            before, now = without.answers.general, one.answers.general
            yield f"From {_call(one)} on it forgets: the perplexity of general text is {now:.1f}, and was {before:.1f}."
            break


def _scores(one: Judgement) -> Mapping[str, float]:
    return one.answers.scores if one.answers else {}


def _rate(one: Judgement) -> float:
    """The mean of its scores: each counts alike."""
    scores = _scores(one).values()
    return sum(scores) / max(len(scores), 1)


def _call(one: Judgement) -> str:
    return "the finished one" if one.label == "finished" else one.label


def _say_effects(saved: Sequence[Judgement]) -> Iterator[str]:
    """Of the first checkpoint of which there is something to say."""
    for one in saved:
        if one.effects.variety is not None and one.effects.variety < COLLAPSED:
            yield f"From {one.label} on, samples of one prompt are all much alike ({one.effects.variety:.0%} of the model's own variety)."
            break
    for one in saved:
        if one.effects.leak is not None and one.effects.leak > LEAKS:
            yield (
                f"From {one.label} on, pictures without the trigger word change as well, {one.effects.leak:.0%} of what it changes: "
                "regularisation pictures keep them as they are."
            )
            break


def _say_best(without: Judgement, saved: Sequence[Judgement]) -> str:
    judged = [one for one in saved if one.kept_back is not None and math.isfinite(one.kept_back)]
    if not judged or without.kept_back is None:
        return "Nothing was kept back, so losses cannot say which is the best: set validation_split."
    best = min(judged, key=lambda one: one.kept_back or 0.0)
    if not (best.kept_back or 0.0) < without.kept_back:
        return "None of these does better on kept-back examples than the model without a LoRA."
    steps = [one for one in judged if one.label != "best"]
    after = steps[steps.index(best) + 1 :] if best in steps else []
    worse = [one for one in after if (one.kept_back or 0.0) > (best.kept_back or 0.0) * (1 + _CLEARLY)]
    overfits = [one for one in worse if one.training is not None and best.training is not None and one.training < best.training]
    name, what = _call(best), "examples" if best.answers else "pictures"
    end = f"; after it, from {overfits[0].label} on, it learns its {what} by heart (overfitting)" if overfits else ""
    return f"{name[:1].upper()}{name[1:]} is the best of these on kept-back examples{end}."
