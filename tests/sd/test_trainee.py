"""The image trainee on a real, tiny U-Net: what reaches the loss, and that nothing else does."""

import io
import json

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import Draws
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.pictures.editor import PictureEditor
from hotlora.sd.config import ImageConfig
from hotlora.sd.trainee import ImageBatch
from pictures import NOTES, make_pictures
from PIL import Image
from safetensors import safe_open
from tiny import tiny_sd1, tiny_sdxl


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"sd1": tiny_sd1(folder / "sd1"), "sdxl": tiny_sdxl(folder / "sdxl")}


def borrow(models, folder, family="sd1", count=4, size=(64, 64), **options):
    values = {
        "base_model": str(models[family]),
        "train_data_dir": str(folder / "data"),
        "output_dir": str(folder / "run"),
        "resolution": 64,
    }
    make_pictures(folder / "data", count, size)
    config = build(ImageConfig, {**values, "min_bucket_reso": 64, "lora_rank": 2, "batch_size": 2, **options})
    trainee = DiffusersHost().borrow(config)
    for _ in trainee.prepare():
        pass
    return trainee, config


def start(trainee, config):
    session = Session(trainee, config, Run.start(config))
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return session


def gradients(session, batches):
    session.optimizer.zero_grad(set_to_none=True)
    with session.attached():
        loss, *_ = session.gradients.of_step(batches, 0)
    # the last layer of SDXL's first encoder is not used, so it has no gradient
    return loss, [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in session.parameters]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_halves_and_accumulation_equal_the_big_batch(models, tmp_path, family):
    trainee, config = borrow(models, tmp_path, family, max_grad_norm=0, noise_offset=0.1, ip_noise_gamma=0.1, flip_aug=True)
    session = start(trainee, config)
    whole, expected = gradients(session, [ImageBatch((0, 1, 2, 3))])
    for cut in ([(0, 1), (2, 3)], [(0,), (1, 2, 3)], [(0,), (1,), (2,), (3,)]):
        loss, grads = gradients(session, [ImageBatch(items) for items in cut])
        assert loss == pytest.approx(whole, rel=1e-5)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, expected, strict=True))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_gradient_checkpointing_changes_no_gradient(models, tmp_path, family):
    trainee, config = borrow(models, tmp_path, family, train_text_encoder=True)
    session = start(trainee, config)
    loss, expected = gradients(session, [ImageBatch((0, 1))])
    config.gradient_checkpointing = True
    again, grads = gradients(session, [ImageBatch((0, 1))])
    assert again == pytest.approx(loss, rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, expected, strict=True))
    assert not any(getattr(m, "gradient_checkpointing", False) for tree in trainee.modules for m in tree.modules())


def test_text_encoder_learns_only_when_it_is_asked_to(models, tmp_path):
    trainee, config = borrow(models, tmp_path, train_text_encoder=True, text_encoder_lr=1e-5)
    session = start(trainee, config)
    gradients(session, [ImageBatch((0, 1))])
    text = [n for n in session.adapters.targets if n.startswith("lora_te_")]
    assert len(text) == 18 and all(session.adapters.targets[n].learning_rate == 1e-5 for n in text)
    assert all(session.adapters.layers[n].lora_A["default"].weight.grad.abs().sum() > 0 for n in text)
    assert not [n for n in borrow(models, tmp_path)[0].targets() if n.startswith("lora_te")]


def test_masked_pixels_do_not_reach_the_loss(models, tmp_path):
    options = {"masked_loss": True, "mask_dir": str(tmp_path / "masks"), "max_grad_norm": 0}
    (tmp_path / "masks").mkdir()
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 32, 64))
    for number in range(2):
        half.save(tmp_path / "masks" / f"picture {number}.png")
    trainee, config = borrow(models, tmp_path, count=3, **options)
    answers = []
    predict = trainee.model.predict

    def watched(noisy, timesteps, cond, sizes):
        answers.append(predict(noisy, timesteps, cond, sizes).requires_grad_())
        answers[-1].retain_grad()
        return answers[-1]

    trainee.model.predict = watched
    order = {trainee.stock.examples[i].path.name: i for i in range(3)}
    batch = ImageBatch((order["picture 0.png"], order["picture 2.png"]))
    trainee.loss(batch, Draws(0, 0)).total.backward()
    masked, whole = answers[0].grad
    assert masked[..., :4].abs().sum() > 0 and masked[..., 4:].abs().sum() == 0
    assert whole[..., 4:].abs().sum() > 0


