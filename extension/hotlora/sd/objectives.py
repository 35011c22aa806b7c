"""What a diffusion model is asked to predict, and how its error counts: schedule, noise, target, loss.

Pure functions over tensors, written after the formulas of kohya-ss/sd-scripts so that numbers known from there hold
here, with the papers they come from. Must not import anything of ours but the options.

All randomness of an example comes from one generator on the CPU, so that its noise depends neither on the device nor on
which other examples share its batch.
"""

import math

import torch
import torch.nn.functional as F

from .config import ImageConfig

TRAIN_TIMESTEPS = 1000


def scaled_linear_alphas_cumprod() -> torch.Tensor:
    """The schedule of every Stable Diffusion (arXiv 2112.10752): betas whose roots rise evenly from sqrt(0.00085) to
    sqrt(0.012). Returns [1000] fp32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_TIMESTEPS, dtype=torch.float32) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio of each timestep (arXiv 2303.09556, section 3.4). [1000] -> [1000].

    Loss weights use that of the schedule as trained, also under zero terminal SNR: its last entry would be 0 there.
    """
    return alphas_cumprod / (1.0 - alphas_cumprod)


def rescale_zero_terminal_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The schedule shifted and scaled so that the last timestep is pure noise and the first stays what it was
    (arXiv 2305.08891, algorithm 1). [1000] -> [1000]."""
    roots = alphas_cumprod.sqrt()
    first, last = roots[0], roots[-1]
    return ((roots - last) * (first / (first - last))) ** 2


def add_noise(latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (arXiv 2006.11239, equation 4). [batch, 4, height, width].

    Args:
        latents, noise: [batch, 4, height, width]; latents already scaled.
        timesteps: [batch] int64.
        alphas_cumprod: [1000], on any device.
    """
    signal, spread = _mix(alphas_cumprod, timesteps, latents)
    return signal * latents + spread * noise


