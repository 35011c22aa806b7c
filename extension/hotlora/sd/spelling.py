"""The layers of an image LoRA in each form of file, whichever model it will be used on: kohya's names and diffusers' paths.

Reading a name is ``lora_names``' work; this says the published layers to it, and writes. Must not import a model library.
"""

import re
from collections.abc import Sequence

from .lora_names import Spellings, spell_unet_paths
from .names import name_outer_paths, name_unet_paths, text_prefixes
from .published import TEXT_PARTS, list_text_paths, list_unet_paths

_TEXT = re.compile(r"lora_te(?P<number>[12]?)_text_model_encoder_layers_(?P<layer>\d+)_(?P<part>self_attn|mlp)_(?P<inner>\w+)")


class Names:
    """The layers of one family.

    Args:
        family: "sd1", "sd2" or "sdxl".
        paths: of the U-Net's layers, in either spelling; the published ones when not given.
    """

    def __init__(self, family: str, paths: Sequence[str] = ()):
        depths = () if paths else [len(layers) // TEXT_PARTS for layers in list_text_paths(family)]
        self._text_depths = dict(zip(text_prefixes(family), depths, strict=False))  # empty where the model is not a published one
        paths = list(paths) or list_unet_paths(family)
        outer = {path: name for name, (path, _) in name_outer_paths(paths, family).items()}
        self.paths = {name: path for path, name in {**name_unet_paths(paths, family), **outer}.items()}  # exported name -> U-Net path
        self._spellings = Spellings(spell_unet_paths(paths, family), text_prefixes(family))

    def resolve(self, name: str) -> str | None:
        """The exported name of a layer as some file spells it; None where the family has none like it."""
        found = self._spellings.resolve(name)
        text = _TEXT.fullmatch(found) if found else None
        if text and int(text["layer"]) >= self._text_depths.get(f"lora_te{text['number']}", int(text["layer"]) + 1):
            return None
        return found

    def to_diffusers(self, exported: str) -> tuple[str, str]:
        """(part of the pipeline, path in it): ``unet``, ``text_encoder`` or ``text_encoder_2``. The paths given must be diffusers'."""
        text = _TEXT.fullmatch(exported)
        if not text:
            return "unet", self.paths[exported]
        part = "text_encoder_2" if text["number"] == "2" else "text_encoder"
        return part, f"text_model.encoder.layers.{text['layer']}.{text['part']}.{text['inner']}"
