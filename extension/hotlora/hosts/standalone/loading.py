"""Loading a described checkpoint into diffusers and transformers classes, with nothing downloaded.

Every class is built empty (on torch's meta device) from its configuration, then each tensor goes straight from the file
to its device and precision: no second copy of a model at any time, and no code path that knows the network.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...engine.errors import UserError
from ...sd.metadata import file_hashes
from .checkpoints.architecture import VAE, derive_vae, read_published
from .checkpoints.original_names import Find, find_clip, find_in_original, name_vae_tensor
from .checkpoints.recognising import Checkpoint, list_text_encoders, read_model_json
from .checkpoints.tensor_file import TensorFile, list_weight_files, open_tensor_file, open_tensor_files

# VAE attention as diffusers called it until 0.17; many published folders still do.
_OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True)
class Parts:
    """A loaded model's pieces: frozen, in evaluation mode."""

    unet: nn.Module
    vae: nn.Module
    text_encoders: Sequence[nn.Module]
    tokenizers: Sequence[Any]


def load_parts(checkpoint: Checkpoint, *, vae: str, device: torch.device, dtype: torch.dtype) -> Parts:
    """Everything that training and sampling need.

    Args:
        vae: file or folder of another VAE; the checkpoint's own when empty.
        dtype: of U-Net and text encoders; the VAE is always fp32, because SDXL's gives NaN in fp16.

    Raises:
        UserError: when something is missing from the files or does not fit together.
    """
    unet = _load(checkpoint, "unet", device, dtype)
    encoders = [_load(checkpoint, name, device, dtype) for name in list_text_encoders(checkpoint.family)]
    if vae:
        loaded_vae = load_vae(Path(vae), checkpoint.family, device)
    elif "vae" in checkpoint.configs:
        loaded_vae = _load(checkpoint, "vae", device, torch.float32)
    else:
        raise UserError(f"cannot use '{checkpoint.path}' alone: there is no VAE in it. Name one as vae.")
    return Parts(unet, loaded_vae, encoders, _load_tokenizers(checkpoint))


def load_vae(path: Path, family: str, device: torch.device) -> nn.Module:
    """A VAE of its own: a file under original or diffusers names, a diffusers VAE folder, or a whole model's folder.

    Raises:
        UserError: when there is none, or one of another kind.
    """
    if path.is_dir():
        return _load_vae_folder(path if (path / "config.json").is_file() else path / "vae", family, device)
    if not path.is_file():
        raise UserError(f"cannot find the VAE '{path}': there is no such file or folder. Mend vae, or leave it empty.")
    file = open_tensor_file(path)
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in file.shapes:
        model = build_empty("vae", read_published(family, "vae"))
        return _fill(model, lambda name: _find_in_vae_folder(file, name), path, device, torch.float32)
    prefix = VAE if f"{VAE}encoder.conv_in.weight" in file.shapes else ""
    shapes = {name[len(prefix) :]: shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    if "encoder.conv_in.weight" not in shapes or "decoder.conv_in.weight" not in shapes:
        raise UserError(f"cannot use '{path}' as vae: there is no VAE in it. Name a VAE file or folder.")
    model = build_empty("vae", derive_vae(shapes, family))
    return _fill(model, lambda name: file.get(prefix + name_vae_tensor(name, 4)), path, device, torch.float32)


def fingerprint_checkpoint(checkpoint: Checkpoint) -> str:
    """SHA-256 over the bytes of U-Net and text encoders: of the whole file, or of a folder's weight files."""
    if checkpoint.file:
        return file_hashes(checkpoint.path).sha256
    files = [file for name in ("unet", *list_text_encoders(checkpoint.family)) for file in list_weight_files(checkpoint.path / name)]
    return hashlib.sha256("".join(file_hashes(file).sha256 for file in files).encode()).hexdigest()


def fingerprint_vae(vae: nn.Module) -> str:
    """SHA-256 over the numbers that encode pictures, so that one VAE in two checkpoints is recognised as the same."""
    whole = hashlib.sha256()
    for name, tensor in vae.state_dict().items():
        if name.startswith(("encoder.", "quant_conv.")):
            whole.update(tensor.cpu().numpy())
    return whole.hexdigest()


def _load(checkpoint: Checkpoint, component: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    config = checkpoint.configs[component]
    if checkpoint.file:
        find, source = find_in_original(checkpoint.file, checkpoint.family, component, config), checkpoint.path
    elif component == "vae":
        return _load_vae_folder(checkpoint.path / component, checkpoint.family, device)
    else:
        source = checkpoint.path / component
        file = open_tensor_files(list_weight_files(source))
        find = file.get if component == "unet" else functools.partial(find_clip, file)
    return _fill(build_empty(component, config), find, source, device, dtype)


def _load_vae_folder(folder: Path, family: str, device: torch.device) -> nn.Module:
    config = read_published(family, "vae") | read_model_json(folder / "config.json")
    file = open_tensor_files(list_weight_files(folder))
    return _fill(build_empty("vae", config), lambda name: _find_in_vae_folder(file, name), folder, device, torch.float32)


def _find_in_vae_folder(file: TensorFile, name: str) -> torch.Tensor:
    if name in file.shapes:
        return file.get(name)
    for new, old in _OLD_VAE_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return file.get(name)


def build_empty(component: str, config: Mapping[str, Any]) -> nn.Module:
    """The class without memory for its weights."""
    with torch.device("meta"):
        if component in ("unet", "vae"):
            import diffusers

            return (diffusers.UNet2DConditionModel if component == "unet" else diffusers.AutoencoderKL).from_config(dict(config))
        import transformers

        text_class = transformers.CLIPTextModel if component == "text_encoder" else transformers.CLIPTextModelWithProjection
        return text_class(transformers.CLIPTextConfig(**config))


def _fill(model: nn.Module, find: Find, source: Path, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Give every parameter its tensor from the file."""
    tensors = {}
    for name, empty in model.state_dict().items():
        if name.endswith("position_ids"):
            continue
        try:
            tensor = find(name)
        except KeyError as error:
            raise UserError(f"cannot load '{source}': it lacks the tensor {error}. Get a complete file.") from error
        if tensor.shape != empty.shape and tensor.squeeze().shape == empty.squeeze().shape:
            tensor = tensor.reshape(empty.shape)  # a 1x1 convolution is a linear layer to some
        if tensor.shape != empty.shape:
            raise UserError(
                f"cannot load '{source}': its tensor for {name} is {list(tensor.shape)} and should be {list(empty.shape)}. "
                "Use an unmodified SD 1.x, SD 2.x or SDXL model."
            )
        tensors[name] = tensor.to(device, dtype)
    model.load_state_dict(tensors, strict=False, assign=True)
    for module in model.modules():
        if "position_ids" in module._buffers:  # the one thing that no file needs to hold: 0, 1, 2 …
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    return model.requires_grad_(False).eval()


def _load_tokenizers(checkpoint: Checkpoint) -> list[Any]:
    """The fast class: in old versions the other one drops accents where ftfy is not installed."""
    import transformers

    tokenizers = []
    for name, folder in zip(list_text_encoders(checkpoint.family), checkpoint.tokenizers, strict=True):
        if not any((folder / file).is_file() for file in ("vocab.json", "tokenizer.json")):
            raise UserError(f"cannot load the tokenizer: there is no vocab.json in '{folder}'. Get the complete folder.")
        pads_with_zero = checkpoint.file and (checkpoint.family == "sd2" or name == "text_encoder_2")
        options = {"pad_token": "!"} if pads_with_zero else {}
        tokenizers.append(transformers.CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True, **options))
    return tokenizers
