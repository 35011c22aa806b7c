"""Which programs load a text LoRA, and why not: by its config and its tensors' names. Must not import any of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from .peft_reading import PREFIX


def judge_text_lora(said: Mapping[str, Any] | None, keys: Iterable[str]) -> list[str]:
    """A line for each program.

    Args:
        said: peft's config; None where there is none.
        keys: of its tensors.
    """
    keys = list(keys)
    layers = {key.split(".lora_")[0] for key in keys}
    strange = sorted(key for key in keys if not key.startswith(PREFIX) or ".lora_" not in key)
    if said is None:
        of_peft = "does not load it: it has no adapter_config.json. Copy the whole folder of the adapter"
    elif strange:
        of_peft = f"loads {len(layers)} layers; {len(strange)} tensors are not a LoRA's, such as {strange[0]}"
    else:
        of_peft = f"loads all {len(layers)} layers"
    lines = [f"peft, transformers and text-generation-webui: {of_peft}."]
    return [*lines, f"vLLM: {_judge_vllm(said, strange)}.", f"llama.cpp and KoboldCpp: {_judge_llama_cpp(said, strange)}."]


def _judge_vllm(said: Mapping[str, Any] | None, strange: list[str]) -> str:
    if said is None or strange:
        return "does not load it: it wants a peft folder with nothing in it but a LoRA"
    if said.get("use_dora"):
        return "does not load it: it knows no DoRA"
    ranks = [int(said.get("r", 0)), *(int(rank) for rank in (said.get("rank_pattern") or {}).values())]
    return f"loads it, where --max-lora-rank is {max(ranks)} or more"


def _judge_llama_cpp(said: Mapping[str, Any] | None, strange: list[str]) -> str:
    if said is None or strange:
        return "a GGUF file can be made of a peft folder with nothing in it but a LoRA"
    if said.get("use_dora"):
        return "does not load it: it knows no DoRA. Merge it into the model instead"
    return "loads it once it is a GGUF file: hotlora tool convert --to gguf, or its own convert_lora_to_gguf.py"
