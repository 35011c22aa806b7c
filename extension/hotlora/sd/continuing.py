"""Going on from a LoRA file (``init_lora``): what of it fits the model, which options follow from it, and what becomes of the rest.

Every layer keeps the rank, the alpha and the form that the file has for it. What the file holds and the run does not train stays
as it is: it is applied while the rest learns, and written out again. Must not import a model library.
"""

import contextlib
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..engine.errors import UserError
from ..engine.interfaces import AdapterChoice, Target
from ..engine.plurals import counted
from ..engine.redrawing import Opened
from ..engine.run import read_run_config
from .config import ImageConfig
from .fitting import check_size, refuse_misfit
from .kohya import name_tensors
from .lora_files import LoraFile, dora_axis, find_weights, read_layer_names, read_lora
from .lora_names import Spellings, is_text_layer, list_twice, spell_unet_names
from .model import ImageModel
from .names import block_of, is_spatial, name_outer_layers, text_prefixes
from .peft_settings import CONFIG
from .targets import name_filter, read_blocks

_KEPT = "init_lora"  # folder among a run's states
_WORDS = {"train_unet": "U-Net", "train_text_encoder": "text encoder"}


@dataclass
class Continuation:
    """A file that a run goes on from, as it fits the model.

    Attributes:
        weights: the file, or the run's own copy of it.
        names: exported name -> how the file spells the layer; those that are applied.
        shapes: exported name -> tensor name -> shape. Ranks and alphas likewise; alphas as the rank divides them.
        dora_axis: "input" or "rows"; None where it is no DoRA.
        kept: tensors that no layer here can carry, by their key in a kohya file.
        notes: what people should know.
    """

    weights: Path
    layers: dict[str, nn.Module]
    names: dict[str, str]
    shapes: dict[str, dict[str, tuple[int, ...]]]
    ranks: dict[str, int]
    alphas: dict[str, float]
    kind: str
    dora_axis: str | None
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self) -> dict[str, dict[str, torch.Tensor]]:
        """Exported name -> tensor name -> fp32, of what is applied."""
        tensors = read_lora(self.weights).tensors
        return {name: tensors[spelled] for name, spelled in self.names.items()}

    def keep(self, folder: Path) -> None:
        """Copy the file into a run's folder of states, from where it is taken when the run is resumed."""
        copy = folder / _KEPT
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for path in (self.weights, self.weights.with_name(CONFIG)):
            if path.is_file() and (path == self.weights or self.weights.name.startswith("adapter_model")):
                shutil.copyfile(path, copy / path.name)

    def targets(self, config: ImageConfig) -> dict[str, Target]:
        """A target for every layer of the file; frozen where the options leave it out.

        Raises:
            UserError: where they leave out all, or ask for another rank than the file's.
        """
        unet = {name: layer for name, layer in self.layers.items() if not _is_text(name)}
        ranks = read_blocks("block_ranks", config.block_ranks, int, unet)
        rates = read_blocks("block_lrs", config.block_lrs, float, unet)
        wanted, targets = name_filter(config), {}
        for name in self.names:
            block, layer, rank = block_of(name) or "", self.layers[name], self.ranks[name]
            if _is_text(name):
                rate = config.learning_rate if config.text_encoder_lr is None else config.text_encoder_lr
                trained = config.train_text_encoder and config.text_encoder_lr != 0
            else:
                rate = rates.get(block, config.learning_rate)
                trained = config.train_unet and rates.get(block) != 0 and ranks.get(block) != 0
                self._check_rank(config, block, ranks, name)
            frozen = not (trained and wanted(name))
            shapes = None if self.kind == "lora" else self.shapes[name]
            targets[name] = Target(layer, rank, self.alphas[name] / self._root(config, name), rate, frozen, shapes)
        if all(target.frozen for target in targets.values()):
            raise UserError(
                f"cannot go on from '{config.init_lora}' and train nothing: the options leave out all of its {len(targets)} layers. "
                "Look at train_unet, train_text_encoder, text_encoder_lr, include, exclude, block_ranks and block_lrs."
            )
        return targets

    def _check_rank(self, config: ImageConfig, block: str, ranks: Mapping[str, int], name: str) -> None:
        if ranks.get(block, 0) not in (0, self.ranks[name]) and not is_spatial(self.layers[name]):
            raise UserError(
                f"cannot go on from '{config.init_lora}' with rank {ranks[block]} for {block} in block_ranks: its layer {name} has rank "
                f"{self.ranks[name]}. Leave block_ranks out: the file says its ranks itself."
            )

    def _root(self, config: ImageConfig, name: str) -> float:
        """What turns the file's alpha into the option's."""
        return self.ranks[name] ** 0.5 if config.use_rslora and self.kind == "lora" else 1.0

    def say_frozen(self, config: ImageConfig) -> list[str]:
        """A line about what stays as it is."""
        frozen = [name for name, target in self.targets(config).items() if target.frozen]
        if not frozen:
            return []
        parts = sorted({_WORDS["train_text_encoder" if _is_text(name) else "train_unet"] for name in frozen})
        return [
            f"of what '{self.weights.name}' has of the {' and the '.join(parts)}, {counted(len(frozen), 'layer')} ({frozen[0]} first) "
            "will not be trained, but applied, and stay in the file as before."
        ]


