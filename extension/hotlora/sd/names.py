"""What the layers of a Stable Diffusion are called in a LoRA file.

Owns the kohya names (kohya-ss/sd-scripts ``networks/lora.py``): U-Net layers go by their diffusers path in SD 1.x and 2.x,
by their CompVis path in SDXL, whichever classes hold the model; text encoder layers by their transformers path. Works
for every depth and width, so for tiny models too. Must not import diffusers or transformers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from ..engine.linear import is_linear

_DIFFUSERS = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_COMPVIS = re.compile(r"(?:(input|output)_blocks\.(\d+)|middle_block)\.(\d+)\.(.+)")
_RESNET_PARTS = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_RESNET_PARTS_BACK = {compvis: diffusers for diffusers, compvis in _RESNET_PARTS.items()}
_OUTER_LAYERS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_TEXT_LAYER = re.compile(r"(?:text_model\.)?(encoder\.layers\.\d+\.(?:self_attn|mlp)\.\w+)")
_UNET_BLOCK = re.compile(r"lora_unet_((?:down_blocks|up_blocks|input_blocks|output_blocks)_\d+|mid_block|middle_block)_")


class _Place(NamedTuple):
    """Where a layer stands, in diffusers' terms."""

    side: str  # "down", "mid" or "up"
    level: int  # resolution level, counted in the order of computation on each side
    kind: str  # "resnets", "attentions", "downsamplers" or "upsamplers"
    number: int  # among its kind on that level
    inner: str  # path below that module, as diffusers has it


class _Layout(NamedTuple):
    """How many residual blocks each level has. CompVis numbers blocks through all levels, so spelling needs this."""

    down: tuple[int, ...]
    up: tuple[int, ...]
    up_attention: tuple[bool, ...]

    def down_start(self, level: int) -> int:
        """CompVis number of the level's first input block: 0 is ``conv_in``, and each downsampler is a block."""
        return 1 + sum(count + 1 for count in self.down[:level])


def name_unet_paths(paths: Iterable[str], family: str) -> dict[str, str]:
    """Module paths of a U-Net -> exported names; what stands outside its blocks has none.

    Args:
        paths: all module paths, of diffusers classes (``down_blocks.0.…``) or CompVis ones (``input_blocks.1.…``).
        family: "sd1", "sd2" or "sdxl".
    """
    paths = list(paths)
    if any(path.startswith("input_blocks.") for path in paths):
        layout = _compvis_layout(paths)
        places = {path: _parse_compvis(path, layout) for path in paths}
    else:
        layout = _diffusers_layout(paths)
        places = {path: _parse_diffusers(path) for path in paths}
    named = {}
    for path, place in places.items():
        if place:
            spelled = _spell_compvis(place, layout) if family == "sdxl" else _spell_diffusers(place)
            named[path] = "lora_unet_" + spelled.replace(".", "_")
    return named


def name_unet_layers(unet: nn.Module, family: str) -> dict[str, nn.Module]:
    """Exported name -> layer, for every Linear and Conv2d that a LoRA may go on: those inside transformer and residual
    blocks, downsamplers and upsamplers."""
    modules = dict(unet.named_modules())
    names = name_unet_paths(modules, family)
    return {name: modules[path] for path, name in names.items() if is_plain_layer(modules[path])}


def name_outer_layers(unet: nn.Module, family: str) -> dict[str, tuple[nn.Module, tuple[str, str]]]:
    """Exported name -> (layer, its paths in both spellings with underscores) of what stands outside the blocks: LyCORIS trains
    some of these, this program goes on with them where a file has them, and never begins them."""
    modules = {path: module for path, module in unet.named_modules() if is_plain_layer(module)}
    named = name_outer_paths(modules, family)
    return {name: (modules[path], spellings) for name, (path, spellings) in named.items()}


def name_outer_paths(paths: Iterable[str], family: str) -> dict[str, tuple[str, tuple[str, str]]]:
    """Exported name -> (the layer's path, its paths in both spellings with underscores), likewise."""
    known = set(paths)
    named = {}
    for diffusers, compvis in _OUTER_LAYERS.items():
        path = next((path for path in (diffusers, compvis) if path in known), None)
        if path is not None:
            spellings = (diffusers.replace(".", "_"), compvis.replace(".", "_"))
            named[f"lora_unet_{spellings[family == 'sdxl']}"] = (path, spellings)
    return named


def name_text_layers(encoders: Sequence[nn.Module], family: str) -> dict[str, nn.Module]:
    """Exported name -> layer, for every Linear in the attention and feed-forward parts of the text encoders.

    Args:
        encoders: transformers' CLIP classes, SDXL's two in order. Versions differ in whether paths start with
            ``text_model.``; the name always has it.
    """
    named: dict[str, nn.Module] = {}
    for prefix, encoder in zip(text_prefixes(family), encoders, strict=False):
        for path, module in encoder.named_modules():
            found = _TEXT_LAYER.fullmatch(path)
            if found and is_linear(module):
                named[f"{prefix}_text_model_{found[1].replace('.', '_')}"] = module
    return named


def text_prefixes(family: str) -> tuple[str, ...]:
    """What the exported names of text encoder layers begin with, by encoder."""
    return ("lora_te1", "lora_te2") if family == "sdxl" else ("lora_te",)


def is_plain_layer(layer: nn.Module) -> bool:
    """Whether a LoRA may go on it: a linear layer, of whatever class, or a convolution."""
    return isinstance(layer, nn.Conv2d) or is_linear(layer)


