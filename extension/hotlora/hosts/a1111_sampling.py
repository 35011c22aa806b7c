"""Samples from the WebUI's own txt2img, made inside a turn with whatever adapters are attached."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ..sd.model import SampleRequest


def sample_picture(loaded: Any, request: SampleRequest) -> Any:
    """One PIL picture, the one that a person would get for this prompt, seed and settings.

    LoRAs in the prompt are not applied: the live adapter is there already. Nothing is saved, and the WebUI's progress,
    last prompt, random numbers and cached prompts are left as they were.
    """
    from modules import processing, shared

    with _untouched(shared):
        while True:  # Interrupt and Skip are meant for people's own pictures
            shared.state.begin(job="hotlora sample")
            with contextlib.closing(_describe(loaded, request)) as job:
                pictures = processing.process_images(job).images
            if not (shared.state.interrupted or shared.state.skipped or shared.state.stopping_generation):
                return pictures[0]


def _describe(loaded: Any, request: SampleRequest) -> Any:
    from modules import processing

    job = processing.StableDiffusionProcessingTxt2Img(
        sd_model=loaded,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        steps=request.steps,
        cfg_scale=request.cfg,
        sampler_name=request.sampler,
        seed=request.seed,
        tiling=False,
        restore_faces=False,
        do_not_save_samples=True,
        do_not_save_grid=True,
        override_settings=_choose_settings(loaded, request),
    )
    job.disable_extra_networks = job.do_not_reload_embeddings = True
    job.cached_c, job.cached_uc = [None, None], [None, None]  # an encoding by the live adapter is nobody else's
    return job


def _choose_settings(loaded: Any, request: SampleRequest) -> dict[str, Any]:
    """The checkpoint is named because txt2img would otherwise load what somebody has just chosen, in the middle of the
    turn; and the U-Net, because a replacement has no adapters."""
    from modules import sd_models

    info = loaded.sd_checkpoint_info
    if info.title not in sd_models.checkpoint_aliases:
        info.register()
    return {
        "sd_model_checkpoint": info.title,
        "sd_unet": "None",
        "CLIP_stop_at_last_layers": request.clip_skip or 1,
        "live_previews_enable": False,  # nobody watches
    }


@contextlib.contextmanager
def _untouched(shared: Any) -> Iterator[None]:
    """The WebUI's globals that a picture changes, kept and put back."""
    state, no_history = dict(vars(shared.state)), shared.cmd_opts.no_prompt_history
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    shared.cmd_opts.no_prompt_history = True
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        shared.cmd_opts.no_prompt_history = no_history
        shared.total_tqdm.clear()
        vars(shared.state).clear()
        vars(shared.state).update(state)
