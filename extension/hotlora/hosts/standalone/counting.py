"""How many tokens a caption has, by CLIP's vocabulary, which the package holds: no model is loaded for it. All versions of Stable Diffusion
share that vocabulary."""

import functools
from pathlib import Path
from typing import Any

from ...engine.libraries import wait_for_libraries

_VOCABULARY = Path(__file__).parent / "checkpoints" / "configs" / "tokenizer"


@functools.lru_cache(maxsize=20_000)
def count_tokens(caption: str) -> int:
    """Without special ones."""
    return len(_load_tokenizer()(caption, add_special_tokens=False, verbose=False).input_ids)


@functools.lru_cache(maxsize=1)
def _load_tokenizer() -> Any:
    wait_for_libraries()
    import transformers

    return transformers.CLIPTokenizerFast.from_pretrained(str(_VOCABULARY), local_files_only=True)
