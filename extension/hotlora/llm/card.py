"""The adapter's README.md, as model hubs show it: what it was trained on and how, how it did, how it is used."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from ..engine.options import options_of
from .config import TextConfig

if TYPE_CHECKING:
    from .peft_folder import Origin

_TOLD: tuple[str, ...] = ("target_modules", "lora_rank", "lora_alpha", "use_rslora", "use_dora", "lora_start", "epochs", "max_steps")
_TOLD += ("batch_size", "rank_pattern", "alpha_pattern", "train_experts", "template_args", "template_date")
_TOLD += ("gradient_accumulation_steps", "learning_rate", "optimizer", "scheduler", "train_on", "max_tokens", "neftune_alpha", "seed")


def write_card(config: TextConfig, origin: "Origin", notes: Mapping[str, Any], loads: Sequence[str] = ()) -> str:
    """Markdown with a YAML header. Of the base model's folder only the name is told: where it lies is the user's affair.

    Args:
        loads: a line for each program, whether it loads this folder.
    """
    base = PurePath(origin.base.replace("\\", "/")).name
    header = {"base_model": base, "library_name": "peft", "pipeline_tag": "text-generation", "tags": ["lora", "hotlora"]}
    told = {name: getattr(config, name) for name in options_of(type(config)) if name in _TOLD}
    used = [
        "```python",
        "from peft import AutoPeftModelForCausalLM",
        f'model = AutoPeftModelForCausalLM.from_pretrained("{config.name}")  # this folder',
        "```",
        "",
        "In text-generation-webui put this folder into `user_data/loras`, load the base model with the Transformers loader, and apply it.",
        *(
            ["", f"Conversations are written with the template in `chat_template.jinja`{_say_arguments(config)}."]
            if origin.template
            else []
        ),
    ]
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {config.name}\n\nA LoRA for {base}, trained with HotLoRA.\n",
        f"## Use\n\n{chr(10).join(used)}\n",
        f"## Who loads it\n\n{chr(10).join(f'- {line}' for line in loads)}\n" if loads else "",
        _table("Data", origin.facts),
        _table("Training", [("steps", f"{notes['step']} of {notes['total_steps']}"), ("training loss", f"{notes['loss']:.4f}")]),
        _table("Results", [(name, f"{value:.4g}") for name, value in notes["scores"].items()]),
        _table("Options", [(name, value) for name, value in told.items() if value not in (None, "", {})]),
        f"The weights of the base model it was trained on have the fingerprint `{origin.fingerprint}`.\n",
    ]
    return "\n".join(part for part in parts if part)


def _say_arguments(config: TextConfig) -> str:
    """What the template was told: whoever asks without it asks otherwise than was trained."""
    told = ", ".join(f"`{name}={value}`" for name, value in config.template_args.items())
    return f", which is told {told}" if told else ""


def _table(title: str, rows: Any) -> str:
    lines = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines, ""]) if lines else ""
