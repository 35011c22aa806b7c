"""The model that Forge holds, with what hurts in it, gives the numbers that the stand-alone host's twin gives, and is left as it was."""

import sys
from types import SimpleNamespace

import forge
import pytest
import tiny
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.forge.forward import differentiable
from hotlora.hosts.forge.host import ForgeHost
from hotlora.hosts.forge.ordinary import make_ordinary
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.sd.model import Conditioning
from pictures import make_pictures


@pytest.fixture(scope="module")
def parts():
    return tiny.build_sd1()


@pytest.fixture
def checkpoint(tmp_path):
    return tiny.tiny_sd1_file(tmp_path / "one.safetensors")


@pytest.fixture
def web(monkeypatch, tmp_path, parts, checkpoint):
    return forge.make_forge(monkeypatch, tmp_path, lambda: forge.StableDiffusion(parts, checkpoint))


@pytest.fixture
def twin(checkpoint):
    return DiffusersHost().borrow(build(ImageConfig, {"base_model": str(checkpoint)})).model


def lend(**options):
    """A host that has lent its model, and the model."""
    host = ForgeHost()
    return host, host.borrow(build(ImageConfig, {"output_name": "cat", **options})).model


def test_all_it_says_about_itself_is_what_the_twin_says(web, twin):
    _, model = lend()
    for name in ("name", "path", "family", "prediction_type", "zero_terminal_snr", "scaling_factor", "fingerprint", "compute_dtype"):
        assert getattr(model, name) == getattr(twin, name), name
    assert torch.equal(model.alphas_cumprod, twin.alphas_cumprod)
    assert model.text_layers().keys() == twin.text_layers().keys()
    assert model.unet_layers().keys() == twin.unet_layers().keys()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_number_of_the_forward_pass_changes_and_the_unets_answer_is_the_twins(web, twin, checkpointing):
    _, model = lend()
    generator = torch.Generator().manual_seed(0)
    noisy, context = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 77, 32, generator=generator)
    steps = torch.tensor([0, 500, 999])
    with torch.inference_mode():
        drawn = model.unet(noisy, steps, context=context, transformer_options={})
    with model.training(gradient_checkpointing=checkpointing):
        trained = model.predict(noisy, steps, Conditioning(context), None)
    assert torch.equal(trained, drawn)
    with torch.no_grad():
        wanted = twin.predict(noisy, steps, Conditioning(context), None)
    assert torch.allclose(trained, wanted, atol=1e-5), (trained - wanted).abs().max()


def test_without_the_copies_the_backward_pass_fails(web):
    """That the stand-in has what hurts."""
    _, model = lend()
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    answer = model.predict(x, torch.tensor([5]), Conditioning(torch.randn(1, 77, 32)), None)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        answer.sum().backward()


@pytest.mark.parametrize(("clip_skip", "max_token_length"), [(None, 75), (2, 75), (None, 225)])
def test_captions_mean_what_they_say(web, twin, clip_skip, max_token_length):
    captions = ["a (red:1.4) [apple], AND BREAK", "", "one, two, " * 60]
    options = {"clip_skip": clip_skip, "max_token_length": max_token_length}
    with torch.no_grad():
        ours, theirs = (model.encode_text(captions, **options) for model in (lend()[1], twin))
    assert torch.equal(ours.context, theirs.context)
    assert ours.pooled is None


def test_pixels_are_encoded_to_the_twins_moments_and_nothing_random_is_used_up(web, twin):
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    _, model = lend()
    before = torch.get_rng_state()
    ours, theirs = model.encode_pixels(pixels), twin.encode_pixels(pixels)
    assert torch.equal(torch.get_rng_state(), before)
    for mine, their in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, their, atol=1e-4), (mine - their).abs().max()


def step_config(tmp_path, **options):
    data = tmp_path / "data"
    if not data.exists():
        make_pictures(data, 4, (64, 64))
    sizes = {"resolution": 64, "min_bucket_reso": 64, "bucket_reso_steps": 8, "batch_size": 4, "cache_latents": "memory"}
    fixed = {"train_data_dir": str(data), "lora_rank": 4, "train_text_encoder": True, "conv_rank": 2, "optimizer_args": {"eps": 1e-3}}
    return build(ImageConfig, {**sizes, **fixed, **options})


