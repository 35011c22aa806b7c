"""AUTOMATIC1111's WebUI as a host: trains on the checkpoint that is loaded there, between other people's pictures.

This folder and ``webui/`` are the only ones that know the WebUI; its ``modules`` are imported where they are used, so that importing these
files works anywhere. Written against v1.10.1.
"""

import contextlib
from typing import Any

from ...sd.config import ImageConfig
from ...sd.model import ImageModel
from ..webui.checkpoints import is_wanted
from ..webui.host import WebuiHost
from ..webui.sampling import check_sampler
from .checkpoint import check_usable, explain_absence, find_loaded, is_on_device
from .foreign import warn_of_others
from .model import A1111Model
from .turn import plain_model, take_loras_out


class A1111Host(WebuiHost):
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def find_loaded(self) -> Any:
        return find_loaded()

    def find_checkpoint(self, config: ImageConfig) -> Any:
        return find_loaded().sd_checkpoint_info

    def explain_absence(self, config: ImageConfig) -> str | None:
        return explain_absence(config)

    def make_ready(self, config: ImageConfig) -> None:
        """It loads what is chosen by itself."""

    def check_usable(self, loaded: Any) -> None:
        check_usable(loaded)

    def open_model(self, loaded: Any, config: ImageConfig) -> ImageModel:
        from modules import devices, shared

        zero_snr = shared.opts.sd_noise_schedule == "Zero Terminal SNR"
        model = A1111Model(loaded, config, device=devices.device, sampled_at_zero_snr=zero_snr)
        model.warnings += warn_of_others(loaded)
        return model

    def plain(self, loaded: Any) -> contextlib.AbstractContextManager[None]:
        return plain_model(loaded)

    def take_loras_out(self) -> None:
        take_loras_out(find_loaded())

    def send_away(self, loaded: Any) -> None:
        """As *Unload SD checkpoint to RAM* does: no picture can be made with it until it is fetched."""
        from modules import sd_models

        sd_models.unload_model_weights(loaded)

    def fetch(self, loaded: Any) -> None:
        from modules import sd_models

        if not is_on_device(loaded):
            sd_models.send_model_to_device(loaded)


def check_on_loaded(config: ImageConfig) -> None:
    """Raise UserError where a run that starts now would not train on what is loaded. Where that is another checkpoint than its own, the
    run waits for it, and this says nothing."""
    loaded = find_loaded()
    if loaded is not None and is_wanted(loaded.sd_checkpoint_info, config.base_model):
        check_usable(loaded)
        check_sampler(config.sample_sampler, is_sdxl=loaded.is_sdxl)
