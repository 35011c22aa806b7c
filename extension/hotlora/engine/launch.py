"""How the program was started: by a launcher of several processes, such as ``torchrun`` or ``accelerate launch``, and with which settings
of its own.

Must not import torch: every command asks.
"""

import os

from .errors import UserError
from .plurals import counted

_ENGINES = {"DEEPSPEED": "DeepSpeed", "FSDP": "FSDP", "MEGATRON_LM": "Megatron-LM", "PARALLELISM_CONFIG": "a parallelism config"}


def count_launched() -> int:
    """How many processes a launcher has started of this program; 1 where none has."""
    count = os.environ.get("WORLD_SIZE", "")
    return int(count) if count.isdigit() and {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys() else 1


def place_here() -> tuple[int, int]:
    """(this process's number among those on this computer, how many those are)."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def check_launch(examples_per_step: int, count: int) -> list[str]:
    """What people should know about how they have started it.

    Raises:
        UserError: where that makes no sense.
    """
    for key, engine in _ENGINES.items():
        if os.environ.get(f"ACCELERATE_USE_{key}", "").lower() in ("true", "1"):
            raise UserError(
                f"cannot train by {engine}: every process holds the whole base model here, and there is nothing of a LoRA to divide. "
                "Launch it without."
            )
    if examples_per_step < count:
        examples = counted(examples_per_step, "example")
        raise UserError(
            f"cannot train in {count} processes: a step has {examples}, and they are what is divided. Set batch_size, or "
            f"gradient_accumulation_steps, so that their product is {count} or more."
        )
    unused = {"mixed_precision": "MIXED_PRECISION", "dynamo_backend": "DYNAMO_BACKEND"}
    said = {option: os.environ.get(f"ACCELERATE_{key}", "no") for option, key in unused.items()}
    return [
        f"{option} {value} of accelerate is not used: a run goes by its own options."
        for option, value in said.items()
        if value.lower() not in ("", "no")
    ]