def is_spatial(layer: nn.Module) -> bool:
    """Whether it is a convolution wider than 1x1, which has a rank of its own in kohya's files."""
    return isinstance(layer, nn.Conv2d) and tuple(layer.kernel_size) != (1, 1)


def is_transformer_layer(name: str) -> bool:
    """Whether an exported U-Net name is one of a transformer block's, with its projections: what a plain LoRA trains."""
    return "_transformer_blocks_" in name or name.endswith(("_proj_in", "_proj_out"))


def block_of(name: str) -> str | None:
    """``down_blocks_0``, ``mid_block``, ``up_blocks_2``; for SDXL ``input_blocks_4``, ``middle_block``,
    ``output_blocks_3``; None for the text encoders."""
    found = _UNET_BLOCK.match(name)
    return found[1] if found else None


def list_blocks(unet_layers: Mapping[str, nn.Module]) -> list[str]:
    """The blocks that these exported names lie in, in order."""
    return list(dict.fromkeys(block for block in map(block_of, unet_layers) if block))


def _parse_diffusers(path: str) -> _Place | None:
    found = _DIFFUSERS.fullmatch(path)
    if not found:
        return None
    side, level, kind, index, inner = found.groups()
    if kind == "resnets" and inner not in _RESNET_PARTS:
        return None
    return _Place(side or "mid", int(level or 0), kind, int(index), inner)


def _spell_diffusers(place: _Place) -> str:
    block = "mid_block" if place.side == "mid" else f"{place.side}_blocks.{place.level}"
    return f"{block}.{place.kind}.{place.number}.{place.inner}"


def _parse_compvis(path: str, layout: _Layout) -> _Place | None:
    found = _COMPVIS.fullmatch(path)
    if not found:
        return None
    side, number, slot, inner = found.groups()
    slot = int(slot)
    if side is None:
        return _in_block(inner, is_attention=slot == 1, at=("mid", 0, slot // 2))
    level, index = _find_level(int(number), side, layout)
    if level is None:
        return None
    if inner == "op":
        return _Place("down", level, "downsamplers", 0, "conv")
    if slot and inner == "conv":
        return _Place("up", level, "upsamplers", 0, "conv")
    return _in_block(inner, is_attention=slot == 1, at=("down" if side == "input" else "up", level, index))


def _in_block(inner: str, is_attention: bool, at: tuple[str, int, int]) -> _Place | None:
    side, level, index = at
    if is_attention:
        return _Place(side, level, "attentions", 0 if side == "mid" else index, inner)
    if inner not in _RESNET_PARTS_BACK:
        return None
    return _Place(side, level, "resnets", index, _RESNET_PARTS_BACK[inner])


def _find_level(number: int, side: str, layout: _Layout) -> tuple[int | None, int]:
    """Level and place within it of a CompVis block; no level for ``conv_in``."""
    if side == "input":
        starts = [layout.down_start(level) for level in range(len(layout.down))]
    else:
        starts = [sum(layout.up[:level]) for level in range(len(layout.up))]
    levels = [level for level, start in enumerate(starts) if start <= number]
    return (levels[-1], number - starts[levels[-1]]) if levels else (None, 0)


def _spell_compvis(place: _Place, layout: _Layout) -> str:
    inner = _RESNET_PARTS[place.inner] if place.kind == "resnets" else place.inner
    if place.side == "mid":
        return f"middle_block.{1 if place.kind == 'attentions' else 2 * place.number}.{inner}"
    if place.kind == "downsamplers":
        return f"input_blocks.{layout.down_start(place.level + 1) - 1}.0.op"
    if place.kind == "upsamplers":
        return f"output_blocks.{sum(layout.up[: place.level + 1]) - 1}.{2 if layout.up_attention[place.level] else 1}.conv"
    slot = 1 if place.kind == "attentions" else 0
    if place.side == "down":
        return f"input_blocks.{layout.down_start(place.level) + place.number}.{slot}.{inner}"
    return f"output_blocks.{sum(layout.up[: place.level]) + place.number}.{slot}.{inner}"


def _diffusers_layout(paths: Sequence[str]) -> _Layout:
    places = [place for place in map(_parse_diffusers, paths) if place]
    counts: dict[str, list[int]] = {"down": [], "up": []}
    for side, found in counts.items():
        levels = 1 + max((place.level for place in places if place.side == side), default=-1)
        resnets = {(p.level, p.number) for p in places if p.side == side and p.kind == "resnets"}
        found.extend(sum(level == wanted for level, _ in resnets) for wanted in range(levels))
    attentive = {place.level for place in places if place.side == "up" and place.kind == "attentions"}
    return _Layout(tuple(counts["down"]), tuple(counts["up"]), tuple(level in attentive for level in range(len(counts["up"]))))


def _compvis_layout(paths: Sequence[str]) -> _Layout:
    known = set(paths)
    down, up, up_attention = [0], [0], [False]
    for number in range(1, _count_blocks(paths, "input_blocks")):
        if f"input_blocks.{number}.0.op" in known:
            down.append(0)
        else:
            down[-1] += 1
    total = _count_blocks(paths, "output_blocks")
    for number in range(total):
        up[-1] += 1
        up_attention[-1] |= f"output_blocks.{number}.1.proj_in" in known
        if number + 1 < total and {f"output_blocks.{number}.1.conv", f"output_blocks.{number}.2.conv"} & known:
            up.append(0)
            up_attention.append(False)
    return _Layout(tuple(down), tuple(up), tuple(up_attention))


def _count_blocks(paths: Sequence[str], side: str) -> int:
    numbers = {int(path.split(".")[1]) for path in paths if re.match(rf"{side}\.\d+", path)}
    return 1 + max(numbers, default=-1)
