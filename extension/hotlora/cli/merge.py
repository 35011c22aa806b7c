"""``hotlora merge``: a whole language model with a LoRA in it.

For programs that load no adapters, or to convert to GGUF. Where adapters are loaded, keep the adapter: it is small, and can be taken off.
"""

import argparse

from ..hosts.standalone.merging import merge_adapter


def run(options: argparse.Namespace) -> int:
    """Merge; returns the exit code. Raises UserError."""
    told = merge_adapter(options.adapter, options.base, options.output)
    print(*([f"note: {told}"] if told else []), f"The merged model is in {options.output}.", sep="\n")
    return 0