def find_source(config: ImageConfig) -> Path | None:
    """What a run goes on from: ``init_lora``, or a resumed run's own copy; None where it begins from nothing."""
    if not config.init_lora:
        return None
    states = Path(config.output_dir) / "state"
    if not (any(states.glob("*.pt")) and _began_from_it(config)):
        return Path(config.init_lora).expanduser()
    return states / _KEPT if (states / _KEPT).is_dir() else None


def _began_from_it(config: ImageConfig) -> bool:
    """Whether the run in the folder is this one; a look ahead may name the folder of another."""
    with contextlib.suppress(UserError):
        return read_run_config(Path(config.output_dir)).get("init_lora") == config.init_lora
    return False


def check_initial(config: ImageConfig) -> None:
    """Before a model is loaded: whether ``init_lora`` can be gone on from at all; which parts are trained follows from it.

    Raises:
        UserError: where it cannot, or contradicts the options.
    """
    source = find_source(config)
    if source is not None:
        names = read_layer_names(source)
        if source == Path(config.init_lora).expanduser():
            _adopt_parts(config, {is_text_layer(name) for name in names})


def begin(config: ImageConfig, model: ImageModel) -> Continuation | None:
    """What the run goes on from, fitted to the model, with the options that follow; None where it begins from nothing.

    Raises:
        UserError: where the file cannot be gone on from, does not fit the model, or contradicts the options.
    """
    source = find_source(config)
    if source is None:
        return None
    file = read_lora(source)
    found = _fit(source, file, model)
    if source == Path(config.init_lora).expanduser():  # else it was settled when the run started
        _adopt(config, file, found, model)
    found.notes += found.say_frozen(config)
    return found


def open_fitted(path: Path, model: ImageModel) -> Opened:
    """A finished LoRA as it is applied to the model: each layer's rank, alpha and form are the file's.

    Raises:
        UserError: where it is none, or does not fit the model.
    """
    found = _fit(path, read_lora(path), model)
    targets = {}
    for name, layer in found.layers.items():
        shapes = None if found.kind == "lora" else found.shapes[name]
        targets[name] = Target(layer, found.ranks[name], found.alphas[name], 0.0, frozen=True, shapes=shapes)
    notes = [f"not applied of '{path.name}': {counted(len(found.kept), 'tensor')}, where this model takes no LoRA."] if found.kept else []
    choice = AdapterChoice(found.kind, dora_axis=found.dora_axis or "input")
    return Opened(choice, targets, found.read(), found.dora_axis is not None, notes)


def _fit(source: Path, file: LoraFile, model: ImageModel) -> Continuation:
    """Find each layer's place in the model."""
    outer = {name: layer for name, (layer, _) in name_outer_layers(model.unet, model.family).items()}
    text = model.text_layers()
    layers = {**model.unet_layers(), **outer, **text}
    spellings = Spellings(spell_unet_names(model.unet, model.family), text_prefixes(model.family))
    resolved = {spelled: spellings.resolve(spelled) for spelled in file.tensors}
    twice = sorted(list_twice(resolved))
    if twice:
        raise UserError(f"cannot go on from '{source}': it has the layer {twice[0]} twice, under two names. Use another copy.")
    names: dict[str, str] = {}
    kept = dict(file.embeddings)
    notes = list(file.notes)
    without_place = []
    for spelled, name in resolved.items():
        if name in layers:
            check_size(source, file, (spelled, layers[name]), model)
            names[name] = spelled
        elif name is not None and _is_text(name) and not text:
            kept.update(name_tensors(name, file.tensors[spelled], file.alphas[spelled]))
            without_place.append(name)
        else:
            refuse_misfit(source, file, spelled, model)
    if without_place:
        notes.append(
            f"kept in the file, but not applied while training: {counted(len(without_place), 'layer')} of the text encoder, because "
            f"the text encoder of {model.name} takes no LoRA here."
        )
    notes += _say(file, names)
    if not names:
        raise UserError(f"cannot go on from '{source}': none of its layers can be trained here. Choose a LoRA that has U-Net layers.")
    return Continuation(
        weights=find_weights(source),
        layers={name: layers[name] for name in names},
        names=names,
        shapes={name: {part: tuple(tensor.shape) for part, tensor in file.tensors[spelled].items()} for name, spelled in names.items()},
        ranks={name: file.ranks[spelled] for name, spelled in names.items()},
        alphas={name: file.alphas[spelled] for name, spelled in names.items()},
        kind=file.kind,
        dora_axis=dora_axis(file),
        kept=kept,
        notes=notes,
    )


