"""What the layers of a LoRA file are, however it spells them: each spelling -> the exported name.

U-Net layers by their diffusers or CompVis path, text encoder layers by their transformers path, with dots or underscores, behind
what kohya, OneTrainer, ComfyUI, diffusers, peft or LyCORIS put in front. Must not import a model library.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from .names import is_plain_layer, name_outer_paths, name_unet_paths

_UNET_START = re.compile(r"(?:base_model_model_)?(?:lora_unet_|lycoris_|unet_|model_diffusion_model_|diffusion_model_)?")
_TEXT = re.compile(
    r"(?:base_model_model_)?(?P<start>lora_te[12]?_|lycoris_text_encoder(?:_2)?_|lycoris_te[12]?_|te[12]_|text_encoder(?:_2)?_"
    r"|(?:text_encoders_)?clip_[lgh]_(?:transformer_)?|)(?:text_model_)?(?P<layer>encoder_layers_\d+_(?:self_attn|mlp)_\w+)"
)
_SECOND = ("te2_", "text_encoder_2_", "clip_g_", "clip_g_transformer_")


def spell_unet_names(unet: nn.Module, family: str) -> dict[str, str]:
    """Folded path -> exported name of every layer of the U-Net, for diffusers' paths and for CompVis' ones."""
    return spell_unet_paths([path for path, module in unet.named_modules() if is_plain_layer(module)], family)


def spell_unet_paths(paths: Sequence[str], family: str) -> dict[str, str]:
    """The same of a U-Net of which the layers' paths are known, in either spelling."""
    exported = name_unet_paths(paths, family)
    spelled = {}
    for spelling in ("sd1", "sdxl"):  # whose names are diffusers' and CompVis'
        for path, name in name_unet_paths(paths, spelling).items():
            spelled[name.removeprefix("lora_unet_")] = exported[path]
    for name, (_, spellings) in name_outer_paths(paths, family).items():
        spelled.update(dict.fromkeys(spellings, name))
    short = {alias.removesuffix("_0"): name for alias, name in spelled.items() if alias.endswith("_to_out_0")}
    return {**short, **spelled}


def is_text_layer(name: str) -> bool:
    """Whether a layer, as a file spells it, is a text encoder's."""
    return _TEXT.fullmatch(_fold(name)) is not None


class Spellings:
    """Exported names for the layers of files, for one model.

    Args:
        unet: its names by folded path, of :func:`spell_unet_names`.
        text_prefixes: those of its text encoders in exported names, in order.
    """

    def __init__(self, unet: Mapping[str, str], text_prefixes: Sequence[str]):
        self._unet, self._prefixes = unet, text_prefixes

    def resolve(self, name: str) -> str | None:
        """The exported name of a layer; None where this model has none like it."""
        folded = _fold(name)
        text = _TEXT.fullmatch(folded)
        if text:
            second = text["start"].endswith(_SECOND)
            if second and len(self._prefixes) < 2:
                return None
            return f"{self._prefixes[1 if second else 0]}_text_model_{text['layer']}"
        start = _UNET_START.match(folded)
        return self._unet.get(folded[start.end() if start else 0 :])


def _fold(name: str) -> str:
    """Dots as underscores; without the attention processors that early versions of diffusers put layers in."""
    return name.replace(".processor.", ".").replace(".", "_")


def list_twice(resolved: Mapping[str, str | None]) -> Iterable[str]:
    """Exported names that a file has under two spellings."""
    seen: set[str] = set()
    for name in resolved.values():
        if name is not None and name in seen:
            yield name
        seen.add(name or "")
