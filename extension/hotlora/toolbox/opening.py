"""Opening whatever LoRA people name: a file or folder, for images or text."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..engine.errors import UserError
from ..llm.peft_reading import OLD_WEIGHTS, WEIGHTS
from ..sd.lora_files import open_lora
from .adapters import Adapter
from .image_files import read_image_lora, write_image_lora
from .text_files import read_text_lora, write_text_lora

_OF_IMAGES = (
    *("lora_unet_", "lora_te", "lycoris_", "text_encoder", "text_model", "down_blocks", "up_blocks", "mid_block", "input_blocks"),
    *("output_blocks", "middle_block", "transformer_blocks", "bundle_emb", "clip_l", "clip_g", "double_blocks", "joint_blocks"),
    "diffusion_model.",
)


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """Reading for a tool is not going on from a file: say so in what the readers refuse."""
    if not path.expanduser().exists():
        raise UserError(f"cannot use '{path}': there is no such file or folder. Check the path.")
    try:
        yield
    except UserError as error:
        said = str(error).replace("cannot go on from", "cannot use", 1)
        raise UserError(said) from error


def is_text_lora(path: Path) -> bool:
    """By its tensors' names alone. Raises UserError where it cannot be read."""
    place = path.expanduser()
    if place.is_dir() and not (place / WEIGHTS).is_file() and (place / OLD_WEIGHTS).is_file():
        return True  # diffusers never wrote such
    with telling(path), open_lora(path) as file:
        return are_text_keys(file.keys())


def are_text_keys(keys: Iterable[str]) -> bool:
    """Whether these are layers of a language model."""
    keys = list(keys)
    if not keys or any(piece in key for key in keys for piece in _OF_IMAGES):
        return False
    return all("lora_" in key for key in keys) or any(key.startswith("base_model.model.") for key in keys)


def read_adapter(path: Path, family: str = "") -> Adapter:
    """A LoRA.

    Args:
        family: of an image LoRA, "sd1", "sd2" or "sdxl"; found out when empty.

    Raises:
        UserError: where it is missing, damaged or something else.
    """
    text = is_text_lora(path)
    with telling(path):
        return read_text_lora(path) if text else read_image_lora(path, family)


def write_adapter(adapter: Adapter, output: Path, precision: str, change: str) -> None:
    """As :func:`write_image_lora` and :func:`write_text_lora` do; ``precision`` is the adapter's own when empty."""
    write = write_text_lora if adapter.is_text else write_image_lora
    write(adapter, output, precision or adapter.precision, change)
