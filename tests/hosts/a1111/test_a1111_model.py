"""The model that A1111 holds, in its original classes, gives the numbers that the stand-alone host's twin gives."""

from dataclasses import asdict

import pytest
import tiny
import torch
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.engine.writing import write_usable
from hotlora.hosts.a1111 import model as a1111_model
from hotlora.hosts.a1111.foreign import plain_of_others, warn_of_others
from hotlora.hosts.a1111.host import A1111Host
from hotlora.hosts.a1111.model import A1111Model
from hotlora.hosts.shared import devices
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.sd.model import Conditioning
from hotlora.sd.trainee import ImageTrainee
from original_model import UNETS, Loaded, make_unet
from pictures import make_pictures
from torch import nn


@pytest.fixture(scope="module")
def parts():
    return tiny.build_sd1()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.tiny_sd1_file(tmp_path_factory.mktemp("für Zoë") / "one.safetensors")


@pytest.fixture
def loaded(parts, checkpoint):
    return Loaded(parts, checkpoint)


@pytest.fixture
def twin(checkpoint):
    return DiffusersHost().borrow(build(ImageConfig, {"base_model": str(checkpoint)})).model


def make_model(loaded, **options):
    return A1111Model(loaded, build(ImageConfig, options), device=torch.device("cpu"))


@pytest.mark.parametrize("family", UNETS)
def test_layers_have_the_twins_names_and_weights(family):
    twin = {"sd1": tiny.build_sd1, "sd2": tiny.build_sd2}[family]()["unet"]
    from hotlora.sd.names import name_unet_layers

    ours, theirs = name_unet_layers(make_unet(family, twin), family), name_unet_layers(twin, family)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name].weight, theirs[name].weight) for name in ours)


def test_all_it_says_about_itself_is_what_the_twin_says(loaded, twin):
    model = make_model(loaded)
    for name in ("name", "path", "family", "prediction_type", "zero_terminal_snr", "scaling_factor", "fingerprint", "compute_dtype"):
        assert getattr(model, name) == getattr(twin, name), name
    assert torch.equal(model.alphas_cumprod, twin.alphas_cumprod)
    assert model.text_layers().keys() == twin.text_layers().keys()
    assert model.unet_layers().keys() == twin.unet_layers().keys()


def test_another_schedule_than_the_published_one_is_kept(loaded):
    loaded.alphas_cumprod_original = torch.linspace(0.99, 0.01, 1000)
    assert torch.equal(make_model(loaded).alphas_cumprod, loaded.alphas_cumprod_original)


def test_the_unets_answer_equals_the_twins(loaded, twin):
    generator = torch.Generator().manual_seed(0)
    noisy, context = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 77, 32, generator=generator)
    steps = torch.tensor([0, 500, 999])
    with torch.no_grad():
        ours, theirs = (model.predict(noisy, steps, Conditioning(context), None) for model in (make_model(loaded), twin))
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, theirs, atol=1e-5), (ours - theirs).abs().max()


@pytest.mark.parametrize(("clip_skip", "max_token_length"), [(None, 75), (2, 75), (None, 225)])
def test_captions_mean_what_they_say(loaded, twin, clip_skip, max_token_length):
    captions = ["a (red:1.4) [apple], AND BREAK", "", "one, two, " * 60]
    options = {"clip_skip": clip_skip, "max_token_length": max_token_length}
    with torch.no_grad():
        ours, theirs = (model.encode_text(captions, **options) for model in (make_model(loaded), twin))
    assert torch.equal(ours.context, theirs.context)
    assert ours.pooled is None


def test_pixels_are_encoded_to_the_twins_moments_and_nothing_random_is_used_up(loaded, twin):
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = torch.get_rng_state()
    ours, theirs = make_model(loaded).encode_pixels(pixels), twin.encode_pixels(pixels)
    assert torch.equal(torch.get_rng_state(), before)
    for mine, their in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, their, atol=1e-4), (mine - their).abs().max()


def test_a_vae_in_half_precision_encodes_in_fp32_and_stays_what_it_was(loaded):
    loaded.first_stage_model.half()
    before = {name: value.clone() for name, value in loaded.first_stage_model.state_dict().items()}
    mean, std = make_model(loaded).encode_pixels(torch.zeros(1, 3, 64, 64))
    assert mean.dtype == std.dtype == torch.float32
    assert torch.isfinite(mean).all()
    after = loaded.first_stage_model.state_dict()
    assert all(value.dtype == torch.float16 and torch.equal(value, before[name]) for name, value in after.items())


def make_session(tmp_path, trainee, config, where):
    for _ in trainee.prepare():
        pass
    config.output_dir = str(tmp_path / where)
    session = Session(trainee, config, Run.start(config))
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return session