def step_of(trainee, config, folder):
    for _ in trainee.prepare():
        pass
    config.output_dir = str(folder)
    session = Session(trainee, config, Run.start(config))
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    with session.attached():
        event = session.train_step()
    return event.loss, event.gradient_norm, session.adapters.tensors()


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"use_dora": True}, {"network_type": "loha"}])
def test_a_training_step_equals_the_stand_alone_hosts_and_leaves_every_weight(tmp_path, web, checkpoint, options):
    plain = {name: value for name, value in options.items() if name != "gradient_checkpointing"}
    config = step_config(tmp_path, base_model=str(checkpoint), **plain)
    theirs = step_of(DiffusersHost().borrow(config), config, tmp_path / "alone")
    web.load()
    loaded, host, config = web.sd_models.model_data.sd_model, ForgeHost(), step_config(tmp_path, **options)
    before = loaded.digest()
    trainee = host.borrow(config)
    with host.turn():
        ours = step_of(trainee, config, tmp_path / "host")
    assert ours[:2] == pytest.approx(theirs[:2], rel=1e-4)
    assert ours[2].keys() == theirs[2].keys()
    for name, tensors in ours[2].items():
        for key, tensor in tensors.items():
            assert torch.allclose(tensor, theirs[2][name][key], atol=1e-6), name
    after = loaded.digest()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert web.loads == 1


def test_what_training_puts_on_the_blocks_is_gone_afterwards(web):
    _, model = lend()
    blocks = [module for module in model.unet.modules() if hasattr(module, "transformer_blocks")]
    foreign = blocks[0].forward = lambda *inputs: None  # somebody else's
    with model.training(gradient_checkpointing=True):
        assert all("forward" in vars(block) for block in blocks) and blocks[0].forward is not foreign
    assert blocks[0].forward is foreign and not any("forward" in vars(block) for block in blocks[1:])
    assert not any(module._forward_pre_hooks for module in model.unet.modules())


def test_attention_without_a_backward_pass_is_replaced_for_the_turn(web, monkeypatch):
    def attention_sage(): ...
    def attention_pytorch(): ...
    def attention_xformers(): ...

    _, model = lend()
    monkeypatch.setitem(sys.modules, "backend.attention", SimpleNamespace(attention_pytorch=attention_pytorch))
    for found, wanted in ((attention_sage, attention_pytorch), (attention_xformers, attention_xformers)):
        monkeypatch.setattr(forge, "attention_function", found, raising=False)
        with differentiable(model.unet, gradient_checkpointing=False):
            assert forge.attention_function is wanted
        assert forge.attention_function is found


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vae": "other.pt"}, "cannot use the option vae in the WebUI"),
        ({"clip_skip": 9}, "this text encoder has 3 layers"),
        ({"network_type": "lokr", "conv_rank": 2}, "cannot train LoKr with convolutions"),
    ],
)
def test_options_that_do_not_fit_are_refused(web, options, sentence):
    with pytest.raises(UserError, match=sentence):
        lend(**options)


def test_adapters_that_a_sample_moved_in_inference_mode_go_on_learning(web, tmp_path, monkeypatch):
    """As on a GPU, where a picture makes room for the VAE."""
    from hotlora.hosts.forge import model as forge_model

    host, config = ForgeHost(), step_config(tmp_path)
    trainee = host.borrow(config)
    model = trainee.model

    def draw(loaded, request):
        with torch.inference_mode():
            model.unet.to(torch.float64).to(torch.float32)
        return "picture"

    monkeypatch.setattr(forge_model, "sample_picture", draw)
    for _ in trainee.prepare():
        pass
    config.output_dir = str(tmp_path / "run")
    with host.turn():
        session = Session(trainee, config, Run.start(config))
        with session.attached():
            session.train_step()
            assert model.sample(None) == "picture"
            before = [parameter.detach().clone() for parameter in session.parameters]
            session.train_step()
    assert all(not torch.equal(now, then) for now, then in zip(session.parameters, before, strict=True))


def test_making_it_ordinary_again_changes_nothing(web):
    _, model = lend()
    kept = list(model.unet.parameters())
    make_ordinary([model.unet])
    assert all(now is before for now, before in zip(model.unet.parameters(), kept, strict=True))
