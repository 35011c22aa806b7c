"""Samples are what diffusers' own pipelines make, and making them leaves no trace."""

from pathlib import Path

import diffusers
import pytest
import tiny
import torch
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersModel
from hotlora.hosts.standalone.sampling import make_scheduler, read_alphas_cumprod
from hotlora.sd.config import ImageConfig
from hotlora.sd.model import SdSampleRequest

CPU = torch.device("cpu")
SAMPLERS = ("DPM++ 2M", "DPM++ 2M Karras", "Euler", "Euler a", "DDIM")


def ask(sampler="DDIM", **changes):
    values = {"prompt": "a cat", "negative_prompt": "", "width": 64, "height": 48, "steps": 3, "cfg": 5.0, "sampler": sampler, "seed": 7}
    return SdSampleRequest(**(values | changes))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("negative", ["", "a dog"])
def test_sample_is_what_the_diffusers_pipeline_makes(loaded, models, family, negative):
    pipeline_class = diffusers.StableDiffusionXLPipeline if family == "sdxl" else diffusers.StableDiffusionPipeline
    options = {"add_watermarker": False} if family == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = pipeline_class.from_pretrained(str(getattr(models, f"{family}_folder")), **options)
    pipeline.set_progress_bar_config(disable=True)
    request = ask(negative_prompt=negative)
    expected = pipeline(
        request.prompt,
        negative_prompt=negative or None,
        width=64,
        height=48,
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    found = loaded[family].sample(request)
    assert found.size == expected.size == (64, 48)
    differences = [abs(a - b) for a, b in zip(found.tobytes(), expected.tobytes(), strict=True)]
    assert max(differences) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_is_deterministic_and_leaves_no_trace(loaded, sampler):
    model = loaded["sdxl"]
    parts = (model.unet, model.vae, *model.text_encoders)
    model.unet.train()
    try:
        modes, configs = [module.training for part in parts for module in part.modules()], [str(part.config) for part in parts]
        weights = [tensor.clone() for part in parts for tensor in part.state_dict().values()]
        random_state = torch.get_rng_state()
        first, second, third = (model.sample(ask(sampler, seed=seed)).tobytes() for seed in (7, 7, 8))
        assert first == second != third
        assert [module.training for part in parts for module in part.modules()] == modes
        assert [str(part.config) for part in parts] == configs
        assert all(torch.equal(a, b) for a, b in zip(weights, (t for part in parts for t in part.state_dict().values()), strict=True))
        assert torch.equal(torch.get_rng_state(), random_state)
    finally:
        model.unet.eval()


def test_negative_prompt_and_guidance_count(loaded):
    changes = ({}, {"negative_prompt": "a dog"}, {"cfg": 1.0}, {"clip_skip": 2})
    assert len({loaded["sd1"].sample(ask(**change)).tobytes() for change in changes}) == 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_zero_terminal_snr_samples_from_the_last_timestep(sampler):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    scheduler = make_scheduler(sampler, config, prediction_type="v_prediction", zero_terminal_snr=True)
    scheduler.set_timesteps(10)
    if "Karras" not in sampler:  # its timesteps are those nearest to Karras' noise levels
        assert int(scheduler.timesteps[0]) == 999
    assert scheduler.alphas_cumprod[-1] < 1e-6
    plain = make_scheduler(sampler, config, prediction_type="epsilon", zero_terminal_snr=False)
    torch.testing.assert_close(plain.alphas_cumprod, read_alphas_cumprod(config))


def test_zero_terminal_snr_sample_is_a_picture(models, tmp_path):
    path = tiny.tiny_sdxl_file(tmp_path / "noob.safetensors", v_prediction=True, zero_terminal_snr=True)
    model = DiffusersModel(describe(path), ImageConfig(), CPU)
    assert model.zero_terminal_snr and model.prediction_type == "v_prediction"
    for sampler in SAMPLERS:
        assert len(set(model.sample(ask(sampler)).tobytes())) > 20, sampler


def test_demo_model_loads_from_its_yaml_and_draws():
    path = Path(__file__).resolve().parents[3] / "demo" / "model" / "emoji-sd.safetensors"
    model = DiffusersModel(describe(path), ImageConfig(), CPU)
    assert (model.family, model.prediction_type) == ("sd1", "epsilon")
    assert model.unet.config.block_out_channels == [128, 128]
    assert model.unet.config.attention_head_dim == 4
    assert model.text_encoders[0].config.num_attention_heads == 4
    apple = model.sample(ask("DPM++ 2M", prompt="red apple", steps=12, height=64, seed=1)).convert("RGB")
    pixels = torch.tensor(list(apple.tobytes()), dtype=torch.float32).reshape(64, 64, 3)
    middle, corner = pixels[24:44, 24:40].mean(dim=(0, 1)), pixels[:6, :6].mean(dim=(0, 1))
    assert middle[0] > middle[1] + 60 and middle[0] > middle[2] + 60  # red
    assert corner.min() > 200  # on white


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_prints_no_warning_of_a_schedule_that_is_old(loaded, sampler, recwarn):
    loaded["sd1"].sample(ask(sampler))
    assert not [str(told.message) for told in recwarn if "outdated" in str(told.message)]


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "DDIM"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_the_offset_that_pipelines_ask_for_moves_no_timestep(sampler, zero_terminal_snr):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    ours = make_scheduler(sampler, config, prediction_type="v_prediction", zero_terminal_snr=zero_terminal_snr)
    without = type(ours).from_config({**ours.config, "steps_offset": 0})
    for scheduler in (ours, without):
        scheduler.set_timesteps(7)
    assert torch.equal(ours.timesteps, without.timesteps)
