"""Reading other trainers' files, and finding out whose they are. Must not import torch or any host."""

import importlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.errors import UserError
from ...engine.options import build
from ...engine.places import is_ordinary_file
from .imported import Imported

if TYPE_CHECKING:
    from ..config import ImageConfig

_LARGEST_BYTES = 10_000_000
_TOML_PATH = re.compile(r'(?m)(=\s*|[\[,]\s*)"((?:[A-Za-z]:|\\)\\[^"\n]*)"')
_READERS = ("tomllib", "tomli", "toml", "tomlkit")  # the first is Python's own from 3.11 on


def convert_file(path: Path, config_class: "type[ImageConfig]") -> Imported:
    """Another trainer's recipe as our options.

    Raises:
        UserError: for a file that cannot be read or is none of theirs, and for what cannot be trained here at all.
    """
    from . import kohya, onetrainer

    content = read_file(path)

    def check(values: Any) -> Any:
        return build(config_class, values)

    for trainer in (onetrainer, kohya):
        if trainer.is_recipe(content):
            try:
                return trainer.convert(content, path.parent).finish(check)
            except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError) as error:
                reason = f"it holds a value of a kind that no trainer writes there ({type(error).__name__}: {error})"
                raise UserError(f"cannot import '{path}': {reason}. Save it from that trainer again.") from error
    raise UserError(
        f"cannot import '{path}': none of its keys is known from kohya_ss, sd-scripts, lora-scripts or OneTrainer. Give one of their files."
    )


def is_foreign(path: Path) -> bool:
    """Whether a file is one of other trainers, by its name."""
    return path.suffix.lower() in (".toml", ".json")


def read_file(path: Path) -> Any:
    """JSON or TOML as plain values. Raises UserError."""
    start = f"cannot import '{path}'"
    if not path.exists():
        raise UserError(f"{start}: there is no such file. Check its name.")
    if not is_ordinary_file(path):
        raise UserError(f"{start}: it is no file. Give a JSON or TOML file.")
    if path.suffix.lower() in (".yaml", ".yml"):
        raise UserError(f'{start}: YAML is what HotLoRA reads itself. Give it to python train.py --config "{path}" --check.')
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(f"{start}: it is larger than any recipe. Give a JSON or TOML file.")
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{start}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}. Save it as UTF-8.") from None
    try:
        if text.lstrip().startswith(("{", "[")) and path.suffix.lower() != ".toml":
            return json.loads(text)
        return _read_toml(text)
    except UserError:
        raise
    except Exception as error:  # each reader has its own kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{start}: it is neither JSON nor TOML ({reason}). Mend it there.") from None


def _read_toml(text: str) -> Any:
    def mend(match: re.Match) -> str:
        single = "\\" in match[2].replace("\\\\", "") and "'" not in match[2]
        return f"{match[1]}'{match[2]}'" if single else match[0]

    text = _TOML_PATH.sub(mend, text)
    for name in _READERS:
        try:
            reader = importlib.import_module(name)
        except ImportError:
            continue
        content = reader.loads(text)
        return content.unwrap() if hasattr(content, "unwrap") else content
    raise UserError("cannot read TOML: this Python has nothing that does. Install tomli, or use Python 3.11 or newer.")
