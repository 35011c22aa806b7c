"""The schedule, noise, targets and losses equal diffusers' scheduler where it has them, and their formulas written out."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hotlora.engine.options import build
from hotlora.sd import objectives
from hotlora.sd.config import ImageConfig

SHAPE = (4, 12, 20)


def config(**options):
    return build(ImageConfig, options)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scheduler():
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 417, 999])


def test_schedule_is_diffusers(scheduler):
    assert torch.equal(objectives.scaled_linear_alphas_cumprod(), scheduler.alphas_cumprod)


def test_snr_of_known_timesteps():
    beta0, abar = 0.00085, objectives.scaled_linear_alphas_cumprod()
    ratios = objectives.snr(abar)
    assert ratios[0].item() == pytest.approx((1 - beta0) / beta0, rel=1e-4)
    assert ratios[999].item() == pytest.approx(abar[999].item() / (1 - abar[999].item()), rel=1e-6)
    assert (ratios[1:] < ratios[:-1]).all()


def test_zero_terminal_snr_is_diffusers():
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
    abar = objectives.rescale_zero_terminal_snr(objectives.scaled_linear_alphas_cumprod())
    wanted = DDPMScheduler(**options).alphas_cumprod.clone()
    assert abar[-1].item() == 0
    assert torch.allclose(abar[:-1], wanted[:-1], rtol=1e-3, atol=1e-7)  # diffusers goes through betas, which costs precision
    assert abar[0].item() == pytest.approx(1 - 0.00085, rel=1e-6)


def test_noised_latents_and_velocity_are_diffusers(scheduler, batch):
    latents, noise, timesteps = batch
    abar = objectives.scaled_linear_alphas_cumprod()
    assert torch.allclose(objectives.add_noise(latents, noise, timesteps, abar), scheduler.add_noise(latents, noise, timesteps), atol=1e-6)
    velocity = objectives.target(latents, noise, timesteps, abar, "v_prediction")
    assert torch.allclose(velocity, scheduler.get_velocity(latents, noise, timesteps), atol=1e-6)
    assert objectives.target(latents, noise, timesteps, abar, "epsilon") is noise


def test_last_step_of_zero_terminal_snr_is_pure_noise(batch):
    latents, noise, _ = batch
    abar = objectives.rescale_zero_terminal_snr(objectives.scaled_linear_alphas_cumprod())
    last = torch.tensor([999, 999, 999])
    assert torch.equal(objectives.add_noise(latents, noise, last, abar), noise)
    assert torch.equal(objectives.target(latents, noise, last, abar, "v_prediction"), -latents)


def test_plain_noise_is_the_generators():
    assert torch.equal(objectives.draw_noise(SHAPE, config(), seeded()), torch.randn(SHAPE, generator=seeded()))


def test_noise_offset_shifts_each_channel_by_a_random_amount():
    generator = seeded()
    wanted = torch.randn(SHAPE, generator=generator) + 0.3 * torch.randn(4, 1, 1, generator=generator)
    noise = objectives.draw_noise(SHAPE, config(noise_offset=0.3), seeded())
    assert torch.allclose(noise, wanted)
    shift = noise - torch.randn(SHAPE, generator=seeded())
    assert shift.std(dim=(1, 2)).max() < 1e-6 and shift.mean(dim=(1, 2)).unique().numel() == 4


def test_multires_noise_written_out():
    generator = seeded(5)
    total = torch.randn(SHAPE, generator=generator)
    for i in range(6):
        r = torch.rand((), generator=generator).item() * 2 + 2
        h, w = max(1, int(12 / r**i)), max(1, int(20 / r**i))
        layer = torch.nn.Upsample(size=(12, 20), mode="bilinear")(torch.randn(1, 4, h, w, generator=generator))
        total = total + 0.4**i * layer[0]
        if h == 1 or w == 1:
            break
    noise = objectives.draw_noise(SHAPE, config(multires_noise_iterations=6, multires_noise_discount=0.4), seeded(5))
    assert i < 5  # it stopped early
    assert torch.allclose(noise, total / total.std(), atol=1e-6)
    assert noise.std().item() == pytest.approx(1, abs=1e-5)


def test_multires_noise_has_more_of_the_coarse():
    options = config(multires_noise_iterations=6, multires_noise_discount=0.8)
    plain = torch.stack([objectives.draw_noise((4, 32, 32), config(), seeded(i)) for i in range(8)])
    coarse = torch.stack([objectives.draw_noise((4, 32, 32), options, seeded(i)) for i in range(8)])
    assert coarse.mean(dim=(2, 3)).std() > 3 * plain.mean(dim=(2, 3)).std()


def test_timesteps_fill_their_range_and_no_more():
    generator = seeded()
    drawn = {objectives.draw_timestep(config(min_timestep=10, max_timestep=14), generator) for _ in range(200)}
    assert drawn == {10, 11, 12, 13}
    assert isinstance(drawn.pop(), int)


def test_input_perturbation_adds_fresh_noise():
    noise = torch.zeros(SHAPE)
    perturbed = objectives.perturb_noise(noise, config(ip_noise_gamma=0.1), seeded(3))
    assert torch.allclose(perturbed, 0.1 * torch.randn(SHAPE, generator=seeded(3)))
    generator = seeded(3)
    assert objectives.perturb_noise(noise, config(), generator) is noise
    assert torch.equal(generator.get_state(), seeded(3).get_state())


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_loss_weights_written_out(predicts):
    timesteps = torch.tensor([0, 3, 250, 600, 999])
    abar = objectives.scaled_linear_alphas_cumprod()
    ratios = objectives.snr(abar)
    for i, t in enumerate(timesteps.tolist()):
        s = abar[t].item() / (1 - abar[t].item())
        min_snr = min(s, 5.0) / (s if predicts == "epsilon" else s + 1)
        capped = min(s, 1000.0)
        debiased = 1 / math.sqrt(capped) if predicts == "epsilon" else 1 / (capped + 1)

        def weight(i=i, **options):
            return objectives.loss_weights(timesteps, ratios, config(**options), predicts)[i].item()

        assert weight() == 1
        assert weight(min_snr_gamma=0) == 1
        assert weight(min_snr_gamma=5) == pytest.approx(min_snr, rel=1e-4)
        assert weight(debiased_estimation=True) == pytest.approx(debiased, rel=1e-4)
        assert weight(min_snr_gamma=5, debiased_estimation=True) == pytest.approx(min_snr * debiased, rel=1e-4)


def reference_threshold(schedule, t, abar, c, scale):
    if schedule == "exponential":
        return math.exp(-(-math.log(c) / 1000) * t) * scale
    if schedule == "snr":
        sigma = math.sqrt((1 - abar) / abar)
        return (1 - c) / (1 + sigma) ** 2 + c
    return c * scale


@pytest.mark.parametrize("loss_type", ["l2", "l1", "huber", "smooth_l1"])
@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
def test_losses_written_out(loss_type, schedule, batch):
    pred, wanted, timesteps = batch
    abar = objectives.scaled_linear_alphas_cumprod()
    options = config(loss_type=loss_type, huber_schedule=schedule, huber_c=0.2, huber_scale=1.5)
    losses = objectives.example_losses(pred, wanted, options, timesteps, abar)
    for i, t in enumerate(timesteps.tolist()):
        c = reference_threshold(schedule, t, abar[t].item(), 0.2, 1.5)
        d = (pred[i] - wanted[i]).double().flatten()
        root = torch.sqrt(d**2 + c**2) - c
        values = {"l2": d**2, "l1": d.abs(), "huber": 2 * c * root, "smooth_l1": 2 * root}[loss_type]
        assert losses[i].item() == pytest.approx(values.mean().item(), rel=1e-5)


def test_l2_is_torchs_and_half_precision_is_raised_first(batch):
    pred, wanted, timesteps = batch
    abar = objectives.scaled_linear_alphas_cumprod()
    losses = objectives.example_losses(pred.half() * 300, wanted.half(), config(), timesteps, abar)
    assert losses.dtype == torch.float32 and torch.isfinite(losses).all()
    plain = torch.nn.functional.mse_loss(pred.half().float() * 300, wanted.half().float(), reduction="none")
    assert torch.allclose(losses, plain.mean(dim=(1, 2, 3)), rtol=1e-2)


def test_huber_at_zero_terminal_snr_is_finite(batch):
    pred, wanted, _ = batch
    abar = objectives.rescale_zero_terminal_snr(objectives.scaled_linear_alphas_cumprod())
    last = torch.tensor([999, 999, 999])
    assert objectives.huber_thresholds(last, abar, config(huber_c=0.1)).tolist() == pytest.approx([0.1] * 3)
    assert torch.isfinite(objectives.example_losses(pred, wanted, config(loss_type="huber"), last, abar)).all()


def test_mask_hides_errors_and_is_not_renormalised(batch):
    pred, wanted, timesteps = batch
    abar = objectives.scaled_linear_alphas_cumprod()
    mask = torch.zeros(3, 1, 8, 8)
    mask[:, :, :4] = 1
    mask[:, :, 4:6] = 0.5
    losses = objectives.example_losses(pred, wanted, config(), timesteps, abar, mask)
    square = (pred - wanted) ** 2
    by_hand = (square[:, :, :4].sum(dim=(1, 2, 3)) + 0.5 * square[:, :, 4:6].sum(dim=(1, 2, 3))) / (4 * 8 * 8)
    assert torch.allclose(losses, by_hand, rtol=1e-5)


def test_gradient_reaches_the_prediction(batch):
    pred, wanted, timesteps = batch
    pred.requires_grad_(True)
    losses = objectives.example_losses(pred, wanted, config(loss_type="smooth_l1"), timesteps, objectives.scaled_linear_alphas_cumprod())
    losses.sum().backward()
    assert torch.isfinite(pred.grad).all() and pred.grad.abs().sum() > 0
