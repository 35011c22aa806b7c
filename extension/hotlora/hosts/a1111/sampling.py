"""A sample of A1111's model, drawn by its own txt2img."""

from typing import Any

from ...sd.model import SdSampleRequest
from ..webui.sampling import draw_sample


def sample_picture(loaded: Any, request: SdSampleRequest) -> Any:
    """One PIL picture, the one that a person would get for this prompt, seed and settings."""
    return draw_sample(loaded, request, _choose_settings(loaded, request))


def _choose_settings(loaded: Any, request: SdSampleRequest) -> dict[str, Any]:
    """Settings that must differ for this picture. The checkpoint is always named, because txt2img would otherwise load what
    somebody has just chosen, in the middle of the turn; a replaced U-Net would have no adapters."""
    from modules import sd_models, shared

    info = loaded.sd_checkpoint_info
    if info.title not in sd_models.checkpoint_aliases:
        info.register()
    wanted = {"sd_unet": "None", "CLIP_stop_at_last_layers": request.clip_skip or 1}
    return {"sd_model_checkpoint": info.title} | {name: value for name, value in wanted.items() if getattr(shared.opts, name) != value}
