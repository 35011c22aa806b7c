"""Adapters on text-generation-webui's model: several at once, each with its own weight, and gone again without a trace.

The program applies LoRAs too, but at one strength, merges several into a truncated one, halves the model's precision on the way,
and leaves parts of them behind. What is applied here is registered as if the program had done it, so that its Model tab shows it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...engine.adapters import AsFound
from ...engine.errors import UserError
from ...llm.peft_reading import CONFIG, WEIGHTS, read_fingerprint
from ..shared.causal_model import fingerprint_model
from .host import explain_loader, lora_folder
from .lock import watch_lock


class AppliedAdapters:
    """Which adapters the program's model has; one object per program."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._found: AsFound | None = None  # the model's gradient flags and modes before the first one

    def names(self) -> list[str]:
        """What can be applied, in the order of the alphabet."""
        folders = lora_folder().glob("*/") if lora_folder().is_dir() else ()
        usable = (f for f in folders if (f / CONFIG).is_file() and (f / WEIGHTS).is_file() and not f.name.startswith("."))
        return sorted((folder.name for folder in usable), key=str.casefold)

    def applied(self) -> dict[str, float]:
        """Name -> weight. Those that the program has applied by itself have weight 1."""
        from modules import shared

        return {name: self._weights.get(name, 1.0) for name in shared.lora_names}

    def apply(self, weights: Mapping[str, float]) -> str:
        """Let the model have these adapters and no others; with none of them it is bit for bit as it was loaded. Waits for an answer
        that is under way.

        Returns:
            What people should know; mostly nothing.

        Raises:
            UserError: where there is no such adapter, or it does not fit the model, which then has none.
        """
        from modules import shared

        with watch_lock():
            reason = explain_loader()
            if reason:
                raise UserError(reason)
            unknown = [name for name in weights if name not in self.names()]
            if unknown:
                raise UserError(f"cannot apply '{unknown[0]}': there is no such adapter in '{lora_folder()}'. Choose one that is there.")
            if list(weights) != shared.lora_names or "__merged" in getattr(shared.model, "peft_config", {}):
                self._take_off()
                self._put_on(list(weights))
            if weights:
                _set_weights(shared.model, weights)
            self._weights = dict(weights)
            return _warn(shared.model, weights)

    def _take_off(self) -> None:
        from modules import shared

        net = shared.model
        while hasattr(net, "peft_config") and hasattr(net, "unload"):
            net = net.unload()
        _put_layers_back(net)
        if self._found:
            self._found.restore()
            self._found = None
        shared.model, shared.lora_names = net, []

    def _put_on(self, names: list[str]) -> None:
        from modules import shared
        from peft import PeftModel

        if not names:
            return
        net = shared.model
        self._found = AsFound([net])
        wrapped: Any = None
        try:
            for name in names:
                path = str(lora_folder() / name)
                if wrapped is None:
                    wrapped = PeftModel.from_pretrained(net, path, adapter_name=name)
                else:
                    wrapped.load_adapter(path, name)
            wrapped.base_model.set_adapter(names)
            wrapped.requires_grad_(False).eval()
        except Exception as error:  # whatever peft raises for what does not fit
            shared.model = wrapped if wrapped is not None else net
            self._take_off()
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"cannot apply '{name}': it does not fit the loaded model ({reason}). Load the model it was trained on."
            ) from error
        shared.model, shared.lora_names = wrapped, names


def _put_layers_back(net: torch.nn.Module) -> None:
    """Undo what peft leaves: layers of an adapter that did not fit, and a ``peft_config``, which it takes for an adapter the next time."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "base_layer"):
                setattr(parent, name, child.base_layer)
    if hasattr(net, "peft_config"):
        del net.peft_config


def _set_weights(wrapped: Any, weights: Mapping[str, float]) -> None:
    for module in wrapped.modules():
        if hasattr(module, "set_scale") and hasattr(module, "lora_A"):
            for name, weight in weights.items():
                module.set_scale(name, weight)


def _warn(model: Any, weights: Mapping[str, float]) -> str:
    """Names adapters that were trained on other weights than the loaded ones."""
    if not weights:
        return ""
    net = model.get_base_model() if hasattr(model, "get_base_model") else model
    here = fingerprint_model(net)
    others = [name for name in weights if read_fingerprint(Path(lora_folder() / name)) not in ("", here)]
    return f"{', '.join(others)}: trained on another model than the loaded one; the answers may make no sense." if others else ""