def test_a_mask_that_was_drawn_changes_what_is_learned(models, tmp_path):
    def learn():
        trainee, config = borrow(models, tmp_path, count=1, masked_loss=True, max_grad_norm=0)
        return gradients(start(trainee, config), [ImageBatch((0,))])[1], config

    whole, config = learn()
    editor, drawn = PictureEditor(len), io.BytesIO()
    Image.new("L", (64, 64), 255).save(drawn, "PNG")
    editor.write_mask(config, "picture 0.png", drawn.getvalue())
    assert all(map(torch.equal, whole, learn()[0]))  # all of it is learned, as without a mask
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 32, 64))
    half.save(drawn := io.BytesIO(), "PNG")
    editor.write_mask(config, "picture 0.png", drawn.getvalue())
    assert not any(map(torch.equal, whole, learn()[0]))
    editor.undo(config)
    assert all(map(torch.equal, whole, learn()[0]))


def test_regularisation_pictures_count_by_their_weight_and_have_no_trigger(models, tmp_path):
    make_pictures(tmp_path / "class", 2, first=10)
    trainee, config = borrow(models, tmp_path, count=2, reg_data_dir=str(tmp_path / "class"), prior_loss_weight=0.5, trigger_word="zwx")
    reg = [i for i, e in enumerate(trainee.stock.examples) if e.is_reg]
    assert len(reg) == 2
    seen = []
    encode = trainee._conditions.encode
    trainee._conditions.encode = lambda captions: seen.extend(captions) or encode(captions)
    batch = ImageBatch((reg[0],))
    half = trainee.loss(batch, Draws(0, 0))
    config.prior_loss_weight = 1.0
    assert trainee.loss(batch, Draws(0, 0)).total.item() == pytest.approx(2 * half.total.item())
    assert half.count == 1.0
    trainee.loss(ImageBatch((next(i for i in range(4) if i not in reg),)), Draws(0, 0))
    assert [caption.startswith("zwx") for caption in seen] == [False, False, True]


def test_validation_is_the_same_every_time_and_apart_from_training(models, tmp_path):
    trainee, config = borrow(
        models, tmp_path, count=6, validation_split=0.3, crop="random", size=(96, 64), shuffle_caption=True, caption_dropout_rate=0.9
    )
    train = {trainee.stock.examples[i].path for batch in trainee.batches(0, 1) for i in batch.items}
    kept = {trainee.stock.examples[i].path for batch in trainee.validation_batches() for i in batch.items}
    assert len(kept) == 2 and not train & kept and len(train) == 4
    (first, second) = ([trainee.validation_loss(b).total.item() for b in trainee.validation_batches()] for _ in range(2))
    assert first == second


def test_flips_and_captions_differ_between_steps_but_not_between_repeats_of_a_step(models, tmp_path):
    trainee, _ = borrow(models, tmp_path, count=1, flip_aug=True, shuffle_caption=True, size=(64, 96), crop="random", max_bucket_reso=64)
    captions, latents = [], []
    encode, get = trainee._conditions.encode, trainee.stock.cache.get
    trainee._conditions.encode = lambda c: captions.append(c[0]) or encode(c)
    trainee.stock.cache.get = lambda *a, **k: latents.append(get(*a, **k)) or latents[-1]
    for step in [*range(12), 0]:
        trainee.loss(ImageBatch((0,)), Draws(3, step))
    assert len(set(captions)) == 2 and captions[0] == captions[-1]
    assert len({latent.mean.sum().item() for latent in latents}) > 2
    assert torch.equal(latents[0].mean, latents[-1].mean)