def _say(file: LoraFile, names: Mapping[str, str]) -> list[str]:
    """Lines about what a person may not expect."""
    notes = []
    ranks = sorted({file.ranks[spelled] for spelled in names.values()})
    if len(ranks) > 1:
        notes.append(f"Ranks and alphas are the file's, each layer its own: rank {ranks[0]} to {ranks[-1]}.")
    if any(name != spelled for name, spelled in names.items()):
        notes.append("Its layers go by other names than kohya's; the new file has kohya's, which all programs read.")
    if dora_axis(file) == "rows":
        notes.append(
            "Its DoRA magnitudes are per output, and stay so: ComfyUI applies such files rightly, "
            "AUTOMATIC1111's WebUI up to 1.10 does not."
        )
    embeddings = sorted({key.split(".")[1] for key in file.embeddings})
    if embeddings:
        notes.append(f"The embeddings it holds ({', '.join(embeddings)}) stay in the file as they are; captions are read without them.")
    return notes


def _adopt(config: ImageConfig, file: LoraFile, found: Continuation, model: ImageModel) -> None:
    """Let the options follow from the file. Raises UserError where the user asked for something else."""
    config.adopt("network_type", file.kind)
    config.adopt("use_dora", found.dora_axis is not None)
    if "use_rslora" not in config.given:
        config.use_rslora = file.use_rslora and file.kind == "lora"
    _adopt_parts(config, {_is_text(name) for name in found.names} | {True for key in found.kept if _is_text(key)})
    if not model.text_layers():
        config.adopt("train_text_encoder", False)
    sized = [name for name in found.names if found.kind != "lokr" or {"lokr_w1_b", "lokr_w2_b"} & found.shapes[name].keys()]
    spatial = {name for name in sized if is_spatial(found.layers[name])}
    _adopt_size(config, found, [name for name in sized if name not in spatial], "lora")
    _adopt_size(config, found, sorted(spatial), "conv")
    if not any(is_spatial(layer) for layer in found.layers.values()):
        config.adopt("conv_rank", 0)


def _adopt_parts(config: ImageConfig, are_text: set[bool]) -> None:
    """Train what the file has, unless the user said otherwise."""
    for option, there in (("train_unet", False in are_text), ("train_text_encoder", True in are_text)):
        if option not in config.given:
            setattr(config, option, there)
        elif getattr(config, option) and not there:
            raise UserError(
                f"cannot go on from '{config.init_lora}' with {option} true: it has nothing of the {_WORDS[option]}. "
                f"Set {option}: false or leave it out."
            )
    if not (config.train_unet or config.train_text_encoder):
        raise UserError(
            f"cannot go on from '{config.init_lora}' and train nothing: what it has is switched off. "
            "Leave train_unet and train_text_encoder out."
        )


def _adopt_size(config: ImageConfig, found: Continuation, names: list[str], prefix: str) -> None:
    """``lora_rank`` and ``lora_alpha``, or ``conv_rank`` and ``conv_alpha``: those that most of these layers have."""
    sizes = Counter((found.ranks[name], found.alphas[name] / found._root(config, name)) for name in names)
    if not sizes:
        return
    for index, option in enumerate((f"{prefix}_rank", f"{prefix}_alpha")):
        usual = sizes.most_common(1)[0][0][index]
        asked = getattr(config, option) if option in config.given else None
        values = sorted({size[index] for size in sizes})
        if asked is None:
            setattr(config, option, usual)
        elif not math.isclose(asked, usual, rel_tol=2e-3):  # files hold alphas in half precision
            if len(values) == 1:
                config.adopt(option, usual)
            raise UserError(
                f"cannot go on from '{config.init_lora}' with {option} {asked:g}: its layers have {values[0]:g} to {values[-1]:g}, "
                f"each its own. Leave {option} out."
            )


def _is_text(name: str) -> bool:
    return name.startswith("lora_te")
