"""Where a single-file checkpoint keeps the layers that a LoRA changes: exported name -> tensor, or a third of one.

open_clip's text encoders (SD 2.x, SDXL's second) have query, key and value in one matrix.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from ..engine.errors import UserError
from ..hosts.shared.tensor_file import SUFFIXES, TensorFile, open_tensor_file
from ..hosts.standalone.checkpoints.architecture import TEXT, UNET
from ..hosts.standalone.checkpoints.single_file import recognise_family
from ..sd.names import text_prefixes
from ..sd.spelling import Names

_TRANSFORMERS = re.compile(r"(?:text_model\.)?encoder\.layers\.(\d+)\.((?:self_attn|mlp)\.\w+)\.weight")
_OPEN_CLIP = re.compile(
    r"transformer\.resblocks\.(\d+)\.(attn\.in_proj_weight|attn\.out_proj\.weight|mlp\.c_fc\.weight|mlp\.c_proj\.weight)"
)
_OPEN_CLIP_PARTS = {"attn.out_proj.weight": "self_attn_out_proj", "mlp.c_fc.weight": "mlp_fc1", "mlp.c_proj.weight": "mlp_fc2"}


class Slot(NamedTuple):
    """Where a layer's weight is: a tensor of the file, or its first, second or last third of the rows."""

    key: str
    third: int | None = None

    def take(self, whole: torch.Tensor) -> torch.Tensor:
        """The layer's part; a view."""
        if self.third is None:
            return whole
        rows = whole.shape[0] // 3
        return whole[self.third * rows : (self.third + 1) * rows]


class Layers:
    """A checkpoint's layers.

    Attributes:
        file: its table of contents.
        slots: exported name -> where its weight is.
        names: of this model's layers, however files spell them.

    Raises:
        UserError: for a file that is no whole checkpoint of SD 1.x, SD 2.x or SDXL.
    """

    def __init__(self, path: Path):
        place = path.expanduser()
        if place.is_dir():
            raise UserError(f"cannot use '{path}': it is a folder. Give a checkpoint in a single file.")
        if not place.is_file():
            raise UserError(f"cannot use '{path}': there is no such file. Check the path.")
        if place.suffix.lower() not in SUFFIXES:
            raise UserError(f"cannot use '{path}': its name does not end in {', '.join(SUFFIXES)}. Give a checkpoint.")
        self.file = open_tensor_file(place)
        self.family = recognise_family(self.file)
        paths = [name[len(UNET) : -len(".weight")] for name in self.file.shapes if _is_unet_layer(name, self.file)]
        self.names = Names(self.family, paths)
        self.slots = {name: Slot(f"{UNET}{found}.weight") for name, found in self.names.paths.items()}
        for prefix, place_of in zip(text_prefixes(self.family), TEXT[self.family].values(), strict=True):
            self.slots.update(_find_text(self.file, place_of, prefix))

    def by_key(self) -> dict[str, list[tuple[str, Slot]]]:
        """Tensor of the file -> (exported name, slot) of the layers in it."""
        found: dict[str, list[tuple[str, Slot]]] = {}
        for name, slot in self.slots.items():
            found.setdefault(slot.key, []).append((name, slot))
        return found


def _is_unet_layer(name: str, file: TensorFile) -> bool:
    return name.startswith(UNET) and name.endswith(".weight") and len(file.shapes[name]) in (2, 4)


def _find_text(file: TensorFile, place: str, prefix: str) -> Iterator[tuple[str, Slot]]:
    for key in file.shapes:
        if not key.startswith(place):
            continue
        plain, joined = _TRANSFORMERS.fullmatch(key[len(place) :]), _OPEN_CLIP.fullmatch(key[len(place) :])
        if plain:
            yield f"{prefix}_text_model_encoder_layers_{plain[1]}_{plain[2].replace('.', '_')}", Slot(key)
        elif joined and joined[2] in _OPEN_CLIP_PARTS:
            yield f"{prefix}_text_model_encoder_layers_{joined[1]}_{_OPEN_CLIP_PARTS[joined[2]]}", Slot(key)
        elif joined:
            for third, letter in enumerate("qkv"):
                yield f"{prefix}_text_model_encoder_layers_{joined[1]}_self_attn_{letter}_proj", Slot(key, third)


def list_different(first: TensorFile, second: TensorFile) -> Mapping[str, str]:
    """Names that only one of two files has, or of other shapes -> how they differ."""
    faults = dict.fromkeys(first.shapes.keys() ^ second.shapes.keys(), "is in one only")
    shared = first.shapes.keys() & second.shapes.keys()
    return faults | {name: "has another shape" for name in shared if first.shapes[name] != second.shapes[name]}
