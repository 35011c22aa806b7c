"""The stand-alone model computes what plain diffusers and transformers code computes, and is left as it was."""

import contextlib

import diffusers
import pytest
import tiny
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import Host
from hotlora.hosts.shared.spare import SpareModules
from hotlora.hosts.standalone import images as host
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersHost, DiffusersModel
from hotlora.sd.config import ImageConfig
from hotlora.sd.model import Conditioning

CPU = torch.device("cpu")


# -- room on the device --------------------------------------------------------------------------------------------------


class Recorder:
    """A module that writes down where it is sent."""

    def __init__(self):
        self.device = torch.device("cuda")

    def parameters(self):
        yield self

    def to(self, device):
        self.device = torch.device(device)


@pytest.mark.parametrize("short", [True, False])
def test_what_does_not_learn_makes_room_on_a_card_that_is_short_of_memory(loaded, monkeypatch, short):
    model, vae, encoder = loaded["sd1"], Recorder(), Recorder()
    away = "cpu" if short else "cuda"
    monkeypatch.setattr(host, "is_short", lambda device: short)
    monkeypatch.setattr(model, "_spare", SpareModules([vae, encoder]))
    with model.training(gradient_checkpointing=False):
        assert (vae.device.type, encoder.device.type) == (away, away)
        monkeypatch.setattr(host, "sample_picture", lambda model, request: (vae.device.type, encoder.device.type))
        assert model.sample(None) == ("cuda", "cuda")
        assert (vae.device.type, encoder.device.type) == (away, away)
    assert (vae.device.type, encoder.device.type) == ("cuda", "cuda")


# -- pictures and noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_pixels_are_encoded_as_diffusers_does(loaded, models, family):
    pixels = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    vae = diffusers.AutoencoderKL.from_pretrained(str(getattr(models, f"{family}_folder") / "vae"))
    with torch.no_grad():
        expected = vae.encode(pixels).latent_dist
    mean, std = loaded[family].encode_pixels(pixels)
    torch.testing.assert_close(mean, expected.mean)
    torch.testing.assert_close(std, expected.std)
    assert mean.shape == (2, 4, 8, 6)


