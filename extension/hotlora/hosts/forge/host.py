"""Forge and Forge Neo as a host: trains on the checkpoint that is loaded there, between other people's pictures.

This folder is the only one that knows Forge's ``backend``; its modules are imported where they are used, so that importing these files
works anywhere. Written against f2.0.1v1.10.1 and Neo 2.26.
"""

import contextlib
from pathlib import Path
from typing import Any

from ...engine.errors import UserError
from ...sd.config import ImageConfig
from ...sd.model import ImageModel
from ..webui.checkpoints import is_wanted
from ..webui.host import WebuiHost
from ..webui.sampling import check_sampler
from .checkpoint import check_usable, explain_absence, explain_unload, find_checkpoint, find_loaded, load_chosen
from .foreign import warn_of_others
from .memory import check_is_whole, load
from .model import ForgeModel
from .turn import plain_model, take_loras_out


class ForgeHost(WebuiHost):
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def find_loaded(self) -> Any:
        return find_loaded()

    def find_checkpoint(self, config: ImageConfig) -> Any:
        return find_checkpoint(config.base_model)

    def explain_absence(self, config: ImageConfig) -> str | None:
        return explain_absence(config)

    def explain_loss(self, config: ImageConfig) -> str | None:
        return explain_absence(config) or explain_unload(config)

    def make_ready(self, config: ImageConfig) -> None:
        check_kind(config)
        load_chosen(config.base_model)

    def check_usable(self, loaded: Any) -> None:
        check_usable(loaded)

    def open_model(self, loaded: Any, config: ImageConfig) -> ImageModel:
        from modules import shared

        held = loaded.forge_objects_original
        take_loras_out(loaded)
        load([held.unet, held.clip.patcher])
        check_is_whole(held.unet, loaded.sd_checkpoint_info.name)
        zero_snr = shared.opts.sd_noise_schedule == "Zero Terminal SNR"
        model = ForgeModel(loaded, config, sampled_at_zero_snr=zero_snr)
        model.warnings += warn_of_others(loaded)
        return model

    def plain(self, loaded: Any) -> contextlib.AbstractContextManager[None]:
        return plain_model(loaded)

    def find_base(self, config: ImageConfig) -> Path:
        check_kind(config)
        return super().find_base(config)

    def take_loras_out(self) -> None:
        loaded = find_loaded()
        if loaded is not None and loaded.current_lora_hash != str([]):  # else Forge would have to fetch what nobody needs now
            take_loras_out(loaded)

    def send_away(self, loaded: Any) -> None:
        from backend import memory_management

        memory_management.unload_all_models()

    def fetch(self, loaded: Any) -> None:
        """Each turn, and each picture, has Forge fetch what it needs."""


def check_on_loaded(config: ImageConfig) -> None:
    """Raise UserError where a run that starts now would not train on what is loaded. Where that is another checkpoint than its own, the
    run loads it or waits for it, and this says nothing of it."""
    check_kind(config)
    loaded = find_loaded()
    if loaded is not None and is_wanted(loaded.sd_checkpoint_info, config.base_model):
        check_usable(loaded)
        check_sampler(config.sample_sampler, is_sdxl=loaded.is_sdxl)


def check_kind(config: ImageConfig) -> None:
    """Raise UserError for the kind of adapter whose file Forge fails on: it takes a LoKr of a convolution apart in a way that PyTorch
    refuses (``backend/patcher/lora.py``)."""
    if config.network_type == "lokr" and config.conv_rank:
        raise UserError(
            "cannot train LoKr with convolutions in Forge: no picture can be made with its file there. Leave conv_rank empty, or set "
            "network_type to lora or loha."
        )
