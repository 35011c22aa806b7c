"""What a turn at the WebUI's model switches off, because it belongs to somebody's last picture, and puts back."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from .foreign import plain_of_others

_HYPERTILE = "__webui_hypertile_params"


@contextlib.contextmanager
def plain_model(loaded: Any) -> Iterator[None]:
    """The model as its checkpoint says: no LoRA in its weights, no hypernetwork, tiling, token merging, Hypertile, and no
    other U-Net in its place, no other extension's hooks. All but the LoRAs is put back: those the WebUI applies anew for each prompt."""
    with contextlib.ExitStack() as undo:
        take_loras_out(loaded)
        _switch_replacement_off(undo)
        _switch_token_merging_off(loaded, undo)
        _switch_tiling_off(undo)
        _switch_hypernetworks_off(undo)
        _switch_hypertile_off(loaded, undo)
        undo.enter_context(plain_of_others(loaded))
        yield


@torch.no_grad()
def take_loras_out(loaded: Any) -> None:
    """The WebUI leaves the last prompt's LoRAs in the weights until another picture asks for others; restore its backups
    now. Without gradients, because the U-Net's weights ask for some and are written in place."""
    networks = sys.modules.get("networks")
    if networks is None:
        return
    if networks.loaded_networks:
        networks.load_networks([])
    for layer in loaded.network_layer_mapping.values() if loaded else ():
        if getattr(layer, "network_current_names", ()):
            networks.network_apply_weights(layer)


def _switch_replacement_off(undo: contextlib.ExitStack) -> None:
    from modules import sd_unet

    if sd_unet.current_unet_option is not None:
        undo.callback(sd_unet.apply_unet, sd_unet.current_unet_option.label)
        sd_unet.apply_unet("None")


def _switch_token_merging_off(loaded: Any, undo: contextlib.ExitStack) -> None:
    from modules import sd_models

    undo.callback(sd_models.apply_token_merging, loaded, getattr(loaded, "applied_token_merged_ratio", 0))
    sd_models.apply_token_merging(loaded, 0)


def _switch_tiling_off(undo: contextlib.ExitStack) -> None:
    """After a tiling picture every convolution wraps around its borders."""
    from modules.sd_hijack import model_hijack

    undo.callback(model_hijack.apply_circular, model_hijack.circular_enabled)
    model_hijack.apply_circular(False)


def _switch_hypernetworks_off(undo: contextlib.ExitStack) -> None:
    from modules import shared

    found = shared.loaded_hypernetworks
    undo.callback(setattr, shared, "loaded_hypernetworks", found)
    shared.loaded_hypernetworks = []


def _switch_hypertile_off(loaded: Any, undo: contextlib.ExitStack) -> None:
    for module in loaded.modules():
        hook = getattr(module, _HYPERTILE, None)
        if hook is not None and hook.enabled:
            undo.callback(setattr, hook, "enabled", True)
            hook.enabled = False
