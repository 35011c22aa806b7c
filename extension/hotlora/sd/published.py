"""The layers of the published Stable Diffusions that a LoRA may go on, by diffusers' paths: for files whose model is not at hand.

Follows from the published configurations alone. Must not import a model library.
"""

from collections.abc import Iterator

_WIDTHS = {"sd1": (320, 640, 1280, 1280), "sd2": (320, 640, 1280, 1280), "sdxl": (320, 640, 1280)}
_DEPTHS = {"sd1": (1, 1, 1, 0), "sd2": (1, 1, 1, 0), "sdxl": (0, 2, 10)}  # transformer blocks behind each residual block, by level
_RESNETS = 2  # per level on the way down; one more on the way up
_TEXT_DEPTHS = {"sd1": (12,), "sd2": (23,), "sdxl": (12, 32)}
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_OUTER = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
_TEXT_LAYER = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
TEXT_PARTS = len(_TEXT_LAYER)  # linear layers in each of a text encoder's


def list_unet_paths(family: str) -> list[str]:
    """Every Linear and Conv2d of the family's U-Net, "sd1", "sd2" or "sdxl"."""
    return [*_list_blocks(_WIDTHS[family], _DEPTHS[family]), *list_outer_paths(family)]


def list_outer_paths(family: str) -> list[str]:
    """Those that stand outside the blocks."""
    return [*_OUTER, *(["add_embedding.linear_1", "add_embedding.linear_2"] if family == "sdxl" else [])]


def list_text_paths(family: str) -> list[list[str]]:
    """Those of each text encoder, without ``text_model.``."""
    return [[f"encoder.layers.{layer}.{part}" for layer in range(depth) for part in _TEXT_LAYER] for depth in _TEXT_DEPTHS[family]]


def _list_blocks(widths: tuple[int, ...], depths: tuple[int, ...]) -> Iterator[str]:
    last = len(widths) - 1
    for level, depth in enumerate(depths):
        for number in range(_RESNETS):
            widens = level > 0 and number == 0 and widths[level] != widths[level - 1]
            yield from _list_pair(f"down_blocks.{level}", number, depth, shortcut=widens)
        if level < last:
            yield f"down_blocks.{level}.downsamplers.0.conv"
    yield from _list_pair("mid_block", 0, depths[-1] or 1, shortcut=False)
    yield from _list_pair("mid_block", 1, 0, shortcut=False)
    for level, depth in enumerate(reversed(depths)):
        for number in range(_RESNETS + 1):
            yield from _list_pair(f"up_blocks.{level}", number, depth, shortcut=True)
        if level < last:
            yield f"up_blocks.{level}.upsamplers.0.conv"


def _list_pair(block: str, number: int, depth: int, *, shortcut: bool) -> Iterator[str]:
    """A residual block, and the transformer behind it."""
    resnet = f"{block}.resnets.{number}"
    yield from (f"{resnet}.{part}" for part in ("conv1", "time_emb_proj", "conv2", *(["conv_shortcut"] if shortcut else [])))
    if depth:
        attention = f"{block}.attentions.{number}"
        yield f"{attention}.proj_in"
        for place in range(depth):
            inner = f"{attention}.transformer_blocks.{place}"
            yield from (f"{inner}.{kind}.{part}" for kind in ("attn1", "attn2") for part in _ATTENTION)
            yield from (f"{inner}.ff.net.0.proj", f"{inner}.ff.net.2")
        yield f"{attention}.proj_out"