def step_of(session):
    with session.attached():
        event = session.train_step()
    return event.loss, event.gradient_norm, session.adapters.tensors()


def step_config(tmp_path, checkpoint, **options):
    data = tmp_path / "data"
    if not data.exists():
        make_pictures(data, 4, (64, 64))
    sizes = {"resolution": 64, "min_bucket_reso": 64, "bucket_reso_steps": 8, "batch_size": 4, "cache_latents": "memory"}
    fixed = {"base_model": str(checkpoint), "train_data_dir": str(data), "lora_rank": 4, "train_text_encoder": True, "conv_rank": 2}
    return build(ImageConfig, {**sizes, **fixed, "optimizer_args": {"eps": 1e-3}, **options})


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_equals_the_stand_alone_hosts(tmp_path, loaded, checkpoint, checkpointing):
    config = step_config(tmp_path, checkpoint)
    theirs = step_of(make_session(tmp_path, DiffusersHost().borrow(config), config, "alone"))
    config = step_config(tmp_path, checkpoint, gradient_checkpointing=checkpointing)
    trainee = ImageTrainee(A1111Model(loaded, config, device=torch.device("cpu")), config)
    ours = step_of(make_session(tmp_path, trainee, config, "host"))
    assert ours[:2] == pytest.approx(theirs[:2], rel=1e-4)
    assert ours[2].keys() == theirs[2].keys()
    for name, tensors in ours[2].items():
        for key, tensor in tensors.items():
            assert torch.allclose(tensor, theirs[2][name][key], atol=1e-6), name


def test_a_saved_file_gives_the_twins_answer_and_leaves_every_bit_of_the_model(tmp_path, loaded, checkpoint):
    """What a grid draws with."""
    config = step_config(tmp_path, checkpoint, save_precision="fp32", learning_rate=1e-2)
    session = make_session(tmp_path, DiffusersHost().borrow(config), config, "alone")
    step_of(session)
    path = write_usable(session, session.run.checkpoint_path("step00000001"))
    host = make_model(loaded)
    trees = (host.unet, host.vae, *host.text_encoders)
    before = {key: tensor.clone() for tree in trees for key, tensor in tree.state_dict().items()}
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    answers = []
    for model in (DiffusersHost().borrow(config).model, A1111Model(loaded, config, device=torch.device("cpu"))):
        trainee = ImageTrainee(model, config)

        def answer(model=model):
            with torch.no_grad():
                cond = model.encode_text(["a cat"], clip_skip=None, max_token_length=75)
                return model.predict(noisy, torch.tensor([500]), cond, None)

        plain = answer()
        found = trainee.open(path)
        adapters = AdapterSet(found.targets, **asdict(found.choice))
        adapters.load(found.tensors)
        with adapters.attached(trainee.modules), adapters.at_weight(0.8):
            answers.append(answer())
        assert torch.equal(answer(), plain) and not torch.allclose(answers[-1], plain, atol=1e-3)
    assert torch.allclose(*answers, atol=1e-5)
    after = {key: tensor for tree in trees for key, tensor in tree.state_dict().items()}
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