def target(
    latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, alphas_cumprod: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """What the model should answer: the noise, or v = sqrt(abar_t) noise - sqrt(1 - abar_t) x_0 (arXiv 2202.00512).

    ``noise`` is without the extra of input perturbation. Shapes as in :func:`add_noise`; returns [batch, 4, height, width].
    """
    if prediction_type == "epsilon":
        return noise
    signal, spread = _mix(alphas_cumprod, timesteps, latents)
    return signal * noise - spread * latents


def _mix(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), each [batch, 1, 1, 1] beside ``like``."""
    chosen = _at(alphas_cumprod, timesteps)[:, None, None, None]
    return chosen.sqrt().to(like), (1.0 - chosen).sqrt().to(like)


def _at(per_timestep: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    return per_timestep[timesteps.to(per_timestep.device)]


def draw_noise(shape: tuple[int, ...], config: ImageConfig, generator: torch.Generator) -> torch.Tensor:
    """The noise of one example: normal, plus noise offset, plus coarser resolutions. [4, height, width] fp32, CPU.

    Noise offset shifts each channel by one random number (crosslabs.org, "Diffusion with offset noise").
    """
    noise = torch.randn(shape, generator=generator)
    if config.noise_offset:
        noise = noise + config.noise_offset * torch.randn((shape[0], 1, 1), generator=generator)
    if config.multires_noise_iterations:
        noise = _add_multires(noise, config, generator)
    return noise


def _add_multires(noise: torch.Tensor, config: ImageConfig, generator: torch.Generator) -> torch.Tensor:
    """Pyramid noise, as sd-scripts has it: coarser and coarser normal noise, each enlarged and ``discount`` times weaker.

    The sum is brought back to unit spread. sd-scripts divides by the spread of the whole batch; here it is the
    example's own, so that cutting a step into other batches changes nothing.
    """
    channels, height, width = noise.shape
    for i in range(config.multires_noise_iterations):
        shrink = (torch.rand((), generator=generator).item() * 2 + 2) ** i
        size = max(1, int(height / shrink)), max(1, int(width / shrink))
        coarse = torch.randn((1, channels, *size), generator=generator)
        enlarged = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
        noise = noise + enlarged * config.multires_noise_discount**i
        if 1 in size:
            break
    return noise / noise.std()


def draw_timestep(config: ImageConfig, generator: torch.Generator) -> int:
    """Evenly from ``min_timestep`` up to, not including, ``max_timestep``."""
    return int(torch.randint(config.min_timestep, config.max_timestep, (), generator=generator))


def perturb_noise(noise: torch.Tensor, config: ImageConfig, generator: torch.Generator) -> torch.Tensor:
    """The noise to put on the input: input perturbation (arXiv 2301.11706) adds more than the model is asked for.

    Args:
        noise: [4, height, width], as :func:`draw_noise` gave it; that stays the target's noise.
    """
    if not config.ip_noise_gamma:
        return noise
    return noise + config.ip_noise_gamma * torch.randn(noise.shape, generator=generator)


def loss_weights(timesteps: torch.Tensor, snr: torch.Tensor, config: ImageConfig, prediction_type: str) -> torch.Tensor:
    """How much each example's loss counts, by its timestep. [batch] fp32.

    Min-SNR (arXiv 2303.09556): min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v. Debiased estimation
    (arXiv 2310.08442): 1 / sqrt(snr) for epsilon, 1 / (snr + 1) for v, with snr up to 1000. Both together multiply.

    Args:
        timesteps: [batch] int64.
        snr: [1000], of the schedule as trained (see :func:`snr`).
    """
    ratio = _at(snr, timesteps).to(timesteps.device, torch.float32)
    weights = torch.ones_like(ratio)
    predicts_v = prediction_type == "v_prediction"
    if config.min_snr_gamma:
        weights = weights * ratio.clamp(max=config.min_snr_gamma) / (ratio + 1 if predicts_v else ratio)
    if config.debiased_estimation:
        capped = ratio.clamp(max=1000)
        weights = weights / (capped + 1 if predicts_v else capped.sqrt())
    return weights


def example_losses(
    pred: torch.Tensor,
    target: torch.Tensor,
    config: ImageConfig,
    timesteps: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Each example's mean error before any weight. [batch] fp32.

    Args:
        pred, target: [batch, 4, height, width], any precision.
        timesteps: [batch] int64.
        alphas_cumprod: [1000] of the schedule the noise was added by; only Huber's threshold reads it.
        mask: [batch, 1, height, width] at latent size, 0 to 1. Multiplied in before the mean, which still divides by all
            values, as in sd-scripts: a small subject counts less than one that fills the picture.
    """
    error = pred.float() - target.float()
    if config.loss_type == "l2":
        losses = error.square()
    elif config.loss_type == "l1":
        losses = error.abs()
    else:
        c = huber_thresholds(timesteps, alphas_cumprod, config).to(error.device)[:, None, None, None]
        losses = 2 * ((error.square() + c.square()).sqrt() - c)
        if config.loss_type == "huber":
            losses = losses * c
    if mask is not None:
        losses = losses * mask.to(losses)
    return losses.mean(dim=(1, 2, 3))


def huber_thresholds(timesteps: torch.Tensor, alphas_cumprod: torch.Tensor, config: ImageConfig) -> torch.Tensor:
    """Where Huber's loss turns from square to straight, by timestep (arXiv 2403.16728). [batch] fp32."""
    c = config.huber_c
    if config.huber_schedule == "exponential":
        return torch.exp(timesteps.float() * (math.log(c) / TRAIN_TIMESTEPS)) * config.huber_scale
    if config.huber_schedule == "snr":
        chosen = _at(alphas_cumprod, timesteps).float()
        sigma = ((1.0 - chosen) / chosen).sqrt()  # infinite at zero terminal SNR, where the threshold is c
        return (1 - c) / (1 + sigma) ** 2 + c
    return torch.full(timesteps.shape, c * config.huber_scale)
