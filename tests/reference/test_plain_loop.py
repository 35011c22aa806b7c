"""One training step equals a plain loop over diffusers, transformers and peft classes, written out here once more."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from hotlora.engine.interfaces import Draws
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from peft import LoraConfig, inject_adapter_in_model
from pictures import make_pictures
from PIL import Image
from tiny import tiny_sd1, tiny_sd2, tiny_sdxl
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TARGETS = r".*(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out)"
CASES = {
    "sd1": (tiny_sd1, {}, {}),
    "sd2-v": (tiny_sd2, {"prediction_type": "v_prediction"}, {}),
    "sdxl": (tiny_sdxl, {}, {}),
    "sdxl-v-ztsnr": (tiny_sdxl, {"prediction_type": "v_prediction", "zero_terminal_snr": True}, {}),
    "sd1-min-snr-debiased-offset": (tiny_sd1, {}, {"min_snr_gamma": 5, "noise_offset": 0.05, "clip_skip": 2}),
    "sd2-v-min-snr": (tiny_sd2, {"prediction_type": "v_prediction"}, {"min_snr_gamma": 5}),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_of_a_step_equal_the_plain_loops(tmp_path, case):
    make, model_options, options = CASES[case]
    folder = make(tmp_path / "model", **model_options)
    data = make_pictures(tmp_path / "data", 4, (96, 64))
    config = build(
        ImageConfig,
        {
            "base_model": str(folder),
            "train_data_dir": str(data),
            "output_dir": str(tmp_path / "run"),
            "resolution": 64,
            "min_bucket_reso": 64,
            "bucket_reso_steps": 8,
            "batch_size": 4,
            "lora_rank": 4,
            "lora_alpha": 2,
            "max_grad_norm": 0,
            **options,
        },
    )
    trainee = DiffusersHost().borrow(config)
    for _ in trainee.prepare():
        pass
    session = Session(trainee, config, Run.start(config))
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    (batch,) = trainee.batches(0, config.seed)
    with session.attached():
        loss, norm, _ = session.gradients.of_step([batch], 0)
    gradients = {
        name: [p.grad for p in (layer.lora_A["default"].weight, layer.lora_B["default"].weight)]
        for name, layer in session.adapters.layers.items()
    }

    paths = [trainee.stock.examples[i].path for i in batch.items]
    bucket = trainee.stock.fits[batch.items[0]].bucket
    expected, reference = plain_step(folder, case, config, paths, bucket, session.adapters.tensors())
    assert loss == pytest.approx(expected, rel=1e-4)
    assert len(reference) == len(gradients)
    for ours, theirs in zip(gradients.values(), reference.values(), strict=True):
        for mine, their in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, their, rtol=2e-3, atol=1e-6), (mine - their).abs().max()
    assert norm > 0


def plain_step(folder, case, config, paths, bucket, weights):
    """Loss, and gradients by layer in the model's order, of the usual training script."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=2, target_modules=TARGETS), unet, "default")
    layers = {name: module for name, module in unet.named_modules() if hasattr(module, "lora_A")}
    with torch.no_grad():
        for (_, layer), tensors in zip(layers.items(), weights.values(), strict=True):
            layer.lora_A["default"].weight.copy_(tensors["lora_A"])
            layer.lora_B["default"].weight.copy_(tensors["lora_B"])

    captions = [path.with_suffix(".txt").read_text() for path in paths]
    with torch.no_grad():
        context, added = encode(folder, captions, config.clip_skip)
        pixels = torch.stack([load_pixels(path, bucket) for path in paths])
        moments = vae.encode(pixels).latent_dist
    latents, noise, steps = [], [], []
    for i in range(len(paths)):
        generator = Draws(config.seed, 0).generator(i)
        shape = moments.mean[i].shape
        latents.append((moments.mean[i] + moments.std[i] * torch.randn(shape, generator=generator)) * vae.config.scaling_factor)
        drawn = torch.randn(shape, generator=generator)
        if config.noise_offset:
            drawn = drawn + config.noise_offset * torch.randn(4, 1, 1, generator=generator)
        noise.append(drawn)
        steps.append(torch.randint(0, 1000, (), generator=generator))
    latents, noise, steps = torch.stack(latents), torch.stack(noise), torch.stack(steps)
    noisy = schedule.add_noise(latents, noise, steps)
    is_v = schedule.config.prediction_type == "v_prediction"
    wanted = schedule.get_velocity(latents, noise, steps) if is_v else noise
    if added is not None:
        width, height = 96, 64
        scale = max(bucket[0] / width, bucket[1] / height)
        top, left = (int(height * scale + 0.5) - bucket[1]) // 2, (int(width * scale + 0.5) - bucket[0]) // 2
        ids = torch.tensor([[height, width, top, left, bucket[1], bucket[0]]] * len(paths), dtype=torch.float32)
        added = {"text_embeds": added, "time_ids": ids}
    answer = unet(noisy, steps, context, added_cond_kwargs=added).sample
    losses = (answer - wanted).square().mean((1, 2, 3))
    if config.min_snr_gamma:
        abar = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod[steps]
        snr = abar / (1 - abar)
        losses = losses * torch.minimum(snr, torch.tensor(float(config.min_snr_gamma))) / (snr + 1 if is_v else snr)
    loss = losses.mean()
    loss.backward()
    return loss.item(), {name: [layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad] for name, layer in layers.items()}


def load_pixels(path, bucket):
    picture = Image.open(path).convert("RGB")
    scale = max(bucket[0] / picture.width, bucket[1] / picture.height)
    size = (int(picture.width * scale + 0.5), int(picture.height * scale + 0.5))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS if scale > 1 else Image.Resampling.BOX)
    left, top = (size[0] - bucket[0]) // 2, (size[1] - bucket[1]) // 2
    picture = picture.crop((left, top, left + bucket[0], top + bucket[1]))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def encode(folder, captions, clip_skip):
    """(context, pooled or None), as the diffusers pipelines do it."""

    def run(number, kind):
        suffix = "" if number == 1 else f"_{number}"
        tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
        encoder = kind.from_pretrained(folder / f"text_encoder{suffix}").eval()
        ids = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return encoder, encoder(ids, output_hidden_states=True)

    if (folder / "text_encoder_2").exists():
        first, second = run(1, CLIPTextModel)[1], run(2, CLIPTextModelWithProjection)[1]
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds
    encoder, out = run(1, CLIPTextModel)
    if clip_skip:
        inner = getattr(encoder, "text_model", encoder)
        return inner.final_layer_norm(out.hidden_states[-clip_skip]), None
    return out.last_hidden_state, None
