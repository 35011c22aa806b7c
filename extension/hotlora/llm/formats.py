"""Reading text data sets: one file, or a folder of them. What a file holds is found out, not asked for.

Owns which files count, and collecting what is wrong with them, so that people hear of all of it at once.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ..engine.encodings import Encoding
from ..engine.errors import UserError
from ..engine.file_heads import look_at_head, look_at_text
from ..engine.plurals import counted
from .config import TextConfig
from .conversation import Conversation, Document
from .encodings import check_encoding, find_encoding
from .errors import RowError
from .located import LeftOut, Located
from .readers import OFFICE_SUFFIXES, TEXT_SUFFIXES, read_rows
from .rows import USES, explain_unused, read_row
from .threads import climb, is_message, is_tree, plant_trees

SUFFIXES = (*TEXT_SUFFIXES, *OFFICE_SUFFIXES)
ACCEPTED = (
    "It takes questions and answers, conversations or texts in .json, .jsonl, .csv, .tsv, .xlsx and .parquet files, and plain text in "
    ".txt, .md, .docx and .pdf."
)

_ROWS, _PACKED = "Export it as JSON lines (.jsonl)", "Unpack it"
_ADVICE = {
    **dict.fromkeys((".doc", ".odt", ".rtf", ".pages"), "Save it as Word document (.docx) or plain text (.txt)"),
    **dict.fromkeys((".html", ".htm", ".epub"), "Save it as plain text (.txt)"),
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), "Save it as Excel workbook (.xlsx) or CSV"),
    **dict.fromkeys((".arrow", ".feather", ".db", ".sqlite", ".pkl", ".yaml", ".yml", ".xml"), _ROWS),
    **dict.fromkeys((".zip", ".gz", ".zst", ".bz2", ".xz", ".7z", ".tar", ".rar"), _PACKED),
}
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying)([-.]\w+)*?(\.(md|txt|rst|html|pdf))?|(config|\w+_config|dataset_infos?|dataset_dict)\.json", re.IGNORECASE
)
_CLUTTER = re.compile(r"thumbs\.db|desktop\.ini|~\$.*", re.IGNORECASE)  # what Windows and Office leave in folders
_WORD = re.compile(r"[^\W\d_]+")
_UNMAPPED = "columns: no file has what it names ({columns}), so all were read by the names that they have."
_SHOWN_PROBLEMS, _NAMED = 20, 3


@dataclass
class Texts:
    """What a place holds.

    Attributes:
        examples: to be trained on, in the order of files and rows.
        aside: examples for "validation" and "test", as their files, columns or keys say.
        problems: what cannot be used, a sentence each.
        formats: how many of ``examples`` are of each shape.
        encodings: what files are in that are not UTF-8, by their names.
        noted: what is to be said about examples, as ends of sentences, with the sources of those it holds for.
        unused: keys that nothing was made of, with the sources of the rows that have them.
        left_out: why something is not read though nothing is wrong with it, with its places.
        mapped: whether the option `columns` gave a column its name.
        bad: why something cannot be used, with its places: `problems` once more, in parts.
    """

    examples: list[Conversation | Document] = field(default_factory=list)
    aside: dict[str, list[Conversation | Document]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    formats: dict[str, int] = field(default_factory=Counter)
    encodings: dict[str, str] = field(default_factory=dict)
    noted: dict[str, list[str]] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    mapped: bool = False
    bad: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, place: str, reason: str) -> None:
        """Note why something cannot be used. ``reason``: the end of a sentence."""
        place, reason = _printable(place), _printable(reason)
        self.problems.append(f"{place}: {reason}.")
        self.bad.setdefault(reason, []).append(place)

    def notes(self) -> list[str]:
        """What people should know and what stops nothing, a sentence each."""
        told = explain_unused(self.unused)
        left_out = [f"{_name_first(places)}: {reason}." for reason, places in self.left_out.items()]
        return [*list_notes(self.noted), *left_out, *([told] if told else [])]


def list_notes(noted: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each kind: how many, what about them, and the first names."""
    return [f"{counted(len(sources), 'example')} {kind}: {_name_first(sources)}." for kind, sources in noted.items()]


