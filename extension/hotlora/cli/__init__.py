"""``hotlora train | check | ui | search | grid | label | class | questions | merge | tool | options``: the words of the command line. What
each does is in the file of its name, or the one that it is given below.

Those files are imported when their command is called, so that ``--help`` and a mistyped option are answered at once: must not import
torch, Gradio or any other heavy library.
"""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from .. import __version__
from ..captioning.captioner import DEFAULT_MODEL
from ..engine.errors import UserError
from ..engine.launch import count_launched
from ..tasks import TASKS
from .tool_words import add_tool_options, find_tool_mistake

_ENVIRONMENT = {
    # Waiting OpenMP threads spin by default; where anything else uses the processor, that makes steps several times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TRANSFORMERS_VERBOSITY": "error",  # its notes are about picture processors that nobody uses here
    "GRADIO_ANALYTICS_ENABLED": "False",
}


@dataclass(frozen=True)
class Command:
    """One word of the command line."""

    about: str
    module: str  # of this package; its ``run`` takes the options and returns the exit code
    add_options: Callable[[argparse.ArgumentParser], None]
    find_mistake: Callable[[argparse.Namespace], str] = lambda options: ""  # what no option shows by itself
    needs: str = ""  # a package that is not there unless it was asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for something the user can mend, 1 for a bug."""
    parser = argparse.ArgumentParser(prog="hotlora", description="LoRA training, from a YAML file or a page in the browser.")
    parser.add_argument("--version", action="version", version=f"HotLoRA {__version__}")
    words = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {name: words.add_parser(name, help=command.about, description=command.about) for name, command in COMMANDS.items()}
    for name, command in COMMANDS.items():
        command.add_options(parsers[name])
    options = parser.parse_args(arguments)
    return _run(COMMANDS[options.command], options, parsers[options.command])


def run_door(name: str, arguments: Sequence[str] | None = None) -> int:
    """One command under a file's own name, such as ``train.py``; returns the exit code."""
    command = COMMANDS[name]
    parser = argparse.ArgumentParser(description=command.about)
    command.add_options(parser)
    return _run(command, parser.parse_args(arguments), parser)


def _run(command: Command, options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if mistake := command.find_mistake(options):
        parser.error(mistake)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels it could download, and of every product in 8 bits
    try:
        if command.needs and not find_spec(command.needs):
            raise UserError(f"cannot {command.about[0].lower()}{command.about[1:-1]}: the package {command.needs} is missing. Install it.")
        if command.module != "train" and (count := count_launched()) > 1:
            raise UserError(f"cannot do this in {count} processes: only training can be divided. Start it as one, without a launcher.")
        return import_module(f"{__name__}.{command.module}").run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as error:  # some libraries end the program where they should raise, even as if all had gone well
        traceback.print_exc()
        print(f"error: This failed because of a bug (SystemExit: {error}). Details are above.", file=sys.stderr)
        return 1


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML file with the run's options")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one option; may be repeated")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with the run in this output_dir")


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    _add_run_options(parser)
    parser.add_argument(
        "--check", action="store_true", help="check options, data and memory, say what training would take, and train nothing"
    )


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    _add_run_options(parser)
    parser.set_defaults(check=True)


def _miss_a_run(options: argparse.Namespace) -> str:
    return "" if options.config or options.resume else "give --config FILE or --resume RUN"


def _add_ui_options(parser: argparse.ArgumentParser) -> None:
    labels = [task.label for task in TASKS.values()]
    parser.add_argument("--task", choices=labels, default=labels[0], help="what is trained (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("hotlora"), help="where runs, data sets and presets go (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; beyond this computer only --data folders are read")
    parser.add_argument("--port", type=int, default=7862)
    parser.add_argument(
        "--data", type=Path, action="append", default=[], metavar="FOLDER", help="a folder that runs may read; may be repeated"
    )
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="ask for this name and password")
    parser.add_argument("--allow-anyone", action="store_true", help="listen beyond this computer without a password")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name that leads here, as of a proxy")


def _add_label_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", required=True, metavar="FOLDER", help="folder with pictures, searched recursively")
    parser.add_argument("--output", type=Path, metavar="FILE", help="csv file to write (default: metadata.csv in the folder)")
    parser.add_argument(
        "--captioner",
        default="blip",
        choices=("blip", "onnx", "endpoint", "names"),
        help="who looks at the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of captions, such as tagger_folder; may be repeated"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="BLIP captioning model: a folder or a hub name (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures captioned at once (default: 8)")
    parser.add_argument("--trigger", default="", metavar="WORD", help="word put before every new caption, with a comma")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="text put before every new caption, such as 'a drawing of'")
    parser.add_argument(
        "--missing-only",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave captions alone that an earlier run wrote; captions by people are always left alone",
    )
    parser.add_argument("--overwrite-machine", dest="missing_only", action="store_false", help="the same as --no-missing-only")


def _miss_a_batch(options: argparse.Namespace) -> str:
    return "" if options.batch_size >= 1 else "--batch-size must be at least 1"


def _miss_a_trial(options: argparse.Namespace) -> str:
    return "--trials must be at least 1" if options.trials is not None and options.trials < 1 else ""


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the run's options, the trial to beat")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one option; may be repeated")
    parser.add_argument("--budget", default="1h", metavar="TIME", help="how long to search, such as 2h, 20m or 90s (default: %(default)s)")
    parser.add_argument("--trials", type=int, metavar="N", help="try so many other settings at most")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the search; gone on with where it is there (default: RUN-search)")
    parser.add_argument(
        "--over", action="append", default=[], metavar="KEY=VALUES", help="search KEY over A,B,C or LOW..HIGH; may be repeated"
    )
    parser.add_argument("--keep", action="append", default=[], metavar="KEY", help="leave this option as it is; may be repeated")
    parser.add_argument(
        "--pruner", choices=("median", "hyperband"), default="median", help="which runs are cut short (default: %(default)s)"
    )


def _add_merge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, required=True, help="the LoRA's folder")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the model it was trained on, unquantised")
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")


