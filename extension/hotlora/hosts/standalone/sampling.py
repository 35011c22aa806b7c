"""Pictures from diffusers' own pipelines, assembled around the modules that are being trained.

Owns which scheduler stands for which WebUI sampler. Nothing is copied, moved or left changed.
"""

from collections.abc import Mapping
from typing import Any

import torch

from ...engine.errors import UserError
from ...sd.model import Conditioning, SdSampleRequest
from ..shared.devices import autocast
from ..shared.modes import in_mode

# WebUI name -> diffusers class and what it needs to walk the same timesteps.
_SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "timestep_spacing": "leading"}),
}
_SCHEDULE_KEYS = ("beta_start", "beta_end", "beta_schedule", "trained_betas", "num_train_timesteps")


def check_sampler(name: str) -> None:
    """Raise UserError for a sampler that has no counterpart here."""
    if name not in _SAMPLERS:
        raise UserError(f"cannot make samples with the sampler '{name}' outside the WebUI. Set sample_sampler: {', '.join(_SAMPLERS)}.")


def read_alphas_cumprod(config: Mapping[str, Any]) -> torch.Tensor:
    """[timesteps] fp32: the noise schedule of a scheduler's configuration, before any zero-terminal-SNR rewrite."""
    import diffusers

    return diffusers.DDPMScheduler(**_schedule(config)).alphas_cumprod


def make_scheduler(sampler: str, config: Mapping[str, Any], *, prediction_type: str, zero_terminal_snr: bool) -> Any:
    """A fresh scheduler. With zero terminal SNR it starts at the very last timestep (arXiv 2305.08891, section 3.3)."""
    import diffusers

    name, options = _SAMPLERS[sampler]
    usual = {"timestep_spacing": "linspace", "steps_offset": 1}  # which pipelines of SD 1.x and 2.x set anyway, with a long warning
    settings = usual | options | _schedule(config) | {"prediction_type": prediction_type}
    if zero_terminal_snr and prediction_type == "v_prediction":  # pure noise says nothing about itself: epsilon cannot
        settings |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return getattr(diffusers, name)(**settings)


@torch.no_grad()
def sample_picture(model: Any, request: SdSampleRequest) -> Any:
    """One PIL picture from a :class:`~.images.DiffusersModel`; the same request gives the same picture."""
    pipeline = _assemble(model, request)
    prompt, negative = _encode_prompts(model, request)
    conditions = {"prompt_embeds": prompt.context, "negative_prompt_embeds": negative.context}
    if prompt.pooled is not None and negative.pooled is not None:
        conditions |= {"pooled_prompt_embeds": prompt.pooled, "negative_pooled_prompt_embeds": negative.pooled}
    with in_mode([model.unet, *model.text_encoders, model.vae], training=False):
        with autocast(model.device, model.compute_dtype):
            latents = pipeline(
                width=request.width // 8 * 8,
                height=request.height // 8 * 8,
                num_inference_steps=request.steps,
                guidance_scale=request.cfg,
                generator=torch.Generator().manual_seed(request.seed),
                output_type="latent",
                **conditions,
            ).images
        pixels = model.vae.decode(latents.float() / model.scaling_factor).sample
    return pipeline.image_processor.postprocess(pixels, output_type="pil")[0]


def _encode_prompts(model: Any, request: SdSampleRequest) -> tuple[Conditioning, Conditioning]:
    """SDXL was trained on zeros instead of an empty caption; AUTOMATIC1111 and diffusers give it those as well."""
    texts = [request.prompt, request.negative_prompt]
    with in_mode(model.text_encoders, training=False):
        both = model.encode_text(texts, clip_skip=request.clip_skip, max_token_length=request.max_token_length)
    if both.pooled is None:
        return Conditioning(both.context[:1]), Conditioning(both.context[1:])
    context, pooled = both.context[1:], both.pooled[1:]
    if not request.negative_prompt:
        context, pooled = torch.zeros_like(context), torch.zeros_like(pooled)
    return Conditioning(both.context[:1], both.pooled[:1]), Conditioning(context, pooled)


def _assemble(model: Any, request: SdSampleRequest) -> Any:
    """A pipeline over the held modules."""
    import diffusers

    scheduler = make_scheduler(
        request.sampler, model.scheduler_config, prediction_type=model.prediction_type, zero_terminal_snr=model.zero_terminal_snr
    )
    shared = {"vae": model.vae, "unet": model.unet, "scheduler": scheduler}
    if model.family == "sdxl":
        encoders = {"text_encoder": model.text_encoders[0], "text_encoder_2": model.text_encoders[1]}
        tokenizers = {"tokenizer": model.tokenizers[0], "tokenizer_2": model.tokenizers[1]}
        pipeline = diffusers.StableDiffusionXLPipeline(**shared, **encoders, **tokenizers, add_watermarker=False)
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **shared,
            text_encoder=model.text_encoders[0],
            tokenizer=model.tokenizers[0],
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _SCHEDULE_KEYS if config.get(key) is not None}
