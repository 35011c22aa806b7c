"""A model in the original classes, with tiny's numbers, and around it what AUTOMATIC1111 puts there.

The classes are those of PyPI's stable-diffusion-sdkit (`requirements/original-classes.txt`); the wrappers that the WebUI's
``modules/sd_hijack*.py`` leave on a model are written out here with no more than is called.
"""

import copy
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
import tiny
import torch
from torch import nn
from transformers import CLIPTokenizerFast

pytest.importorskip("ldm", reason="the original classes are not installed (pip install --no-deps -r requirements/original-classes.txt)")
from ldm.modules.diffusionmodules.model import Encoder
from ldm.modules.diffusionmodules.openaimodel import UNetModel

UNETS = {  # the original options of tiny's models
    "sd1": {"model_channels": 32, "channel_mult": (1, 2), "num_heads": 8, "context_dim": 32},
    "sd2": {"model_channels": 64, "channel_mult": (1, 1), "num_head_channels": 64, "context_dim": 64, "use_linear_in_transformer": True},
}


class Wrapper(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.diffusion_model, self.conditioning_key = unet, "crossattn"


class Vae(nn.Module):
    """``ldm.models.autoencoder.AutoencoderKL`` without pytorch-lightning, as far as encoding goes."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(
            ch=32, out_ch=3, ch_mult=(1, 1, 1, 1), num_res_blocks=1, attn_resolutions=[], in_channels=3, resolution=64, z_channels=4
        )
        self.quant_conv = nn.Conv2d(8, 8, 1)

    def encode(self, pixels):
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()  # SGM's gives a draw, not its moments


class Text(nn.Module):
    """What the WebUI's FrozenCLIPEmbedderWithCustomWords offers below its own prompt language."""

    id_start, id_end, id_pad = 49406, 49407, 49407

    def __init__(self, encoder):
        super().__init__()
        self.wrapped = nn.Module()
        self.wrapped.transformer = encoder
        # the WebUI's slow tokenizer gives the same ids, because ftfy is installed there
        self.tokenizer = CLIPTokenizerFast.from_pretrained(str(tiny.TOKENIZER))

    def tokenize(self, texts):
        return self.tokenizer(texts, truncation=False, add_special_tokens=False)["input_ids"]


class Loaded:
    """``ldm``'s LatentDiffusion as the WebUI prepared it."""

    is_sdxl, is_sd2, lowvram, scale_factor, parameterization = False, False, False, 0.18215, "eps"

    def __init__(self, parts, path):
        self.model, self.first_stage_model = Wrapper(make_unet("sd1", parts["unet"])), make_vae(parts)
        self.cond_stage_model = Text(copy.deepcopy(parts["text_encoder"]).requires_grad_(False))
        self.sd_checkpoint_info = SimpleNamespace(filename=str(path), name=path.name, sha256=None, ids=[path.name])
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod_original = torch.cumprod(1 - betas, 0).float()
        self.alphas_cumprod = self.alphas_cumprod_original.half()  # as some settings leave it after a picture

    def apply_model(self, noisy, timesteps, told):
        return self.model.diffusion_model(noisy, timesteps, context=told)


def make_unet(family, twin):
    """The original class with the numbers of a diffusers U-Net."""
    lists = SimpleNamespace(ListConfig=list)  # omegaconf's class, of which the constructor wants the name
    with mock.patch.dict(sys.modules, {"omegaconf": SimpleNamespace(listconfig=lists), "omegaconf.listconfig": lists}):
        unet = UNetModel(
            image_size=8,
            in_channels=4,
            out_channels=4,
            num_res_blocks=2,
            attention_resolutions=(1,),
            use_spatial_transformer=True,
            legacy=False,
            **UNETS[family],
        )
    state = twin.state_dict()
    unet.load_state_dict({tiny.compvis_unet_key(key, state): value for key, value in state.items()})
    return unet.eval()


def make_vae(parts):
    vae = Vae()
    tensors = {key.removeprefix("first_stage_model."): value for key, value in tiny.compvis_tensors(parts).items()}
    vae.load_state_dict({key: tensors[key] for key in vae.state_dict()})
    return vae.eval().requires_grad_(False)
