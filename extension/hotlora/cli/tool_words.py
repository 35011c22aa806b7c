"""The words of ``hotlora tool``: what each tool takes. What they do is in the room ``toolbox``; must not import it, nor torch."""

import argparse
from pathlib import Path

TOOLS = {
    "info": "Everything in a LoRA: kind, ranks, model family, precision, metadata.",
    "check": "Will it load? A line for each program, with what it would drop and why.",
    "resize": "Make a LoRA smaller: at one rank, or at one that each layer chooses.",
    "merge": "Add several LoRAs up into one, each at its weight.",
    "extract": "Make a LoRA of the difference of two models.",
    "bake": "Put LoRAs into a model's own weights, as a new file.",
    "judge": "Which checkpoint of a run is the best, and does it copy? Losses of each, and its samples against the training pictures.",
    "convert": "Write an image LoRA in another form: kohya's, diffusers' or peft's; or a text LoRA as GGUF, for llama.cpp and KoboldCpp.",
}


def add_tool_options(parser: argparse.ArgumentParser) -> None:
    """A word of its own for each tool."""
    words = parser.add_subparsers(dest="tool", required=True, metavar="TOOL")
    parsers = {name: words.add_parser(name, help=about, description=about) for name, about in TOOLS.items()}
    for name in ("info", "check", "resize", "convert"):
        parsers[name].add_argument("lora", type=Path, help="a LoRA file, or the folder of a peft adapter")
    parsers["judge"].add_argument("run", type=Path, help="a run's folder; its model and its data are where they were")
    parsers["judge"].add_argument("--samples", type=int, default=4, help="pictures to draw with each checkpoint; 0 for none (default: 4)")
    parsers["judge"].add_argument("--embedder", type=Path, help="the folder of a CLIP or DINOv2 model, by which samples are compared too")
    parsers["info"].add_argument("--json", action="store_true", help="everything, as JSON")
    parsers["merge"].add_argument("loras", type=Path, nargs="+", metavar="LORA", help="LoRA files, or folders of peft adapters")
    parsers["bake"].add_argument("loras", type=Path, nargs="+", metavar="LORA", help="likewise; of a language model one adapter")
    parsers["bake"].add_argument("--base", type=Path, required=True, help="a checkpoint file, or the folder of a language model")
    for name in ("merge", "bake"):
        parsers[name].add_argument("--weights", type=float, nargs="+", metavar="WEIGHT", help="of each, in order; 1 when not said")
    parsers["extract"].add_argument("--base", type=Path, required=True, help="the model as it was: a checkpoint file or a model folder")
    parsers["extract"].add_argument("--tuned", type=Path, required=True, help="the model after training")
    parsers["convert"].add_argument(
        "--to", choices=("kohya", "diffusers", "peft", "gguf"), required=True, help="the form to write; gguf of text LoRAs"
    )
    parsers["convert"].add_argument("--base", type=Path, help="gguf: the base model's folder, where it is not where the adapter says")
    for name in ("resize", "merge", "extract"):
        _add_size(parsers[name], name)
    for name in ("resize", "merge", "extract", "bake", "convert"):
        _add_output(parsers[name])
    for name in ("info", "check", "resize", "merge", "convert"):
        parsers[name].add_argument("--family", choices=("sd1", "sd2", "sdxl"), help="of an image LoRA, where it is found out wrongly")


def _add_size(parser: argparse.ArgumentParser, name: str) -> None:
    most = "at most this rank; all of it when not said" if name == "merge" else "this rank, or with one of the next three at most this rank"
    parser.add_argument("--rank", type=int, required=name == "extract", help=most)
    parser.add_argument("--conv-rank", type=int, help="the same of 3x3 convolutions; as --rank when not said")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--sv-ratio", type=float, metavar="RATIO", help="keep singular values down to 1/RATIO of a layer's largest")
    choice.add_argument("--sv-fro", type=float, metavar="SHARE", help="keep this share of a layer's Frobenius norm")
    choice.add_argument("--sv-cumulative", type=float, metavar="SHARE", help="keep this share of the sum of a layer's singular values")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="file or folder to write")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), help="of what is written; as it was when not said")
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --output")


def find_tool_mistake(options: argparse.Namespace) -> str:
    """What no option shows by itself; empty where all is well."""
    chosen = any(getattr(options, key, None) is not None for key in ("sv_ratio", "sv_fro", "sv_cumulative"))
    if options.tool == "resize" and options.rank is None and not chosen:
        return "give --rank, or one of --sv-ratio, --sv-fro and --sv-cumulative"
    if options.tool == "merge" and options.rank is None and (chosen or options.conv_rank is not None):
        return "give --rank as well: the most that a layer may have"
    return ""
