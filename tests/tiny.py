"""Stable Diffusion models with random weights, a few megabytes each, for tests: as diffusers folders and as single files.

A folder and a file made from the same seed hold the same numbers; the key names of the files (CompVis, SGM, open_clip)
are written out here once more, independent of the package's own tables.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

# By its path: this file also makes models for people who try the program from outside, without the package at hand.
TOKENIZER = Path(__file__).resolve().parents[1] / "extension/hotlora/hosts/standalone/checkpoints/configs/tokenizer"
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_sd1(seed: int = 0, in_channels: int = 4) -> dict[str, torch.nn.Module]:
    """Two levels of 32 and 64 channels, 8 heads; a text encoder of three layers, 32 wide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _build_unet((32, 64), in_channels=in_channels, attention_head_dim=8, cross_attention_dim=32)
        return {"unet": unet, "vae": _build_vae(0.18215), "text_encoder": _build_clip(32, layers=3, act="quick_gelu")}


def build_sd2(seed: int = 0) -> dict[str, torch.nn.Module]:
    """Two levels of 64 channels, heads 64 wide; the encoder's three layers are four in a file, the last one unused."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _build_unet((64, 64), attention_head_dim=(1, 1), cross_attention_dim=64, use_linear_projection=True)
        return {"unet": unet, "vae": _build_vae(0.18215), "text_encoder": _build_clip(64, layers=3, act="gelu")}


def build_sdxl(seed: int = 0) -> dict[str, torch.nn.Module]:
    """Three levels, the first without attention, one and two transformer blocks in the others; encoders 32 and 64 wide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _build_unet(
            (32, 64, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(1, 1, 1),
            cross_attention_dim=96,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=64 + 6 * 256,
        )
        encoders = {
            "text_encoder": _build_clip(32, layers=3, act="quick_gelu"),
            "text_encoder_2": _build_clip(64, layers=3, act="gelu", projection=True),
        }
        return {"unet": unet, "vae": _build_vae(0.13025), **encoders}


def tiny_sd1(folder: Path, *, seed: int = 0) -> Path:
    """A Stable Diffusion 1 folder as diffusers saves it."""
    return _save_folder(folder, build_sd1(seed), "epsilon")


def tiny_sd2(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """A Stable Diffusion 2 folder as diffusers saves it."""
    return _save_folder(folder, build_sd2(seed), prediction_type)


def tiny_sdxl(folder: Path, *, prediction_type: str = "epsilon", zero_terminal_snr: bool = False, seed: int = 0) -> Path:
    """An SDXL folder as diffusers saves it."""
    return _save_folder(folder, build_sdxl(seed), prediction_type, zero_terminal_snr)


def tiny_sd1_file(path: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """The same Stable Diffusion 1 as a CompVis file, without a configuration beside it."""
    parts = build_sd1(seed)
    tensors = compvis_tensors(parts) | transformers_tensors(parts["text_encoder"], "cond_stage_model.transformer.")
    return save_checkpoint(path, tensors, dtype)


def tiny_sd2_file(path: Path, *, prediction_type: str = "epsilon", seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """The same Stable Diffusion 2 as a CompVis file with an open_clip encoder; the metadata names the prediction type."""
    parts = build_sd2(seed)
    tensors = compvis_tensors(parts) | open_clip_tensors(parts["text_encoder"], "cond_stage_model.model.", unused_layers=1)
    spelled = "v" if prediction_type == "v_prediction" else prediction_type
    return save_checkpoint(path, tensors, dtype, {"modelspec.prediction_type": spelled})


def tiny_sdxl_file(path: Path, *, v_prediction: bool = False, zero_terminal_snr: bool = False, seed: int = 0, dtype=torch.float32) -> Path:
    """The same SDXL as an SGM file; it says v-prediction and zero terminal SNR as NoobAI's files do: by empty tensors."""
    parts = build_sdxl(seed)
    tensors = compvis_tensors(parts)
    tensors |= transformers_tensors(parts["text_encoder"], "conditioner.embedders.0.transformer.")
    tensors |= open_clip_tensors(parts["text_encoder_2"], "conditioner.embedders.1.model.", unused_layers=0)
    tensors |= {"v_pred": torch.tensor([])} if v_prediction else {}
    tensors |= {"ztsnr": torch.tensor([])} if zero_terminal_snr else {}
    return save_checkpoint(path, tensors, dtype)


def save_checkpoint(path: Path, tensors: dict, dtype: torch.dtype = torch.float32, metadata: dict | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ready = {key: (value.to(dtype) if value.is_floating_point() else value).detach().clone().contiguous() for key, value in tensors.items()}
    save_file(ready, str(path), metadata={"format": "pt"} | (metadata or {}))
    return path


def compvis_tensors(parts: dict) -> dict[str, torch.Tensor]:
    """U-Net, VAE and noise schedule under the keys of the original Stable Diffusion code."""
    tensors = {"alphas_cumprod": torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()}
    unet = parts["unet"].state_dict()
    for key, value in unet.items():
        tensors["model.diffusion_model." + compvis_unet_key(key, unet)] = value
    levels = len(parts["vae"].config.block_out_channels)
    for key, value in parts["vae"].state_dict().items():
        name = _compvis_vae_key(key, levels)
        is_projection = ".attn_1." in name and name.endswith("weight") and ".norm." not in name
        tensors["first_stage_model." + name] = value[:, :, None, None] if is_projection else value
    return tensors


def compvis_unet_key(key: str, all_keys) -> str:
    """A diffusers U-Net key of a model with two residual blocks per level -> the original one."""
    part = key.split(".")
    outside = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    if part[0] in outside:
        return f"{outside[part[0]]}.{part[1]}"
    if part[0] in ("time_embedding", "add_embedding"):
        stem = "time_embed" if part[0] == "time_embedding" else "label_emb.0"
        return f"{stem}.{0 if part[1] == 'linear_1' else 2}.{part[2]}"
    if part[0] == "mid_block":
        rest = ".".join(part[3:])
        return f"middle_block.{2 * int(part[2])}.{_compvis_resnet(rest)}" if part[1] == "resnets" else f"middle_block.1.{rest}"
    level, index, rest = int(part[1]), int(part[3]), ".".join(part[4:])
    if part[0] == "down_blocks":
        if part[2] == "downsamplers":
            return f"input_blocks.{3 + 3 * level}.0.op.{part[-1]}"
        block = f"input_blocks.{1 + 3 * level + index}"
    else:
        if part[2] == "upsamplers":
            has_attention = any(other.startswith(f"up_blocks.{level}.attentions") for other in all_keys)
            return f"output_blocks.{3 * level + 2}.{2 if has_attention else 1}.conv.{part[-1]}"
        block = f"output_blocks.{3 * level + index}"
    return f"{block}.0.{_compvis_resnet(rest)}" if part[2] == "resnets" else f"{block}.1.{rest}"


def transformers_tensors(encoder, prefix: str) -> dict[str, torch.Tensor]:
    """A CLIP encoder under transformers 4's keys, which have ``text_model.`` in front."""
    tensors = {prefix + "text_model." + key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
    tensors[prefix + "text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return tensors


def open_clip_tensors(encoder, prefix: str, unused_layers: int) -> dict[str, torch.Tensor]:
    """A CLIP encoder under open_clip's keys: query, key and value in one matrix, the projection transposed."""
    state = {key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
    tensors = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    width = state["final_layer_norm.weight"].shape[0]
    tensors["text_projection"] = state["text_projection.weight"].T if "text_projection.weight" in state else torch.eye(width)
    layers = encoder.config.num_hidden_layers
    for index in range(layers + unused_layers):
        source, target = f"encoder.layers.{min(index, layers - 1)}.", f"transformer.resblocks.{index}."
        for kind in ("weight", "bias"):
            joined = torch.cat([state[f"{source}self_attn.{letter}_proj.{kind}"] for letter in "qkv"])
            tensors[f"{target}attn.in_proj_{kind}"] = joined
            for ours, theirs in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")):
                tensors[f"{target}{theirs}.{kind}"] = state[f"{source}{ours}.{kind}"]
            for ours, theirs in (("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                tensors[f"{target}{theirs}.{kind}"] = state[f"{source}{ours}.{kind}"]
    return {prefix + key: value for key, value in tensors.items()}


def _compvis_resnet(rest: str) -> str:
    pairs = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    name, kind = rest.rsplit(".", 1)
    return f"{pairs[name]}.{kind}"


def _compvis_vae_key(key: str, levels: int) -> str:
    part = key.split(".")
    if part[1] == "mid_block":
        rest = ".".join(part[4:])
        if part[2] == "resnets":
            return f"{part[0]}.mid.block_{int(part[3]) + 1}.{rest}".replace("conv_shortcut", "nin_shortcut")
        for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            rest = rest.replace(ours, theirs)
        return f"{part[0]}.mid.attn_1.{rest}"
    if part[1] in ("down_blocks", "up_blocks"):
        is_down = part[1] == "down_blocks"
        stem = f"{part[0]}.{'down' if is_down else 'up'}.{int(part[2]) if is_down else levels - 1 - int(part[2])}"
        if part[3] == "resnets":
            return f"{stem}.block.{part[4]}.{'.'.join(part[5:])}".replace("conv_shortcut", "nin_shortcut")
        return f"{stem}.{'downsample' if is_down else 'upsample'}.conv.{part[-1]}"
    return key.replace("conv_norm_out", "norm_out")


def _build_unet(channels: tuple[int, ...], **settings):
    from diffusers import UNet2DConditionModel

    levels = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(sample_size=8, block_out_channels=channels, layers_per_block=2, **(levels | settings)).eval()


def _build_vae(scaling_factor: float):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=scaling_factor,
    ).eval()


def _build_clip(width: int, *, layers: int, act: str, projection: bool = False):
    """An encoder whose numbers are large enough that a caption makes a difference: transformers starts with small ones."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        projection_dim=width,
        hidden_act=act,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    encoder = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1.0 if "embedding" in name else 2 * parameter.shape[1] ** -0.5)
    return encoder


def _save_folder(folder: Path, parts: dict, prediction_type: str, zero_terminal_snr: bool = False) -> Path:
    import diffusers
    from transformers import CLIPTokenizer

    noise = {"prediction_type": prediction_type, "rescale_betas_zero_snr": zero_terminal_snr}
    if zero_terminal_snr:
        noise["timestep_spacing"] = "trailing"
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **_BETAS, **noise)
    names = [name.replace("text_encoder", "tokenizer") for name in parts if "text" in name]
    tokenizers = {name: CLIPTokenizer.from_pretrained(str(TOKENIZER)) for name in names}
    if "tokenizer_2" in tokenizers:
        pipeline = diffusers.StableDiffusionXLPipeline(scheduler=scheduler, **parts, **tokenizers, add_watermarker=False)
    else:
        nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = diffusers.StableDiffusionPipeline(scheduler=scheduler, **parts, **tokenizers, **nothing)
    pipeline.save_pretrained(str(folder))
    for name in tokenizers:
        pad = "<|endoftext|>" if name == "tokenizer" and parts["text_encoder"].config.hidden_act == "quick_gelu" else "!"
        _write_tokenizer(folder / name, pad)
    return folder


def _write_tokenizer(folder: Path, pad: str) -> None:
    """The plain files that every version of transformers reads, and nothing else."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(TOKENIZER / name, folder / name)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        text = (TOKENIZER / name).read_text(encoding="utf-8")
        text = text.replace('"pad_token": "<|endoftext|>"', f'"pad_token": "{pad}"')
        (folder / name).write_text(text, encoding="utf-8")
