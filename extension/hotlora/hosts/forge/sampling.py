"""A sample of Forge's model, drawn by its own txt2img."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ...sd.model import SdSampleRequest
from ..webui.sampling import draw_sample


def sample_picture(loaded: Any, request: SdSampleRequest) -> Any:
    """One PIL picture, the one that a person would get for this prompt, seed and settings."""
    from modules import shared

    skip = request.clip_skip or 1
    settings = {} if skip == shared.opts.CLIP_stop_at_last_layers else {"CLIP_stop_at_last_layers": skip}
    with _nothing_loaded():
        return draw_sample(loaded, request, settings)


@contextlib.contextmanager
def _nothing_loaded() -> Iterator[None]:
    """A picture has Forge load what people have chosen meanwhile, and unload everything where they have changed a setting of its
    memory; that is left to the next picture of theirs."""
    from modules import processing, sd_models

    data = sd_models.model_data
    known, to_unload = data.forge_hash, processing.need_global_unload
    data.forge_hash, processing.need_global_unload = str(data.forge_loading_parameters), False
    pretended = data.forge_hash
    try:
        yield
    finally:
        if data.forge_hash == pretended:
            data.forge_hash = known
        processing.need_global_unload = processing.need_global_unload or to_unload