def _name_first(sources: Sequence[str]) -> str:
    return f"{'; '.join(sources[:_NAMED])}{' …' * (len(sources) > _NAMED)}"


def read_texts(place: Path, config: TextConfig) -> Texts:
    """All examples in a file, or in a folder and those below it; what is hidden there is passed over.

    A folder's README, licence and settings are left out, which `problems` says too but which stops nothing. Files called `test` or
    `validation` beside others are kept aside.

    Raises:
        UserError: where there is nothing, or (unless ``on_bad_data`` is ``skip``) where something cannot be used, with all of it.
    """
    if config.encoding and not check_encoding(config.encoding):
        raise UserError(f"cannot read texts in '{config.encoding}': there is no such encoding. Set encoding to one such as gbk or cp1251.")
    files, texts = find_files(place), Texts()
    about = [name for name, path in files if path != place and _ABOUT.fullmatch(path.name)]
    uses = _find_uses([name for name, path in files if path != place and name not in about])
    for name, path in files:
        if name not in about:
            _read_file(path, name, texts, _Told(config.encoding, uses.get(name, ""), config.columns))
    notes = [] if texts.mapped or not config.columns else [_UNMAPPED.format(columns=", ".join(config.columns.values()))]
    notes += [f"{name}: it is about the data, so it was left out. Give it another name to train on it." for name in about]
    if not texts.examples and texts.aside:  # nothing else is there
        texts.examples = [example for examples in texts.aside.values() for example in examples]
        texts.aside = {}
    if not texts.examples:
        said = _list([*texts.problems, *notes, *texts.notes()])
        raise UserError(f"cannot train on '{place}': nothing in it can be used. {ACCEPTED}{said}")
    if texts.problems and config.on_bad_data == "stop":
        raise UserError(f"cannot use all of '{place}':{_list(texts.problems)}\nMend that, or set on_bad_data: skip to go on without.")
    texts.problems.extend(notes)
    return texts


def _find_uses(names: Sequence[str]) -> dict[str, str]:
    """Names of files -> "validation" or "test", where they or their folders are called so and others beside them are not.

    `test.jsonl` says it alone; `faq_test.jsonl` only beside a `faq_train.jsonl`: somebody's questions about tests are to be learned.
    """
    weakly = {name: _list_uses(name, strict=False) for name in names}
    is_parted = any("train" in said for said in weakly.values())
    told = weakly if is_parted else {name: _list_uses(name, strict=True) for name in names}
    trained = {rest for name in names for use, rest in _part_names(name) if use == "train"}
    told = {name: said or [use for use, rest in _part_names(name) if rest in trained] for name, said in told.items()}
    uses = {name: next((use for use in said if use != "train"), "") for name, said in told.items()}
    return {name: use for name, use in uses.items() if use} if not all(uses.values()) else {}


def _list_uses(name: str, *, strict: bool) -> list[str]:
    """What a file's name says that it is for, and its folders' names; ``strict``: where it says nothing else."""
    *folders, stem = name.rpartition(".")[0].lower().split("/")
    words = [word for word in _WORD.findall(stem) if word != "of"]  # train-00000-of-00002
    said = [*folders, *(words if len(words) == 1 else [] if strict else [*words[:1], *words[-1:]])]
    return [USES[word] for word in said if word in USES]


def _part_names(name: str) -> list[tuple[str, str]]:
    """(use, the rest of the name) for each word in it that says one: `faq_test_v2` and `faq_train_v2` have one rest."""
    stem = name.rpartition(".")[0].lower()
    return [(USES[word.group()], f"{stem[: word.start()]}*{stem[word.end() :]}") for word in _WORD.finditer(stem) if word.group() in USES]


