"""Files that only unpickling can read, which may hold programs: read where torch itself keeps those from running."""

from pathlib import Path
from typing import Any

import torch

from .errors import UserError

_SAFE_SINCE = (2, 6)  # before, `weights_only` could be got around: CVE-2025-32434


def load_pickled(path: Path, *, mmap: bool = False) -> Any:
    """What torch has saved there, on the CPU.

    Raises:
        UserError: where this torch would run what is in it. For damaged files and those that hold more than weights, whatever torch raises.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _SAFE_SINCE:
        raise UserError(
            f"cannot read '{path}': with torch {torch.__version__}, programs in such a file can run (CVE-2025-32434). "
            "Use the .safetensors file, or install torch 2.6 or newer."
        )
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mmap)
