"""Loading a described base model into diffusers' and transformers' classes, with nothing downloaded.

Every class is built empty (on torch's meta device) from its configuration, then each tensor goes straight from the file
to its device and precision: no second copy of a model at any time, and no code path that knows the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...engine.errors import UserError
from .checkpoints.checkpoint import Checkpoint, Part, TokenizerFiles
from .checkpoints.recognising import describe_vae
from .few_bits import hold_in_few_bits, keep_packing, pack


@dataclass(frozen=True)
class Parts:
    """A loaded model's pieces: frozen, in evaluation mode."""

    unet: nn.Module
    vae: nn.Module
    text_encoders: Sequence[nn.Module]
    tokenizers: Sequence[Any]


def load_parts(checkpoint: Checkpoint, *, vae: str, device: torch.device, dtype: torch.dtype, bits: str = "none") -> Parts:
    """Everything that training and sampling need.

    Args:
        vae: file or folder of another VAE; the checkpoint's own when empty.
        dtype: of U-Net and text encoders; the VAE is always fp32, because SDXL's gives NaN in fp16.
        bits: of the U-Net, see the option ``quantization``.

    Raises:
        UserError: when something is missing from the files or does not fit together.
    """
    unet = load_part(checkpoint.parts["unet"], device, dtype, bits)
    encoders = [load_part(part, device, dtype) for name, part in checkpoint.parts.items() if name.startswith("text_encoder")]
    own_vae = describe_vae(Path(vae), checkpoint.family) if vae else checkpoint.parts.get("vae")
    if own_vae is None:
        raise UserError(f"cannot use '{checkpoint.path}' alone: there is no VAE in it. Name one as vae.")
    return Parts(unet, load_part(own_vae, device, torch.float32), encoders, [_load_tokenizer(files) for files in checkpoint.tokenizers])


def load_part(part: Part, device: torch.device, dtype: torch.dtype, bits: str = "none") -> nn.Module:
    """One network: frozen, in evaluation mode.

    Raises:
        UserError: when its file is missing or broken, lacks a tensor, or has one of another shape.
    """
    model, file = build_empty(part.component, part.config), part.open()
    tensors, wanted = {}, model.state_dict()
    packed = {} if bits == "none" else hold_in_few_bits(model, bits, dtype)
    for name, empty in wanted.items():
        if name.endswith("position_ids"):
            continue
        try:
            tensor = part.find(file, name)
        except KeyError as error:
            raise UserError(f"cannot load '{part.source}': it lacks the tensor {error}. Get a complete file.") from error
        if tensor.shape != empty.shape and tensor.squeeze().shape == empty.squeeze().shape:
            tensor = tensor.reshape(empty.shape)  # a 1x1 convolution is a linear layer to some
        if tensor.shape != empty.shape:
            raise UserError(
                f"cannot load '{part.source}': its tensor for {name} is {list(tensor.shape)} and should be {list(empty.shape)}. "
                "Use an unmodified SD 1.x, SD 2.x or SDXL model."
            )
        if name in packed:
            pack(packed[name], tensor.to(dtype), device)
        else:
            tensors[name] = tensor.to(device, dtype)
    model.load_state_dict(tensors, strict=False, assign=True)
    for module in model.modules():
        places = module._buffers.get("position_ids")
        if places is not None:  # the one thing that no file needs to hold: 0, 1, 2 …
            module.position_ids = torch.arange(places.shape[-1], device=device)[None]
    keep_packing(model)
    return model.requires_grad_(False).eval()


def build_empty(component: str, config: Mapping[str, Any]) -> nn.Module:
    """The class without memory for its weights."""
    with torch.device("meta"):
        if component in ("unet", "vae"):
            import diffusers

            return (diffusers.UNet2DConditionModel if component == "unet" else diffusers.AutoencoderKL).from_config(dict(config))
        import transformers

        text_class = transformers.CLIPTextModel if component == "text_encoder" else transformers.CLIPTextModelWithProjection
        return text_class(transformers.CLIPTextConfig(**config))


def _load_tokenizer(files: TokenizerFiles) -> Any:
    """The fast class: in old versions the other one drops accents where ftfy is not installed."""
    import transformers

    if not any((files.folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise UserError(f"cannot load the tokenizer: there is no vocab.json in '{files.folder}'. Get the complete folder.")
    options = {"pad_token": files.pad_token} if files.pad_token else {}
    try:
        return transformers.CLIPTokenizerFast.from_pretrained(str(files.folder), local_files_only=True, **options)
    except Exception as error:  # a damaged file makes the library raise nearly anything
        raise UserError(
            f"cannot load the tokenizer in '{files.folder}': its files are broken ({error}). Get the complete folder."
        ) from error
