"""From the shapes in a single-file checkpoint to the configurations of the classes that hold it.

The published configurations of Stable Diffusion 1.5, 2.1 and XL (``configs/``) are the start; widths, depths and counts
are the file's own, so that pruned and tiny models load as well. Must not import diffusers or transformers.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....engine.errors import UserError
from .original_config import OriginalConfig

Shapes = Mapping[str, tuple[int, ...]]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {"text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
}
PAD_TOKENS: dict[str, dict[str, str | None]] = {  # what single files' text encoders were trained with; None: as their tokenizers pad
    "sd1": {"text_encoder": None},
    "sd2": {"text_encoder": "!"},
    "sdxl": {"text_encoder": None, "text_encoder_2": "!"},
}
CONFIGS = Path(__file__).parent / "configs"
_HEAD_WIDTH = 64  # of every CLIP, and of the U-Net from SD 2 on


def list_text_encoders(family: str) -> tuple[str, ...]:
    """Component names of the family's text encoders, in order."""
    return tuple(TEXT[family])


def read_published(family: str, component: str) -> dict[str, Any]:
    """The component's published configuration; a fresh copy."""
    return json.loads((CONFIGS / family / f"{component}.json").read_text(encoding="utf-8"))


def derive_configs(shapes: Shapes, family: str, original: OriginalConfig) -> dict[str, dict[str, Any]]:
    """Component name -> configuration of its class. There is no "vae" when the file has none.

    Raises:
        UserError: when the layout is none that this family's classes can have.
    """
    configs = {"unet": _derive_unet(_below(shapes, UNET), family, original)}
    vae_shapes = _below(shapes, VAE)
    if "encoder.conv_in.weight" in vae_shapes:
        configs["vae"] = derive_vae(vae_shapes, family)
        configs["vae"]["scaling_factor"] = original.scaling_factor or configs["vae"]["scaling_factor"]
    for component, prefix in TEXT[family].items():
        configs[component] = _derive_text(_below(shapes, prefix), read_published(family, component))
    if family == "sd1":
        configs["text_encoder"].update(original.text_config)
    configs["scheduler"] = read_published(family, "scheduler")
    if original.betas:
        configs["scheduler"].update(beta_start=original.betas[0], beta_end=original.betas[1])
    return configs


def derive_vae(shapes: Shapes, family: str) -> dict[str, Any]:
    """The VAE's configuration; ``shapes`` by the original names without prefix.

    Raises:
        UserError: when it does not shrink pictures eightfold into four channels.
    """
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    latent_channels = shapes["decoder.conv_in.weight"][1]
    if levels != 4 or latent_channels != 4:
        raise UserError(
            f"cannot use this VAE: it makes {latent_channels} channels of 1/{2 ** (levels - 1)} size, and {family} has 4 of 1/8. "
            "Use a VAE of the same family."
        )
    return read_published(family, "vae") | {
        "block_out_channels": [shapes[f"encoder.down.{level}.block.0.conv2.weight"][0] for level in range(levels)],
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
    }


def _derive_unet(shapes: Shapes, family: str, original: OriginalConfig) -> dict[str, Any]:
    levels = _read_levels(shapes)
    resnets = {len(depths) for _, depths in levels}
    middle = _count(shapes, r"middle_block\.1\.transformer_blocks\.(\d+)\.")
    if not middle or len(resnets) > 1 or any(len(set(depths)) > 1 for _, depths in levels) or levels[-1][1][0] not in (0, middle):
        raise UserError(
            "cannot train this checkpoint: blocks were removed from its U-Net, as in SSD-1B and other distilled models. "
            "Use the model it was made from."
        )
    depths = [depths[0] for _, depths in levels]
    widths = [width for width, _ in levels]
    config = read_published(family, "unet") | {
        "block_out_channels": widths,
        "layers_per_block": resnets.pop(),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), middle],
        "cross_attention_dim": shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes["middle_block.1.proj_in.weight"]) == 2,
        "attention_head_dim": _count_heads(widths, family, original),
    }
    if family == "sdxl":
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def _read_levels(shapes: Shapes) -> list[tuple[int, list[int]]]:
    """Width of each resolution level, and the number of transformer blocks behind each of its residual blocks."""
    levels: list[tuple[int, list[int]]] = []
    start_level = True
    for number in range(1, _count(shapes, r"input_blocks\.(\d+)\.")):
        block = f"input_blocks.{number}"
        if f"{block}.0.op.weight" in shapes:
            start_level = True
            continue
        width = shapes[f"{block}.0.out_layers.3.weight"][0]
        if start_level:
            levels.append((width, []))
            start_level = False
        levels[-1][1].append(_count(shapes, re.escape(block) + r"\.1\.transformer_blocks\.(\d+)\."))
    return levels


def _count_heads(widths: list[int], family: str, original: OriginalConfig) -> int | list[int]:
    """diffusers calls the number of heads ``attention_head_dim`` in these families."""
    if original.num_heads:
        return original.num_heads
    if family == "sd1" and not original.num_head_channels:
        return 8
    return [max(1, width // (original.num_head_channels or _HEAD_WIDTH)) for width in widths]


def _derive_text(shapes: Shapes, published: dict[str, Any]) -> dict[str, Any]:
    """Of a CLIP under transformers' or open_clip's names."""
    if "positional_embedding" in shapes:
        layers = _count(shapes, r"transformer\.resblocks\.(\d+)\.")
        vocabulary, width = shapes["token_embedding.weight"]
        sizes = {"intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0]}
        if published["num_hidden_layers"] == 23 and layers != 23:
            layers -= 1  # SD 2 takes the output before the last layer; diffusers leaves that layer out
        if published["projection_dim"] == published["hidden_size"]:
            sizes["projection_dim"] = shapes["text_projection"][1]
    else:
        names = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
        layers = _count(names, r"encoder\.layers\.(\d+)\.")
        vocabulary, width = names["embeddings.token_embedding.weight"]
        sizes = {"intermediate_size": names["encoder.layers.0.mlp.fc1.weight"][0], "projection_dim": width}
    heads = max(1, width // _HEAD_WIDTH)
    return published | sizes | {"vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number that the pattern finds in a name."""
    found = (re.match(pattern, name) for name in shapes)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