def find_files(place: Path) -> list[tuple[str, Path]]:
    """Files with the names people know them by, in the same order on every system."""
    try:
        if place.is_file():
            return [(_printable(place.name), place)]
        if not place.is_dir():
            raise UserError(f"cannot read '{place}': there is no such file or folder. {ACCEPTED}")
        found = [(path.relative_to(place), path) for path in place.rglob("*") if path.is_file()]
    except OSError as error:
        raise UserError(f"cannot read '{place}': {error.strerror or error}. Check the path and who may read it.") from error
    hidden = [any(part.startswith(".") for part in name.parts) or _CLUTTER.fullmatch(name.name) for name, _ in found]
    visible = [(_printable(name.as_posix()), path) for (name, path), is_hidden in zip(found, hidden, strict=True) if not is_hidden]
    if not visible:
        raise UserError(f"cannot train on '{place}': the folder is empty. Put the data into it. {ACCEPTED}")
    return sorted(visible)


class _Told(NamedTuple):
    """What options and names of files say of a file."""

    encoding: str
    use: str
    columns: Mapping[str, str]


def _read_file(path: Path, name: str, texts: Texts, told: _Told) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        kind = f"files of the kind {suffix} are" if suffix else "files without an ending such as .txt are"
        texts.refuse(name, f"{kind} not read. {_ADVICE.get(suffix, 'Convert it to text, or take it away')}")
        return
    use = told.use
    found, messages = False, []
    try:
        wrong = look_at_head(path) if suffix in OFFICE_SUFFIXES else look_at_text(path, is_prose=suffix in (".txt", ".md"))
        if wrong:
            raise RowError(f"it {wrong}")
        known = find_encoding(path, told.encoding) if suffix in TEXT_SUFFIXES else Encoding("")
        if known.told:
            texts.encodings[name] = known.told
        for located in read_rows(path, known.codec, told.columns):
            found, texts.mapped = True, texts.mapped or located.mapped
            if is_message(located.row):
                messages.append((located.where, located.row))
            else:
                _add(located._replace(use=use or located.use), name, texts)
        if not found:
            raise RowError("it is empty")
    except RowError as error:
        texts.refuse(name, str(error))
    except OSError as error:
        texts.refuse(name, f"it cannot be read ({error.strerror or error})")
    for where, tree in plant_trees(messages):
        _add(Located(where, tree, use), name, texts)


def _add(located: Located, name: str, texts: Texts) -> None:
    source, row = f"{name}, {located.where}" if located.where else name, located.row
    if isinstance(row, LeftOut):
        texts.left_out.setdefault(row, []).append(_printable(source))
        return
    try:
        if isinstance(row, RowError):
            raise row
        if is_tree(row):
            row, left = climb(row)
            if left:
                _note(texts, "of a tree whose other replies, which people ranked lower, are not learned", source)
        read = read_row(row, source)
    except RowError as error:
        texts.refuse(source, str(error))
        return
    except RecursionError:
        texts.refuse(source, "it has too many lists or objects in each other")
        return
    for note in (*read.notes, *([located.note] if located.note else ())):
        _note(texts, _printable(note), source)
    for key in dict.fromkeys(read.unused):
        texts.unused.setdefault(_printable(key), []).append(source)
    use = located.use or read.use
    if read.example is None:
        return
    example = replace(read.example, file=name, origin=read.origin)
    if use in ("validation", "test"):
        texts.aside.setdefault(use, []).append(example)
    else:
        texts.examples.append(example)
        texts.formats[read.shape] += 1


def _note(texts: Texts, kind: str, source: str) -> None:
    known = texts.noted.setdefault(kind, [])
    if not known or known[-1] != source:
        known.append(source)


def _printable(text: str) -> str:
    """Names of files, and what stands in them, may be no text at all; messages must be."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _list(problems: list[str]) -> str:
    """The first of them, a line each."""
    rest = len(problems) - _SHOWN_PROBLEMS
    lines = [*problems[:_SHOWN_PROBLEMS], *([f"and {rest} more"] if rest > 0 else [])]
    return "".join(f"\n- {line}" for line in lines)
