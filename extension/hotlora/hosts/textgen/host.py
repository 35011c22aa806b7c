"""text-generation-webui as a host: trains on the model that is loaded there, between its answers.

This folder is the only one that knows that program; its ``modules`` are imported where they are used, so that importing these files works
anywhere. Written against version 4.7 (commit 1dcde41d).
"""

import contextlib
import shutil
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import ModelAway, UserError
from ...engine.files import replacing_folder
from ...engine.interfaces import Trainee
from ...llm.config import TextConfig
from ..shared.beside import write_command
from ..shared.causal_model import CausalModel
from ..shared.foreign import LIBRARIES, find_irremovable, foreign_hooks_off
from ..shared.turns import Turns
from .alone import alone_with
from .live import LiveAnswers
from .lock import queue_adapters, watch_lock

# What has a place in a model there, beside the usual libraries: the model's own code, and ways of quantisation.
_OWN = LIBRARIES | {"modules", "transformers_modules", "optimum", "gptqmodel", "auto_gptq", "awq", "hqq", "aqlm", "quanto", "fla"}


class TextgenHost:
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def __init__(self, live: LiveAnswers | None = None) -> None:
        self._live = live or LiveAnswers()
        self._config: TextConfig | None = None  # of the run that borrowed
        self._lent: weakref.ref[Any] | None = None  # the program's model object; what it has let go of is not kept alive here
        self._turns = Turns(watch_lock)
        self._waiting: set[int] = set()  # threads that wait for the turn's end without the lock

    def borrow(self, config: TextConfig) -> Trainee:
        """The model that is loaded. Where the config names none, it is written there.

        Raises:
            ModelAway: when there is none that can be trained on, or not the one that the config names.
        """
        from modules import shared

        from ...llm.trainee import TextTrainee

        queue_adapters()
        with watch_lock():
            _check_there(config)
            net = shared.model
            model = CausalModel(
                net,
                shared.tokenizer,
                name=shared.model_name,
                path=model_folder(shared.model_name),
                compute_dtype=find_compute_dtype(net),
                chat_template=read_template(),
            )
            if config.quantization != "none":
                asked = f"quantization {config.quantization} was asked for"
                model.warnings.append(f"{asked}, but this program has the model loaded already. It is trained as it is there.")
                config.quantization = "none"  # so that no file claims it
            trainee = TextTrainee(model, config)
            config.base_model = config.base_model or shared.model_name
            self._config, self._lent = config, weakref.ref(net)
        return trainee

    @property
    def _net(self) -> Any:
        """The model that was borrowed, while anybody has it."""
        return self._lent() if self._lent else None

    def has_model(self, config: TextConfig) -> bool:
        """Whether the model that the config names (or any) is loaded such that it can be trained on."""
        return explain_now(config) is None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The program's generation lock. Raises ModelAway if it holds another model than was borrowed, or an adapter is applied."""
        from modules import models

        with self._turns.take(), self._live.put_aside(self._net):
            self._check_unchanged()
            try:
                with alone_with(self._net) as self._waiting, foreign_hooks_off(self._net.modules(), _OWN):
                    yield
            except RuntimeError:
                self._check_unchanged()  # Load and Unload stand in no queue
                raise
            finally:
                models.last_generation_time = time.time()  # a model that trains is not idle

    def wanted(self) -> bool:
        """Whether somebody waits for an answer, or has taken the model away."""
        from modules import shared

        return self._turns.somebody_waits() or bool(self._waiting) or shared.model is not self._net

    def _check_unchanged(self) -> None:
        from modules import shared

        _check_there(self._config)
        name = self._config.name if self._config else ""
        if shared.model is not self._net:
            raise ModelAway(f"cannot train '{name}' now: its model has been loaded anew. It goes on by itself.")

    def publish(self, path: Path) -> None:
        """Put the adapter where the program looks for LoRAs. An adapter that is applied there stays as it was loaded."""
        if lora_folder().resolve() in path.resolve().parents:
            return
        with replacing_folder(lora_folder() / path.name) as folder:
            folder.mkdir()
            for file in path.iterdir():
                shutil.copy2(file, folder)

    def beside_command(self) -> Sequence[str]:
        return write_command()

    def find_base(self, config: TextConfig) -> Path:
        """The model's folder, loaded or not. Raises UserError where there is none."""
        from modules import shared

        config.base_model = config.base_model or ("" if shared.model is None else shared.model_name)
        folder = model_folder(config.base_model) if config.base_model else None
        if folder is None:
            what = f"'{config.base_model}' is no folder of a model" if config.base_model else "no model is loaded"
            raise UserError(
                f"cannot train '{config.name}' on {config.train_device}: {what}. Load one in the Model tab, by the Transformers loader."
            )
        return folder

    def publish_beside(self, path: Path) -> None:
        self.publish(path)

    def unload(self, config: TextConfig) -> None:
        """As the Model tab's Unload does."""
        from modules import models

        with watch_lock():
            if explain_absence(config) is None:
                self._live.end()
                models.unload_model()

    def load_again(self, config: TextConfig) -> None:
        """As the Model tab's Load does, with the settings that stand there. Nothing where a model is loaded."""
        from modules import models, shared

        with watch_lock():
            if shared.model is None:
                shared.model, shared.tokenizer = models.load_model(config.base_model, shared.args.loader)
                shared.model_name = config.base_model


def _check_there(config: TextConfig | None) -> None:
    reason = explain_absence(config)
    if reason:
        raise ModelAway(reason)


def explain_absence(config: TextConfig | None = None) -> str | None:
    """Why the loaded model cannot be trained on now, and what to do; None where it can. Only under the generation lock, because answers
    and turns put something into the model.

    Args:
        config: may name a model.
    """
    from modules import shared

    return explain_loader(config.base_model if config else "") or _explain_layers(shared.model) or _explain_state(config)