@pytest.mark.parametrize("crop", ["center", "random"])
def test_captions_of_many_steps_are_encoded_ahead_at_once(models, tmp_path, monkeypatch, crop):
    """Every caption of 32 steps is there before the first is trained, whatever is drawn before it, and no number differs for it."""
    options = {"shuffle_caption": True, "caption_tag_dropout_rate": 0.3, "flip_aug": True, "crop": crop, "epochs": 1}

    def losses(folder, ahead):
        trainee, config = borrow(models, folder, count=8, size=(96, 64), batch_size=1, gradient_accumulation_steps=2, **options)
        asked, entered, made, seen = [], [], [], []
        encode, encoding = trainee.model.encode_text, trainee.model.encoding
        monkeypatch.setattr(trainee.model, "encode_text", lambda captions, **how: asked.append(captions) or encode(captions, **how))
        monkeypatch.setattr(trainee.model, "encoding", lambda: entered.append(len(asked)) or encoding())
        if not ahead:
            monkeypatch.setattr(trainee, "foresee", lambda steps: None)
        session = start(trainee, config)
        with session.attached():
            while not session.done:
                made.append(session.train_step().loss)
                seen.append(len(asked))
        return made, asked, seen, entered

    plain, asked_for, grows, _ = losses(tmp_path / "plain", ahead=False)
    made, asked, seen, entered = losses(tmp_path / "ahead", ahead=True)
    assert made == plain and asked == asked_for and grows[0] < grows[-1]
    assert seen == [len(asked)] * 4 and entered == [0]


def test_encoded_captions_are_kept_only_while_the_text_encoder_stands_still(models, tmp_path):
    trainee, config = borrow(models, tmp_path)
    asked = []
    encode = trainee.model.encode_text
    trainee.model.encode_text = lambda captions, **k: asked.append(list(captions)) or encode(captions, **k)
    together = trainee._conditions.encode(["a", "b", "a"])
    assert asked == [["a", "b"]] and torch.equal(together.context[0], together.context[2])
    trainee._conditions.encode(["b"])
    assert len(asked) == 1
    config.train_text_encoder = True
    trainee._conditions.encode(["b"])
    assert len(asked) == 2


def test_kohya_prompt_options_and_names_in_samples(models, tmp_path):
    trainee, _ = borrow(models, tmp_path, sample_prompts=["a cat --w 128 --h 72 --d 9 --l 3.5 --s 4 --n ugly, blurry"], output_name="cats")
    (request,) = trainee.preview_requests()
    trainee.model.sample = lambda wanted: Image.new("RGB", (wanted.width, wanted.height))
    sample = trainee.preview(request)
    wanted = sample.request
    assert (wanted.prompt, wanted.negative_prompt, wanted.width, wanted.height) == ("a cat", "ugly, blurry", 128, 72)
    assert (wanted.seed, wanted.cfg, wanted.steps) == (9, 3.5, 4)
    with Image.open(sample.save(tmp_path / "x.y")) as picture:
        assert picture.info["parameters"].splitlines()[0] == "a cat <lora:cats:1>"
        assert picture.filename.endswith("x.y.png")


@pytest.mark.parametrize(
    ("family", "options", "told"),
    [
        ("sd1", {}, "Loads whole in AUTOMATIC1111, Forge, ComfyUI, diffusers."),
        ("sdxl", {"conv_rank": 2, "train_text_encoder": True}, "Loads whole in AUTOMATIC1111, Forge, ComfyUI, diffusers."),
        ("sd1", {"use_dora": True}, "diffusers: does not load it: it leaves DoRA's magnitudes out"),
        ("sd1", {"network_type": "loha"}, "diffusers: does not load it: it reads LoRA only"),
        (
            "sd1",
            {"block_ranks": {"mid_block": 1}},
            "diffusers: does not load it: it gives attention layers the alpha that most layers have",
        ),
    ],
)
def test_a_file_says_who_loads_it(models, tmp_path, family, options, told):
    """While the adapters are attached, as in a run."""
    trainee, config = borrow(models, tmp_path, family, **options)
    session = start(trainee, config)
    with session.attached():
        path = trainee.write(session.adapters, tmp_path / "a.safetensors", NOTES)
    with safe_open(str(path), "pt") as file:
        assert told in file.metadata()["hotlora_loads"]
    assert told in json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["notes"]


def test_read_takes_over_ranks_and_names_contradictions(models, tmp_path):
    trainee, config = borrow(models, tmp_path, conv_rank=3, conv_alpha=6, use_rslora=True, lora_alpha=4)
    session = start(trainee, config)
    path = trainee.write(session.adapters, tmp_path / "a.safetensors", NOTES)
    _, later = borrow(models, tmp_path, init_lora=str(path), use_rslora=True)
    assert (later.lora_rank, later.conv_rank) == (2, 3)
    assert later.lora_alpha == pytest.approx(4, rel=1e-3) and later.conv_alpha == pytest.approx(6, rel=1e-3)
    with pytest.raises(UserError, match="conv_rank 5: it has conv_rank 3"):
        borrow(models, tmp_path, init_lora=str(path), conv_rank=5)
