"""Where a file keeps what the classes of diffusers and transformers call by other names.

One function per component, from the class's parameter name to the file's; open_clip's joined matrices are cut apart.
Names only: widths and depths come with the configuration. Must not import diffusers or transformers.
"""

from collections.abc import Mapping
from typing import Any

import torch

from ...shared.tensor_file import TensorFile
from .architecture import TEXT, UNET, VAE
from .checkpoint import Find

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# VAE attention as diffusers called it until 0.17; many published folders still do.
_OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def find_in_original(family: str, component: str, config: Mapping[str, Any]) -> Find:
    """How to get a component's tensors by its class's names out of a single file."""
    if component == "unet":
        return lambda file, name: file.get(UNET + name_unet_tensor(name, config))
    if component == "vae":
        return find_vae_in_original(VAE, config)
    prefix = TEXT[family][component]
    if prefix.endswith(".model."):
        return lambda file, name: _find_open_clip(file, prefix, name.removeprefix("text_model."))
    return lambda file, name: find_clip(file, name, prefix)


def find_vae_in_original(prefix: str, config: Mapping[str, Any]) -> Find:
    """Likewise for a VAE behind that prefix."""
    return lambda file, name: file.get(prefix + name_vae_tensor(name, len(config["block_out_channels"])))


def find_as_named(file: TensorFile, name: str) -> torch.Tensor:
    """A tensor of a file that has the class's own names."""
    return file.get(name)


def find_in_vae_folder(file: TensorFile, name: str) -> torch.Tensor:
    """A tensor of a VAE that diffusers saved, in any of its versions."""
    if name in file.shapes:
        return file.get(name)
    for new, old in _OLD_VAE_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return file.get(name)


def find_clip(file: TensorFile, name: str, prefix: str = "") -> torch.Tensor:
    """A tensor of a CLIP by transformers' names, which have ``text_model.`` in front in some versions and files."""
    bare = name.removeprefix("text_model.")
    return file.get(prefix + (bare if prefix + bare in file.shapes else "text_model." + bare))


def name_unet_tensor(name: str, config: Mapping[str, Any]) -> str:
    """diffusers' name -> CompVis', without prefix."""
    stem, kind = name.rsplit(".", 1)
    if stem in _UNET_ENDS:
        return f"{_UNET_ENDS[stem]}.{kind}"
    part = stem.split(".")
    if part[0] == "mid_block":
        inner = ".".join(part[3:])
        return f"middle_block.1.{inner}.{kind}" if part[1] == "attentions" else f"middle_block.{2 * int(part[2])}.{_RESNET[inner]}.{kind}"
    level, group, index, inner = int(part[1]), part[2], int(part[3]), ".".join(part[4:])
    per_level = config["layers_per_block"] + 1
    if group == "downsamplers":
        return f"input_blocks.{per_level * (level + 1)}.0.op.{kind}"
    if group == "upsamplers":
        slot = 2 if config["up_block_types"][level].startswith("CrossAttn") else 1
        return f"output_blocks.{per_level * level + per_level - 1}.{slot}.conv.{kind}"
    block = f"input_blocks.{1 + per_level * level + index}" if part[0] == "down_blocks" else f"output_blocks.{per_level * level + index}"
    return f"{block}.1.{inner}.{kind}" if group == "attentions" else f"{block}.0.{_RESNET[inner]}.{kind}"


def name_vae_tensor(name: str, levels: int) -> str:
    """diffusers' name -> CompVis', without prefix."""
    stem, kind = name.rsplit(".", 1)
    part = stem.split(".")
    if len(part) < 3:
        return name.replace("conv_norm_out", "norm_out")
    side, block, inner = part[0], part[1], ".".join(part[4:]).replace("conv_shortcut", "nin_shortcut")
    if block == "mid_block":
        if part[2] == "attentions":
            return f"{side}.mid.attn_1.{_VAE_ATTENTION[inner]}.{kind}"
        return f"{side}.mid.block_{int(part[3]) + 1}.{inner}.{kind}"
    is_down = block == "down_blocks"
    level = f"{side}.down.{part[2]}" if is_down else f"{side}.up.{levels - 1 - int(part[2])}"
    if part[3] == "resnets":
        return f"{level}.block.{part[4]}.{'.'.join(part[5:]).replace('conv_shortcut', 'nin_shortcut')}.{kind}"
    return f"{level}.{'downsample' if is_down else 'upsample'}.conv.{kind}"


def _find_open_clip(file: TensorFile, prefix: str, name: str) -> torch.Tensor:
    """open_clip keeps query, key and value in one matrix, and multiplies by its projection from the right."""
    if name == "text_projection.weight":
        return file.get(prefix + "text_projection").T.contiguous()
    if name in _OPEN_CLIP:
        return file.get(prefix + _OPEN_CLIP[name])
    part = name.split(".")  # encoder.layers.<number>.<inner>.<kind>
    layer, inner, kind = f"{prefix}transformer.resblocks.{part[2]}.", ".".join(part[3:-1]), part[-1]
    if inner in _OPEN_CLIP_LAYER:
        return file.get(f"{layer}{_OPEN_CLIP_LAYER[inner]}.{kind}")
    joined = file.get(f"{layer}attn.in_proj_{kind}")
    return joined.chunk(3)["qkv".index(inner.removeprefix("self_attn.")[0])].clone()
