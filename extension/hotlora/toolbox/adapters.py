"""A LoRA that was read, whatever it is for and however its file spells it: what every tool works on. Knows no file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..engine.errors import UserError
from ..engine.low_rank import LowRank, Singular, take_apart, take_apart_dense
from ..sd.updates import compute_product

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Layer:
    """The change of one layer.

    Attributes:
        parts: peft's tensor name -> fp32.
        rank: as the file has it.
        scale: of the tensors' product.
        kernel: of a convolution, (height, width); empty where it is linear.
    """

    kind: str
    parts: Mapping[str, torch.Tensor]
    rank: int
    scale: float
    kernel: tuple[int, ...] = ()

    @classmethod
    def of(cls, change: LowRank, magnitude: torch.Tensor | None = None) -> "Layer":
        kernel = tuple(change.down.shape[2:])
        parts = {"lora_A": change.down, "lora_B": change.up.view(*change.up.shape, *[1] * len(kernel))}
        if magnitude is not None:
            parts["dora_scale"] = magnitude
        return cls("lora", parts, change.rank, change.scale, kernel)

    @property
    def is_spatial(self) -> bool:
        return self.kernel not in ((), (1, 1))

    @property
    def magnitude(self) -> torch.Tensor | None:
        """DoRA's."""
        return self.parts.get("dora_scale")

    @property
    def low_rank(self) -> LowRank:
        """Of a LoRA."""
        return LowRank(self.parts["lora_B"].flatten(1), self.parts["lora_A"], self.scale)

    def matrix(self) -> torch.Tensor:
        """[out, inputs] fp32: all that is added to the weight, DoRA apart."""
        return self.scale * compute_product(self.kind, self.parts)

    def take_apart(self, most: int) -> Singular:
        """Singular values; of a LoRA all, of other kinds at least the ``most`` largest."""
        return take_apart(self.low_rank) if self.kind == "lora" else take_apart_dense(self.matrix(), most)

    def shape_inputs(self) -> tuple[int, ...]:
        """[in, ...] as a LoRA's first factor has them."""
        if self.kind == "lora":
            return tuple(self.parts["lora_A"].shape[1:])
        inputs = self.matrix().shape[1]
        area = self.kernel[0] * self.kernel[1] if self.kernel else 1
        return (inputs // area, *self.kernel)


@dataclass
class Adapter:
    """A file or folder.

    Attributes:
        kind: "lora", "loha" or "lokr".
        layers: of images by exported (kohya) name, of texts by the layer's path in the model.
        family: "sd1", "sd2" or "sdxl"; empty for texts.
        form: "kohya", "diffusers" or "peft".
        kept: further tensors by key, which stay as they are.
        precision: "fp32", "fp16" or "bf16": of most of its tensors.
        settings: of texts: peft's config.
    """

    path: Path
    kind: str
    layers: dict[str, Layer]
    family: str
    form: str
    precision: str
    metadata: dict[str, str] = field(default_factory=dict)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_text(self) -> bool:
        return not self.family

    @property
    def is_dora(self) -> bool:
        return any(layer.magnitude is not None for layer in self.layers.values())


def cast(path: Path, name: str, tensor: torch.Tensor, precision: str) -> torch.Tensor:
    """The tensor as a file holds it. Raises UserError where the precision cannot."""
    made = tensor.detach().to(DTYPES[precision]).contiguous()
    if not torch.isfinite(made).all():
        raise UserError(
            f"cannot write '{path}' in {precision}: {name} reaches {tensor.abs().max().item():.3g}, which does not fit into it. "
            "Add --precision fp32."
        )
    return made


def check_output(output: Path, *, overwrite: bool) -> None:
    """Before anything slow. Raises UserError where something is there already."""
    if output.exists() and not overwrite:
        raise UserError(f"cannot write '{output}': there is something already. Choose another name, or add --overwrite.")
