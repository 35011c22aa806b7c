"""Stable Diffusion at its published sizes, on torch's meta device: every name and shape, no memory."""

import functools

import torch

_SHARED = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
_SD_BLOCKS = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
UNETS = {
    "sd1": {**_SHARED, **_SD_BLOCKS, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        **_SHARED,
        **_SD_BLOCKS,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        **_SHARED,
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
TEXT_ENCODERS = {
    "sd1": [{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}],
    "sd2": [{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}],
    "sdxl": [
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
        {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32},
    ],
}


@functools.lru_cache
def make_unet(family, **changes):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config({**UNETS[family], **changes})


@functools.lru_cache
def make_text_encoders(family):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    classes = [CLIPTextModel, CLIPTextModelWithProjection]
    with torch.device("meta"):
        return [cls(CLIPTextConfig(**sizes)) for cls, sizes in zip(classes, TEXT_ENCODERS[family], strict=False)]


class Adapters:
    """Stands in for the engine's adapters: tensors of the shapes peft would make, all ``value``."""

    def __init__(self, targets, kind="lora", use_rslora=False, value=0.0):
        self.targets, self.kind, self.use_rslora, self.value = targets, kind, use_rslora, value

    def tensors(self):
        return {name: self._lora(target.layer, target.rank) for name, target in self.targets.items()}

    def _lora(self, layer, rank):
        out_in, kernel = layer.weight.shape[:2], layer.weight.shape[2:]
        down = torch.full((rank, out_in[1], *kernel), self.value)
        up = torch.full((out_in[0], rank, *[1] * len(kernel)), self.value)
        return {"lora_A": down, "lora_B": up}