def _add_grid_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", dest="folder", help="the run's folder; its model is where it was")
    parser.add_argument("--rows", default="prompt", help="checkpoint, weight, prompt, seed or cfg (default: %(default)s)")
    parser.add_argument("--columns", default="checkpoint", help="another one of those (default: %(default)s)")
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="NAME", help="such as 'step 250', best, finished; all when not said")
    parser.add_argument("--weight", type=float, nargs="+", default=[1.0], help="of the LoRA; 0 is without it (default: 1)")
    parser.add_argument("--prompt", nargs="+", default=[], help="the run's sample_prompts when not said")
    parser.add_argument(
        "--questions", type=int, metavar="N", help="of texts: so many of the data too, graded; 5 where there are no prompts"
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[], help="each prompt's own, or sample_seed, when not said")
    parser.add_argument("--cfg", type=float, nargs="+", default=[], help="each prompt's own, or sample_cfg, when not said")
    parser.add_argument("--count", action="store_true", help="say how many samples are missing and how long they take; make none")


def _add_class_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="the run file: its model, sampler and size of samples are taken")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one option; may be repeated")
    parser.add_argument("--words", nargs="+", required=True, metavar="TEXT", help="class words, such as person; several are taken in turn")
    parser.add_argument("--folder", type=Path, required=True, help="where they go, each with its words as caption")
    parser.add_argument("--count", type=int, default=100, help="pictures in all; what is there is not drawn again (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first; each further one has the next (default: sample_seed)")


def _add_question_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="a run file of texts: its model and chat template are taken")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one option; may be repeated")
    parser.add_argument("--documents", type=Path, required=True, help="a folder of documents, or one of them")
    parser.add_argument("--folder", type=Path, required=True, help="where the rows go, to be reviewed")
    parser.add_argument(
        "--ask", action="append", default=[], metavar="KEY=VALUE", help="how they are written, such as questions_per_passage=3"
    )


def _add_options_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--into", type=Path, metavar="FILE", help="write them between their markers in this Markdown file instead")


COMMANDS = {
    "train": Command("Train a LoRA adapter from a YAML file.", "train", _add_train_options, _miss_a_run),
    "check": Command("Check a run's options, data and memory, and train nothing.", "train", _add_check_options, _miss_a_run),
    "ui": Command("Open the training page.", "ui", _add_ui_options, needs="gradio"),
    "search": Command("Search a run's best settings by its kept-back loss.", "search", _add_search_options, _miss_a_trial, "optuna"),
    "grid": Command("Draw a run's checkpoints side by side, or their answers.", "grid", _add_grid_options),
    "label": Command("Write filename,prompt for every picture that has no caption yet.", "label", _add_label_options, _miss_a_batch),
    "class": Command("Draw regularisation pictures of a class word.", "class_words", _add_class_options),
    "questions": Command("Write questions and answers about documents.", "questions", _add_question_options),
    "merge": Command("Write a whole language model with a LoRA in it.", "merge", _add_merge_options),
    "tool": Command("Look at finished LoRAs, change them, and try who loads them.", "tool", add_tool_options, find_tool_mistake),
    "beside": Command("Train a run for a program that holds the model.", "beside", lambda parser: None),
    "options": Command("Print the tables of all options.", "options", _add_options_options),
}