def test_prediction_is_the_unets(loaded, models):
    generator = torch.Generator().manual_seed(2)
    noisy, steps = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([10, 990])
    context, pooled = torch.randn(2, 77, 96, generator=generator), torch.randn(2, 64, generator=generator)
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64], [80, 64, 8, 0, 64, 64]])
    unet = diffusers.UNet2DConditionModel.from_pretrained(str(models.sdxl_folder / "unet"))
    with torch.no_grad():
        expected = unet(noisy, steps, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
        found = loaded["sdxl"].predict(noisy, steps, Conditioning(context, pooled), sizes)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_reduced_precision_is_close_to_full(loaded, models, family):
    reduced = DiffusersModel(describe(getattr(models, f"{family}_file")), ImageConfig(mixed_precision="bf16"), CPU)
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        exact, rough = (
            model.predict(noisy, torch.tensor([500]), model.encode_text(["a cat"], clip_skip=None, max_token_length=75), None)
            for model in (loaded[family], reduced)
        )
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() < 0.05 * exact.norm()


def test_noise_schedule_is_the_published_one(loaded):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(loaded["sd1"].alphas_cumprod.double(), torch.cumprod(1 - betas, 0), rtol=1e-4, atol=1e-6)
    assert loaded["sd1"].alphas_cumprod.dtype == torch.float32


# -- prediction type ---------------------------------------------------------------------------------------------------


class ConstantUnet(torch.nn.Module):
    """Answers as a perfect model would that was given pure noise: epsilon gives it back, v the negative of a bright picture."""

    def __init__(self, predicts_v):
        super().__init__()
        self.predicts_v, self.config = predicts_v, type("Config", (), {"cross_attention_dim": 8})

    def forward(self, noisy, timesteps, encoder_hidden_states, **rest):
        assert timesteps.tolist() == [999] and encoder_hidden_states.shape == (1, 2, 8)
        return (torch.full_like(noisy, -1.0) if self.predicts_v else noisy,)


@pytest.mark.parametrize(("predicts_v", "expected"), [(True, "v_prediction"), (False, "epsilon")])
def test_unet_is_asked_what_nothing_else_says(models, tmp_path, monkeypatch, predicts_v, expected):
    parts = tiny.build_sd2()
    tensors = tiny.compvis_tensors(parts) | tiny.open_clip_tensors(parts["text_encoder"], "cond_stage_model.model.", unused_layers=1)
    path = tiny.save_checkpoint(tmp_path / "model.safetensors", tensors)
    load_parts = host.load_parts

    def load_with_known_unet(*arguments, **options):
        loaded_parts = load_parts(*arguments, **options)
        return type(loaded_parts)(ConstantUnet(predicts_v), loaded_parts.vae, loaded_parts.text_encoders, loaded_parts.tokenizers)

    monkeypatch.setattr(host, "load_parts", load_with_known_unet)
    model = DiffusersModel(describe(path), ImageConfig(), CPU)
    assert model.prediction_type == expected
    assert "set prediction_type" in model.warnings[0]
    assert DiffusersModel(describe(path), ImageConfig(prediction_type="v_prediction"), CPU).warnings == []


def test_config_goes_before_the_file(models):
    config = ImageConfig(prediction_type="v_prediction", zero_terminal_snr=True)
    model = DiffusersModel(describe(models.sd1_file), config, CPU)
    assert (model.prediction_type, model.zero_terminal_snr) == ("v_prediction", True)


# -- modes -------------------------------------------------------------------------------------------------------------


def list_modes(model):
    parts = (model.unet, *model.text_encoders, model.vae)
    return [(module.training, getattr(module, "gradient_checkpointing", None)) for part in parts for module in part.modules()]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_modes_are_undone(loaded, checkpointing):
    model = loaded["sdxl"]
    before = list_modes(model)
    with contextlib.suppress(KeyError), model.training(gradient_checkpointing=checkpointing):
        assert model.unet.training and all(encoder.training for encoder in model.text_encoders)
        assert model.unet.is_gradient_checkpointing == checkpointing
        raise KeyError
    assert list_modes(model) == before


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_checkpointing_saves_activations_and_changes_no_gradient(loaded, family):
    """The gradient reaches a weight at the very start of the frozen text encoder and one at the start of the U-Net."""
    model = loaded[family]
    weights = [next(iter(model.text_layers().values())).weight, next(iter(model.unet_layers().values())).weight]
    noisy, sizes = torch.randn(1, 4, 8, 8), torch.zeros(1, 6) if family == "sdxl" else None
    gradients, saved_bytes = [], []
    for weight in weights:
        weight.requires_grad_(True)
    try:
        for checkpointing in (False, True):
            kept = []

            def keep(tensor, kept=kept):
                kept.append(tensor.nbytes)
                return tensor

            hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
            with model.training(gradient_checkpointing=checkpointing), hooks:
                cond = model.encode_text(["a cat"], clip_skip=None, max_token_length=75)
                answer = model.predict(noisy, torch.tensor([300]), cond, sizes)
                saved_bytes.append(sum(kept))
                gradients.append(torch.autograd.grad(answer.square().mean(), weights))
    finally:
        for weight in weights:
            weight.requires_grad_(False)
    for plain, saving in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(saving, plain)
    assert saved_bytes[1] < 0.7 * saved_bytes[0]


# -- the host -----------------------------------------------------------------------------------------------------------


def test_host_borrows_the_named_model(models):
    trainee = DiffusersHost().borrow(ImageConfig(base_model=str(models.sd1_file)))
    assert trainee.model.name == "one.safetensors" and trainee.model.path == models.sd1_file
    assert trainee.device == trainee.model.device
    with pytest.raises(UserError, match="without a base model"):
        DiffusersHost().borrow(ImageConfig())
    with pytest.raises(UserError, match="'Restart' outside the WebUI. Set sample_sampler: DPM.. 2M, DPM.. 2M Karras, Euler"):
        DiffusersHost().borrow(ImageConfig(base_model=str(models.sd1_file), sample_sampler="Restart"))


def test_folder_has_no_file_to_hash(models):
    model = DiffusersModel(describe(models.sd1_folder), ImageConfig(), CPU)
    assert model.name == "sd1" and model.path is None


def test_turns_exclude_each_other():
    ours: Host = DiffusersHost()
    with ours.turn():
        assert not ours.turn().acquire(blocking=False)
        assert not ours.wanted()


def test_layers_have_kohyas_names(loaded):
    sd1, sdxl = loaded["sd1"], loaded["sdxl"]
    assert "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_k" in sd1.unet_layers()
    assert "lora_te_text_model_encoder_layers_2_mlp_fc1" in sd1.text_layers()
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q" in sdxl.unet_layers()
    assert {name.split("_text")[0] for name in sdxl.text_layers()} == {"lora_te1", "lora_te2"}
