"""The same LoRA in another form of file."""

from dataclasses import replace

from ..engine.errors import UserError
from .adapters import Adapter

GGUF = "gguf"  # of text LoRAs; the others are of image LoRAs
FORMS = ("kohya", "diffusers", "peft", GGUF)


def convert(adapter: Adapter, form: str) -> Adapter:
    """An image LoRA as kohya's files (which AUTOMATIC1111, Forge and ComfyUI read), diffusers' or peft's folders hold it.

    Raises:
        UserError: for a text LoRA, which has none of these forms.
    """
    if adapter.is_text:
        raise UserError(
            f"cannot convert '{adapter.path}': a text LoRA is a peft folder for every program but llama.cpp and KoboldCpp. For "
            "these write the form gguf."
        )
    return replace(adapter, form=form)
