"""What a file is, and which model family a LoRA was made for, by its tensors' names and shapes and by its metadata.

Only for sentences: what fits is found out by trying each layer. Must not import a model library.
"""

from collections.abc import Iterable, Mapping, Sequence

TITLES = {"sd1": "SD 1.x", "sd2": "SD 2.x", "sdxl": "SDXL"}

_CONTEXT_WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
_SAID = {  # a piece of modelspec.architecture or ss_base_model_version -> title; the first that is found
    "flux": "FLUX",
    "stable-diffusion-3": "SD 3",
    "sd3": "SD 3",
    "stable-cascade": "Stable Cascade",
    "sd_xl": "SDXL",
    "sdxl": "SDXL",
    "stable-diffusion-xl": "SDXL",
    "stable-diffusion-v2": "SD 2.x",
    "sd_v2": "SD 2.x",
    "stable-diffusion-v1": "SD 1.x",
    "sd_v1": "SD 1.x",
    "hunyuan": "Hunyuan",
    "lumina": "Lumina",
    "qwen": "Qwen-Image",
    "wan": "Wan",
    "chroma": "Chroma",
    "auraflow": "AuraFlow",
    "pixart": "PixArt",
}
_OTHERS = {  # a piece of a name -> family; none of Stable Diffusion 1, 2 or XL has it
    "double_blocks": "FLUX",
    "single_blocks": "FLUX",
    "single_transformer_blocks": "FLUX",
    "joint_blocks": "SD 3",
    "lora_prior_": "Stable Cascade",
    "lora_te3": "SD 3",
    "transformer_blocks_0_attn_add_": "SD 3 or FLUX",
    "transformer_blocks.0.attn.add_": "SD 3 or FLUX",
    "blocks.0.cross_attn": "Wan",
    "blocks_0_cross_attn": "Wan",
    "noise_refiner": "Lumina or Z-Image",
    "context_refiner": "Lumina or Z-Image",
    "img_mod": "Qwen-Image",
    "\ndiffusion_model.blocks.": "Wan",
    "\ndiffusion_model.": "a transformer model",
    "\ntransformer.": "a transformer model",
    "\ntransformer_blocks.": "a transformer model",
    "lora_transformer_": "a transformer model",
}
_LANGUAGE = ("base_model.model.model.layers", "base_model.model.transformer.h.", "base_model.model.model.decoder.layers", "model.layers.0.")
_SIGNS = {
    "a whole checkpoint": ("model.diffusion_model.", "conditioner.embedders.", "cond_stage_model."),
    "a ControlNet": ("control_model.", "controlnet_", "input_hint_block", "zero_convs", "lora_controlnet"),
    "a textual inversion": ("emb_params", "string_to_param", "clip_g", "clip_l"),
    "a VAE": ("first_stage_model.", "decoder.", "encoder.conv_in", "encoder.down"),
    "a LyCORIS file of a kind that is not trained here": (
        *("oft_", "a1.weight", "w_norm", "b_norm", "on_input", ".diff", "oft_blocks", "boft"),
    ),
    "a hypernetwork": ("linear1.weight",),
    "a LoRA with biases, which are not trained here": (".bias",),
}


def describe_keys(keys: Sequence[str], strange: Sequence[str]) -> str:
    """What a file that is no LoRA of a known spelling most likely is.

    Args:
        strange: those among the keys that no such LoRA has.
    """
    if not keys:
        return "empty"
    if find_language(keys):
        return "a language model's adapter"
    joined = "\n".join(strange or keys)
    for what, marks in _SIGNS.items():
        if any(mark in joined for mark in marks):
            return what
    other = find_other_family(strange)
    if other:
        return f"a LoRA for {other}"
    return f"something else: its first tensor is '{min(strange or keys)}'"


def find_language(keys: Iterable[str]) -> bool:
    """Whether these are a language model's layers."""
    return any(key.startswith(_LANGUAGE) for key in keys)


def find_other_family(names: Iterable[str]) -> str | None:
    """The family that only these layers can belong to, none of Stable Diffusion's."""
    joined = "\n" + "\n".join(names)
    if any(piece in joined for piece in ("down_blocks", "input_blocks", "up_blocks", "output_blocks")):
        return None
    return next((family for piece, family in _OTHERS.items() if piece in joined), None)


def guess_family(sizes: Mapping[str, int], metadata: Mapping[str, str]) -> str | None:
    """The title of the family that a LoRA was made for, or None where nothing tells.

    Args:
        sizes: name -> inputs of the layer.
    """
    other = find_other_family(sizes)
    if other:
        return other
    for name, inputs in sizes.items():
        if name.endswith(("attn2_to_k", "attn2.to_k", "attn2.processor.to_k")) and inputs in _CONTEXT_WIDTHS:
            return _CONTEXT_WIDTHS[inputs]
    said = " ".join(metadata.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")).lower()
    found = next((title for piece, title in _SAID.items() if piece in said), None)
    if found:
        return found
    second = ("lora_te2", "text_encoder_2", "clip_g", "text_encoders.clip_g")
    deep = ("transformer_blocks_1_", "transformer_blocks.1.")
    if any(name.startswith(second) or any(piece in name for piece in deep) for name in sizes):
        return "SDXL"
    return None