def explain_now(config: TextConfig | None = None, *, applied: bool = True) -> str | None:
    """The same, for whoever cannot wait for the lock: of a model in use, what was seen in it when it last was not.

    Args:
        applied: whether an adapter that answers come with is a reason.
    """
    return explain_loader(config.base_model if config else "") or _look_at_layers() or _explain_state(config, applied=applied)


def explain_wait() -> str:
    """What a run would wait for; empty where it would not."""
    from modules import shared

    names = "" if explain_loader() else ", ".join(shared.lora_names)
    return f"Answers come with {names} now. A run waits until that is taken off." if names else ""


_seen: list[tuple["weakref.ref[Any]", str | None]] = []  # the model, and why its layers cannot be trained on; one at most


def _look_at_layers() -> str | None:
    from modules import shared

    lock, net = watch_lock(), shared.model
    if net is not None and not shared.lora_names and lock.acquire(blocking=False):
        try:
            _seen[:] = [(weakref.ref(net), _explain_layers(net))]
        finally:
            lock.release()
    return next((reason for model, reason in _seen if model() is net), None)


def _explain_layers(net: Any) -> str | None:
    """Of the model as it stands: what is not there, what is in it and ought not to be."""
    from modules import shared

    if any(parameter.device.type == "meta" for parameter in net.parameters()):
        return "cannot train on this model: parts of it are offloaded, because it does not fit. Load it in 4 or 8 bits, or a smaller one."
    if not shared.lora_names and _has_adapter_layers(net):
        return _name_applied("an adapter")
    owner = find_irremovable(net.modules(), _OWN, {})
    if owner:
        return f"cannot train on this model: {owner} has changed its weights. Switch that off and load the model again."
    return None


def _explain_state(config: TextConfig | None, *, applied: bool = True) -> str | None:
    """By what the program says of its model."""
    from modules import shared

    wanted = config.base_model if config else ""
    if applied and shared.lora_names:
        return _name_applied(", ".join(shared.lora_names))
    if shared.model_dirty_from_training:
        return "cannot train on this model: the Training tab has changed it. Load it again in the Model tab."
    if wanted and wanted != shared.model_name:
        return f"this run belongs to {wanted}, and {shared.model_name} is loaded. Load {wanted}; training then goes on by itself."
    return None


def _name_applied(names: str) -> str:
    return f"cannot train while {names} is applied: take it off (Adapters, or the Model tab); training then goes on by itself."


def explain_loader(wanted: str = "") -> str | None:
    """Why the loaded model takes no adapters at all; None where it does."""
    from modules import shared

    if shared.model is None:
        return f"no model is loaded. Load {wanted or 'one'} in the Model tab, with the Transformers loader."
    if not isinstance(shared.model, torch.nn.Module) or shared.args.loader != "Transformers":
        return f"cannot train with the {shared.args.loader} loader: it only answers. {_offer_folder(shared.model_name)}"
    return None


def _has_adapter_layers(net: torch.nn.Module) -> bool:
    """peft's layers, whoever has put them in; the program's own Remove leaves a ``peft_config`` but no layers."""
    return any(hasattr(module, "base_layer") for module in net.modules())


def _offer_folder(name: str) -> str:
    """What to load instead: the same model's Hugging Face folder where it is on the disk."""
    from modules import shared

    words = _words_of(name)
    for folder in sorted(Path(shared.args.model_dir).glob("*/config.json")):
        if folder.parent.name != name and _words_of(folder.parent.name) == words:
            return f"The same model is here as '{folder.parent.name}': load that in the Model tab, with the Transformers loader."
    return "Load the model's Hugging Face folder (the one with config.json and .safetensors files) with the Transformers loader."


def _words_of(name: str) -> tuple[str, ...]:
    """A model's name without what says how it is packed: `Llama-3-8B-Q4_K_M.gguf` is `Llama-3-8B`."""
    stem = name.rpartition("/")[2].lower().removesuffix(".gguf")
    packed = ("gguf", "exl2", "exl3", "gptq", "awq", "bnb", "4bit", "8bit")
    words = [word for word in stem.replace("_", "-").replace(".", "-").split("-") if word]
    kept = []
    for word in words:
        if word in packed or (word[0] in "qif" and word[1:].isdigit() and len(word) <= 4) or word.startswith("iq"):
            break
        kept.append(word)
    return tuple(kept)


def model_folder(name: str) -> Path | None:
    """Where the loaded model's files are."""
    from modules import shared

    folder = Path(shared.args.model_dir) / name
    return folder if folder.is_dir() else None


def lora_folder() -> Path:
    """Where the program looks for LoRAs."""
    from modules import shared

    return Path(shared.args.lora_dir)


def read_template() -> str | None:
    """What the program writes instruct conversations with; as chosen on its page, which begins with the model's own."""
    from modules import shared

    state = shared.persistent_interface_state or {}
    return state.get("instruction_template_str") or shared.settings.get("instruction_template_str") or None


def read_tokenizer() -> tuple[Any, str | None]:
    """(the loaded model's tokenizer, its chat template); (None, None) where there is no model to train on."""
    from modules import shared

    return (None, None) if explain_loader() else (shared.tokenizer, read_template())


def find_compute_dtype(net: Any) -> torch.dtype:
    """The precision that the loaded model computes in; quantised layers say it themselves."""
    for module in net.modules():
        if type(module).__name__ == "Linear4bit" and module.compute_dtype is not None:
            return module.compute_dtype
    return next(p.dtype for p in net.parameters() if p.dtype in (torch.float32, torch.float16, torch.bfloat16))
