"""Samples from the WebUI's own txt2img, made inside a turn with whatever adapters are attached. Which settings must differ for them is the
host's to say."""

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...engine.errors import UserError
from ...sd.model import SdSampleRequest


def list_samplers() -> list[str]:
    """What ``sample_sampler`` may be: the WebUI's samplers, then each with each scheduler's name behind it."""
    from modules import sd_samplers, sd_schedulers

    names = sd_samplers.visible_sampler_names()
    labels = [scheduler.label for scheduler in sd_schedulers.schedulers[1:]]  # the first, Automatic, is the plain name
    return names + [f"{name} {label}" for name in names for label in labels]


def check_sampler(name: str, *, is_sdxl: bool) -> None:
    """Raise UserError for a sampler that the WebUI does not have: it would take its first one instead and say nothing."""
    from modules import sd_samplers

    sampler = sd_samplers.all_samplers_map.get(_without_scheduler(name))
    if sampler is None:
        near = difflib.get_close_matches(name, list_samplers(), n=4, cutoff=0.5) or sd_samplers.visible_sampler_names()
        raise UserError(f"cannot make samples with the sampler '{name}': the WebUI has none. Set sample_sampler: {' or '.join(near)}.")
    if is_sdxl and sampler.options.get("no_sdxl"):
        raise UserError(f"cannot make samples with the sampler '{name}' on an SDXL model. Set sample_sampler to another one.")


def _without_scheduler(name: str) -> str:
    """The WebUI takes the name apart in the same way (``modules/sd_samplers.py``, get_sampler_and_scheduler)."""
    from modules import sd_schedulers

    for scheduler in sd_schedulers.schedulers:
        for ending in (scheduler.label, scheduler.name, *(scheduler.aliases or [])):
            if name.endswith(f" {ending}"):
                return name[: -len(ending) - 1]
    return name


def draw_sample(loaded: Any, request: SdSampleRequest, settings: Mapping[str, Any]) -> Any:
    """One PIL picture, the one that a person would get for this prompt, seed and settings.

    LoRAs in the prompt are not applied: the live adapter is there already. Nothing is saved, and the WebUI's settings,
    progress, last prompt, random numbers and cached prompts are left as they were.

    Args:
        loaded: the WebUI's model, handed on as it is.
        settings: of the WebUI, for this picture only.
    """
    from modules import processing, shared

    with _settings_kept(shared.opts, settings), _globals_kept(shared):
        while True:  # Interrupt and Skip are meant for people's own pictures
            shared.state.begin(job="hotlora sample")
            with contextlib.closing(_describe(loaded, request, settings)) as job:
                pictures = processing.process_images(job).images
            if not (shared.state.interrupted or shared.state.skipped or shared.state.stopping_generation):
                return pictures[0]


def _describe(loaded: Any, request: SdSampleRequest, settings: Mapping[str, Any]) -> Any:
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
        override_settings=dict(settings),
        override_settings_restore_afterwards=False,
    )
    job.disable_extra_networks = job.do_not_reload_embeddings = True
    job.cached_c, job.cached_uc = [None, None], [None, None]  # an encoding by the live adapter is nobody else's
    return job


@contextlib.contextmanager
def _settings_kept(options: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """The WebUI's own way back keeps a setting that its config file does not have yet, and undoes what somebody chose
    meanwhile, such as a checkpoint."""
    found = {name: options.data[name] for name in settings if name in options.data}
    try:
        yield
    finally:
        for name, value in settings.items():
            if options.data.get(name) == value:
                if name in found:
                    options.data[name] = found[name]
                else:
                    options.data.pop(name, None)


@contextlib.contextmanager
def _globals_kept(shared: Any) -> Iterator[None]:
    """Everything else that a picture changes, put back."""
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
