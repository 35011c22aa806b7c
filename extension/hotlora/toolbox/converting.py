"""The same LoRA in another form of file."""

from dataclasses import replace

from ..engine.errors import UserError
from .adapters import Adapter

FORMS = ("kohya", "diffusers", "peft")


def convert(adapter: Adapter, form: str) -> Adapter:
    """An image LoRA as kohya's files (which AUTOMATIC1111, Forge and ComfyUI read), diffusers' or peft's folders hold it.

    Raises:
        UserError: for a text LoRA, which has one form.
    """
    if adapter.is_text:
        raise UserError(
            f"cannot convert '{adapter.path}': a text LoRA is a peft folder for every program here. For llama.cpp use its own "
            "convert_lora_to_gguf.py."
        )
    return replace(adapter, form=form)