def keep_lora_in(net):
    """As sd-webui-additional-networks leaves the last picture's LoRA in a network."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.forward = lambda x, plain=layer.forward: plain(x) + 0.1 * x.mean(-1, keepdim=True)


def test_a_step_is_the_same_whatever_another_extension_keeps_hooked_in(tmp_path, loaded, checkpoint):
    def step(where):
        config = step_config(tmp_path, checkpoint)
        trainee = ImageTrainee(A1111Model(loaded, config, device=torch.device("cpu")), config)
        return step_of(make_session(tmp_path, trainee, config, where))

    wanted = step("plain")
    keep_lora_in(loaded.model)
    keep_lora_in(loaded.cond_stage_model.wrapped.transformer)
    assert step("hooked")[0] != wanted[0]
    assert len(warn_of_others(loaded)) == 1 and __name__ in warn_of_others(loaded)[0]
    with plain_of_others(loaded):
        found = step("off")
    assert found[:2] == wanted[:2]
    assert all(torch.equal(tensor, wanted[2][name][key]) for name, tensors in found[2].items() for key, tensor in tensors.items())


def test_checkpointing_saves_activations_and_leaves_no_trace(loaded):
    model = make_model(loaded)
    blocks = [module for module in model.unet.modules() if hasattr(module, "_forward")]
    foreign = blocks[0].forward = lambda *inputs: None  # somebody else's
    with model.training(gradient_checkpointing=True):
        assert all("forward" in vars(block) for block in blocks)
        assert blocks[0].forward is not foreign
    assert blocks[0].forward is foreign
    assert not any("forward" in vars(block) for block in blocks[1:])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vae": "other.pt"}, "cannot use the option vae in the WebUI"),
        ({"clip_skip": 9}, "this text encoder has 3 layers"),
    ],
)
def test_options_that_do_not_fit_are_refused(loaded, options, sentence):
    with pytest.raises(UserError, match=sentence):
        make_model(loaded, **options)


def test_a_model_in_half_precision_is_refused_where_the_device_cannot_train_it(loaded, monkeypatch):
    monkeypatch.setattr(devices, "can_compute", lambda device, dtype: False)
    loaded.model.half()
    with pytest.raises(UserError, match="Start the WebUI with --no-half"):
        make_model(loaded)


def test_what_the_model_predicts_is_the_webuis_word(loaded):
    loaded.parameterization = "v"
    model = make_model(loaded, prediction_type="epsilon")
    assert model.prediction_type == "v_prediction"
    assert any("runs one.safetensors as v_prediction" in message for message in model.warnings)
    assert A1111Model(loaded, build(ImageConfig, {}), device="cpu", sampled_at_zero_snr=True).zero_terminal_snr
    loaded.parameterization = "eps"
    assert not A1111Model(loaded, build(ImageConfig, {}), device="cpu", sampled_at_zero_snr=True).zero_terminal_snr


def test_medvram_trains_the_unet_only(loaded):
    loaded.lowvram = True
    with pytest.raises(UserError, match="cannot train the text encoder with --medvram"):
        make_model(loaded, train_text_encoder=True)


def test_borrowing_writes_down_which_checkpoint_it_was(loaded, webui, tmp_path):
    webui.sd_models.model_data.sd_model = loaded
    config = build(ImageConfig, {"output_name": "cat"})
    host = A1111Host()
    trainee = host.borrow(config)
    assert trainee.model.name == config.base_model == "one.safetensors"
    assert host.has_model(config)
    webui.sd_models.model_data.sd_model = webui.loaded
    assert not host.has_model(config)


def test_the_sampler_must_be_one_of_the_webuis(loaded, webui):
    webui.sd_models.model_data.sd_model = loaded
    with pytest.raises(UserError, match="the sampler 'Oiler'"):
        A1111Host().borrow(build(ImageConfig, {"sample_sampler": "Oiler"}))


@pytest.mark.parametrize("text_is_trained", [False, True])
def test_only_the_unet_stays_where_room_is_needed(loaded, monkeypatch, webui, text_is_trained):
    """What is encoded while the others are away is the same."""
    monkeypatch.setattr(a1111_model, "needs_room", lambda device: True)
    model = make_model(loaded, train_text_encoder=text_is_trained)
    moves = []
    for name, module in (("vae", model.vae), ("text", model.text_encoders[0]), ("unet", model.unet)):
        monkeypatch.setattr(module, "to", lambda place, name=name: moves.append((name, str(place))))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents, text = model.encode_pixels(pixels), model.encode_text(["a cat"], clip_skip=None, max_token_length=75)
    moves.clear()
    with model.training(gradient_checkpointing=False):
        away = moves.copy()
        moves.clear()
        again = model.encode_text(["a cat"], clip_skip=None, max_token_length=75)
        assert torch.equal(again.context, text.context)
        assert {name for name, _ in moves} == (set() if text_is_trained else {"text"})
        moves.clear()
        assert all(torch.equal(a, b) for a, b in zip(model.encode_pixels(pixels), latents, strict=True))
        assert ("vae", "cpu") in moves and not any(name == "text" for name, _ in moves)
    assert away == ([("vae", "cpu")] if text_is_trained else [("vae", "cpu"), ("text", "cpu")])
    assert not any(name == "unet" for name, _ in moves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_vae_has_the_twins_fingerprint_and_no_other_vae_has_it(parts, checkpoint, loaded, twin, tmp_path, dtype):
    """Original classes name, order and shape the layers otherwise; a checkpoint in half precision is the same VAE to both."""
    if dtype == torch.float16:
        checkpoint = tiny.tiny_sd1_file(tmp_path / "half.safetensors", dtype=dtype)
        twin = DiffusersHost().borrow(build(ImageConfig, {"base_model": str(checkpoint)})).model
        loaded.first_stage_model.half()
    assert make_model(loaded).vae_fingerprint == twin.vae_fingerprint
    with torch.no_grad():
        loaded.first_stage_model.encoder.conv_out.bias[0] += 0.01
    assert make_model(loaded).vae_fingerprint != twin.vae_fingerprint
