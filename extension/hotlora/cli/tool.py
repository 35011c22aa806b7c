"""``hotlora tool NAME``: the tools for finished files. What each does is in the room ``toolbox``; here are the words around it."""

import argparse
import json
from collections.abc import Callable, Mapping

from ..engine.memory import peak_resident_bytes
from ..toolbox.adapters import check_output
from ..toolbox.baking import bake, bake_text
from ..toolbox.judging import judge
from ..toolbox.looking import check, describe, tell
from ..toolbox.opening import is_text_lora
from ..toolbox.resizing import ANY_RANK, Size
from ..toolbox.workbench import convert_file, extract_file, merge_files, resize_file


def run(options: argparse.Namespace) -> int:
    """Use the tool; returns the exit code. Raises UserError."""
    if hasattr(options, "output"):
        check_output(options.output, overwrite=options.overwrite)
    print(*_TOOLS[options.tool](options), sep="\n")
    return 0


def _show(options: argparse.Namespace) -> list[str]:
    facts = describe(options.lora, options.family or "")
    return [json.dumps(facts, indent=2, ensure_ascii=False)] if options.json else tell(facts)


def _check(options: argparse.Namespace) -> list[str]:
    return check(options.lora, options.family or "")


def _resize(options: argparse.Namespace) -> list[str]:
    return resize_file(options.lora, options.output, read_size(options), **_how(options))


def _merge(options: argparse.Namespace) -> list[str]:
    size = read_size(options) if options.rank else None
    return merge_files(options.loras, options.weights or [], options.output, size, **_how(options))


def _extract(options: argparse.Namespace) -> list[str]:
    return extract_file(options.base, options.tuned, options.output, read_size(options), precision=options.precision or "fp16")


def _bake(options: argparse.Namespace) -> list[str]:
    weights = options.weights or [1.0] * len(options.loras)
    if is_text_lora(options.loras[0]):
        plain = weights == [1.0] and not options.precision and not options.overwrite
        notes = bake_text(options.base, options.loras, options.output, plain=plain)
        return [*(f"note: {note}" for note in notes), f"The merged model is in {options.output}."]
    notes = bake(options.base, options.loras, weights, options.output, options.precision or "")
    return [
        *(f"note: {note}" for note in notes),
        f"{options.output}: written, at most {peak_resident_bytes() / 1e6:,.0f} MB of memory in use.",
    ]


def _judge(options: argparse.Namespace) -> list[str]:
    return judge(options.run, options.samples, options.embedder, say=lambda line: print(line, flush=True))


def _convert(options: argparse.Namespace) -> list[str]:
    return convert_file(options.lora, options.output, options.to, base=options.base, **_how(options))


def _how(options: argparse.Namespace) -> dict[str, str]:
    return {"precision": options.precision or "", "family": options.family or ""}


_TOOLS: Mapping[str, Callable[[argparse.Namespace], list[str]]] = {
    "info": _show,
    "check": _check,
    "resize": _resize,
    "merge": _merge,
    "extract": _extract,
    "bake": _bake,
    "judge": _judge,
    "convert": _convert,
}


def read_size(options: argparse.Namespace) -> Size:
    """What --rank and its companions say."""
    for criterion in ("sv_ratio", "sv_fro", "sv_cumulative"):
        target = getattr(options, criterion)
        if target is not None:
            return Size(options.rank or ANY_RANK, options.conv_rank, criterion, target)
    return Size(options.rank, options.conv_rank)
