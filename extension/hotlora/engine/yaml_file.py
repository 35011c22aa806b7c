"""YAML as people write it: a number keeps its spelling, `no` stays a word, a date is text, and whatever is wrong is a sentence.

Must import nothing of ours but ``engine``.
"""

import codecs
import re
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError
from .places import is_ordinary_file

_LARGEST_BYTES = 4_000_000  # of a run file; the longest lists of prompts have some kilobytes
_LONGEST_NUMBER = 40
_TOML_LINE = re.compile(r"(?m)^\s*(\[\[?[\w.\- \"]+\]\]?\s*(#.*)?$|[\w.\-]+\s*=\s*\S)")
_COPIED_PATH = re.compile(r'(?m)(^\s*(?:[\w-]+\s*:|-)\s+|^)"((?:[A-Za-z]:|\\)\\[^"\n]*)"(?=\s*(?:#.*)?$)')
_COMMENT = re.compile(r"(?:^|\s)#")
_DEEP = re.compile(r"(?:[\[{]\s*){60}|^(?:[-?] ){60}", re.MULTILINE)
_ADVICE = (  # part of PyYAML's message -> what to do
    ("\\t", "Indent with spaces instead of tabs."),
    ("escape character", "Put paths with backslashes in single quotes."),
    ("mapping values are not allowed", "Put the value in quotes where it holds a colon, or look for a missing line break."),
    ("but found another document", "Leave out the second '---'."),
    ("could not find expected ':'", "Write 'key: value' there, with a plain colon and a plain space behind it."),
    ("special characters are not allowed", "Type that part anew, and save the file as plain text with the encoding UTF-8."),
    ("undefined alias", "Put the value in quotes: it begins with an asterisk."),
    ("cannot start any token", "Put the value in quotes: it begins with a character that YAML keeps for itself."),
    ("while scanning a quoted", "Close the quote."),
)


class WrittenInt(int):
    """A whole number that knows how it was written."""

    text = ""


class WrittenFloat(float):
    """A number that knows how it was written."""

    text = ""


def as_written(value: Any) -> str:
    """A number or text as it stands in the file: `1.10`, not 1.1."""
    return getattr(value, "text", "") or str(value)


def read_yaml(path: Path, notes: list[str] | None = None) -> dict[str, Any]:
    """A YAML file of options.

    Args:
        notes: where to say what people should know about it: a key that stands in it twice.

    Raises:
        UserError: for a missing or malformed one, and for other trainers' files, saying how to convert them.
    """
    text = _read_text(path)
    if path.suffix.lower() in (".toml", ".json"):
        _refuse_foreign(path, path.suffix[1:].upper())
    try:
        values = _load(text, notes)
    except UserError as error:
        if _looks_like_toml(text):
            _refuse_foreign(path, "TOML")
        raise UserError(f"cannot read '{path}': {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        if _looks_like_toml(text):
            _refuse_foreign(path, "TOML")
        raise UserError(f"cannot read '{path}': it must be lines of 'key: value', with a space behind the colon. Write it so.")
    return values


def read_value(text: str) -> Any:
    """A single value as YAML would read it; the text itself where that is no YAML, or would lose what stands behind a `#`."""
    if _COMMENT.search(text) and not text.startswith(("'", '"', "[", "{")):
        return text
    try:
        return _load(text, None)
    except UserError:
        return text


def _load(text: str, notes: list[str] | None) -> Any:
    """Raises UserError with the reason, for whatever PyYAML raises."""
    loader = None
    if _DEEP.search(text):  # it would only be refused after seconds
        raise UserError("it is nested too deeply. Write it as lines of 'key: value'.")
    try:
        loader = _Loader(_mend_copied_paths(text))
        loader.notes = [] if notes is None else notes
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise UserError(_explain(error)) from None
    except RecursionError:
        raise UserError("it is nested too deeply. Write it as lines of 'key: value'.") from None
    except Exception as error:  # PyYAML lets through whatever its constructors raise
        raise UserError(f"it holds a value that is not what its tag says ({type(error).__name__}: {error}). Leave out the '!!…'.") from None
    finally:
        if loader is not None:
            loader.dispose()


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise UserError(f"cannot read '{path}': it is a folder. Give the YAML file in it.")
        if path.exists() and not is_ordinary_file(path):
            raise UserError(f"cannot read '{path}': it is a pipe or a device. Give a YAML file.")
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(f"cannot read '{path}': it is larger than any run file. Give the YAML file with the run's options.")
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"cannot read '{path}': there is no such file. Check its name.") from None
    except UnicodeDecodeError as error:
        reason = f"it is not valid YAML: byte {error.start} is not UTF-8"
        raise UserError(f"cannot read '{path}': {reason}. Save it with the encoding UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise UserError(f"cannot read {str(path)!r}: {reason}. Check its name and rights.") from None


def _mend_copied_paths(text: str) -> str:
    r"""`"C:\new\table"` as Windows copies paths: in YAML's double quotes that would be a line break and a tab."""

    def mend(match: re.Match) -> str:
        path = match[2]
        if "\\" not in path.replace("\\\\", ""):
            return match[0]  # every backslash is doubled, as YAML wants it
        return f"{match[1]}'" + path.replace("'", "''") + "'"

    return _COPIED_PATH.sub(mend, text)


def _looks_like_toml(text: str) -> bool:
    return len(_TOML_LINE.findall(text)) > 0 and not re.search(r"(?m)^[\w-]+:\s", text)


def _refuse_foreign(path: Path, kind: str) -> None:
    raise UserError(
        f"cannot read '{path}' as a run file: it is {kind}, as other trainers write it, and this is YAML. "
        f'Convert it by python tools/import_recipe.py "{path}".'
    )


def _explain(error: yaml.YAMLError) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    context = " ".join(str(getattr(error, "context", None) or "").split())
    place = "context_mark" if "simple key" in context else "problem_mark"  # a line that has no colon is noticed at the next one
    mark = getattr(error, place, None)
    where = f"line {mark.line + 1}: " if mark else ""
    whole = f"{context} {problem}"
    advice = next((text for part, text in _ADVICE if part in whole), "Mend it there.")
    return f"it is not valid YAML ({where}{problem}). {advice}"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of numbers and words instead of 1.1's, where 1e-4 is text, 010 is eight, and `no` is false."""

    notes: list[str]

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    self.notes.append(f"'{key.value}' stands in the file twice; the last one counts (line {key.start_mark.line + 1}).")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> Any:
        text = self.construct_scalar(node)
        if len(text) > _LONGEST_NUMBER:
            return text  # whoever wants a number says that it is none
        number = WrittenInt(text)
        number.text = text
        return number

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        text = self.construct_scalar(node)
        number = WrittenFloat(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        number.text = text
        return number


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("merge", r"<<$", "<"),
    ("null", r"(?:~|null|Null|NULL|)$", "~nN"),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), [*_first, ""] if _tag == "null" else list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
for _class, _represent in ((WrittenInt, yaml.SafeDumper.represent_int), (WrittenFloat, yaml.SafeDumper.represent_float)):
    yaml.SafeDumper.add_representer(_class, _represent)
