"""LoRA files of tiny models for the tools' tests, and what they add to each weight, written out independently of the package."""

import torch
from safetensors.torch import save_file
from tiny import build_sd1, build_sd2, build_sdxl, compvis_unet_key

BUILDERS = {"sd1": build_sd1, "sd2": build_sd2, "sdxl": build_sdxl}
OTHER = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
UNDER = str.maketrans(".", "_")


class LayerFile:
    """One layer of a LoRA: its kohya name, its path in diffusers' or transformers' class, and what it holds."""

    def __init__(self, part, path, weight, family, keys, number, rank=0):
        self.part, self.path, self.shape = part, path, tuple(weight.shape)
        self.rank, self.alpha = rank or 2 + number % 3, 1.0 + number % 4
        if part == "unet":
            spelled = compvis_unet_key(f"{path}.weight", keys).removesuffix(".weight") if family == "sdxl" else path
            self.name = "lora_unet_" + spelled.translate(UNDER)
        else:
            prefix = OTHER[part] if family == "sdxl" else "lora_te"
            self.name = f"{prefix}_text_model_{path.removeprefix('text_model.').translate(UNDER)}"
        generator, kernel = torch.Generator().manual_seed(number), self.shape[2:]
        self.down = torch.randn(self.rank, self.shape[1], *kernel, generator=generator) * 0.1
        self.up = torch.randn(self.shape[0], self.rank, *[1] * len(kernel), generator=generator) * 0.1

    def tensors(self):
        return {
            f"{self.name}.lora_down.weight": self.down,
            f"{self.name}.lora_up.weight": self.up,
            f"{self.name}.alpha": torch.tensor(self.alpha),
        }

    def dense(self):
        """[out, in, ...]"""
        return (self.alpha / self.rank) * (self.up.flatten(1) @ self.down.flatten(1)).reshape(self.shape)


def make_layers(family, parts, *, conv=True, text=True, start=0, rank=0):
    """Layers of a U-Net's attention, its convolutions, and the text encoders, each of a rank of its own unless one is given."""
    found = []
    keys = parts["unet"].state_dict().keys()
    for part, model in parts.items():
        if part == "vae" or (part != "unet" and not text):
            continue
        for path, module in model.named_modules():
            if part == "unet":
                wanted = ".attentions." in path or (conv and any(piece in path for piece in (".resnets.", "samplers.")))
            else:
                wanted = ".layers." in path
            if wanted and isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                found.append(LayerFile(part, path, module.weight, family, keys, start + len(found), rank))
    return found


def write(path, layers, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor for layer in layers for key, tensor in layer.tensors().items()}
    return save(path, tensors, metadata)


def save(path, tensors, metadata=None):
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, str(path), metadata)
    return path


def dense_of(tensors, name, shape):
    """What a kohya file's LoRA adds to a weight."""
    up, down = (tensors[f"{name}.lora_{part}.weight"].float() for part in ("up", "down"))
    scale = tensors[f"{name}.alpha"].item() / down.shape[0]
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(shape)


def nearest(matrix, rank):
    """By numpy-like singular values: the nearest matrix of that rank."""
    left, values, right = torch.linalg.svd(matrix.flatten(1).double(), full_matrices=False)
    return ((left[:, :rank] * values[:rank]) @ right[:rank]).float().reshape(matrix.shape)
