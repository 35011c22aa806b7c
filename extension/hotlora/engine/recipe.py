"""A run's options from where people write them: a run that is resumed, a file, and ``KEY=VALUE`` overrides, in this order.

Must import nothing of ours but ``engine``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import RunConfig
from .errors import UserError
from .optimizers import try_optimizer
from .options import build
from .places import clean_place, is_ordinary_file
from .plurals import by_number, counted
from .run import check_unchanged, read_run_config
from .values import fold, show
from .yaml_file import read_value, read_yaml

_PROMPT_SUFFIXES = (".txt", ".text", ".prompts")
_OTHER_PROMPT_SUFFIXES = (".json", ".toml", ".yaml", ".yml", ".csv")
_LARGEST_PROMPT_FILE_BYTES = 1_000_000


def read_options(
    tasks: Mapping[str, type[RunConfig]], file: Path | None = None, overrides: Sequence[str] = (), resume: Path | None = None
) -> RunConfig:
    """A checked config, with what people should know about it in its ``notes``.

    Args:
        tasks: config class by ``task_type``; the first where none is said.

    Raises:
        UserError: for whatever is wrong with them.
    """
    notes: list[str] = []
    if resume is not None:
        resume = Path(clean_place(str(resume), "--resume"))
    values = read_run_config(resume) if resume else {}
    old = build(choose_task(values, tasks), values) if resume else None
    if file is not None:
        values.update(read_yaml(Path(clean_place(str(file), "--config")), notes))
    values.update(read_override(override) for override in overrides)
    if resume and old:
        values = _keep_to_run(values, old, resume, notes)
    values = read_prompt_files(values, notes, [Path.cwd(), *([file.absolute().parent] if file else [])])
    config = build(choose_task(values, tasks), values, tasks)
    config.notes[:0] = notes
    try_optimizer(config)
    if old:
        check_unchanged(old, config)
        config.given = frozenset()  # what init_lora may take over was settled when the run started
    return config


def _keep_to_run(values: dict[str, Any], old: RunConfig, folder: Path, notes: list[str]) -> dict[str, Any]:
    """A resumed run's options: it stays in its folder, and what it is. Raises UserError where the others want it to be of another task."""
    kept, asked = str(folder), values.get("output_dir")
    if asked and clean_place(str(asked), "output_dir", written=True) != clean_place(kept, "output_dir", written=True):
        notes.append(f"output_dir {asked} is not used: a run that is resumed stays in its folder, {kept}.")
    task = values.get("task_type")
    if task and fold(task) not in {fold(word) for word in (old.TASK, *old.TASK_SPELLINGS)}:
        raise UserError(f"cannot resume '{kept}' as task_type {show(task)}: it is a run of {old.TASK}. Leave task_type out.")
    return {**values, "output_dir": kept}


def choose_task(values: Mapping[str, Any], tasks: Mapping[str, type[RunConfig]]) -> type[RunConfig]:
    """The config class of the run's ``task_type``."""
    task = values.get("task_type")
    if task is None or (isinstance(task, str) and not task.strip()):
        return next(iter(tasks.values()))
    known = {fold(word): kind for name, kind in tasks.items() for word in (name, *kind.TASK_SPELLINGS)}
    found = known.get(fold(task)) if isinstance(task, str) else None
    if found is None:
        raise UserError(f"cannot train task_type {show(task)}: it takes one of {', '.join(tasks)}. Set task_type to one of them.")
    return found


def read_override(text: str) -> tuple[str, Any]:
    """(key, value) of ``KEY=VALUE``."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UserError(f"cannot read --set {show(text)}: it must be KEY=VALUE. Write it so.")
    return key.strip(), read_value(value.strip())


def read_prompt_files(values: Mapping[str, Any], notes: list[str], folders: Sequence[Path]) -> dict[str, Any]:
    """The options, with the lines of a file in the place of the prompt that names it. Only for people who sit at this computer:
    others could read any text here so.

    Args:
        folders: where a relative name may be meant.
    """
    prompts = values.get("sample_prompts")
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, list):
        return dict(values)
    taken: list[Any] = []
    for prompt in prompts:
        path = _find_prompt_file(prompt, folders)
        if path is None:
            taken.append(prompt)
            continue
        lines = _read_prompt_lines(path)
        notes.append(f"{counted(len(lines), 'sample prompt')} {by_number(len(lines), 'is', 'are')} read from {path}.")
        taken += lines
    return {**values, "sample_prompts": taken}


def _find_prompt_file(prompt: Any, folders: Sequence[Path]) -> Path | None:
    """The file that is named instead of a prompt. Raises UserError for one that cannot be read."""
    text = prompt.strip() if isinstance(prompt, str) else ""
    suffix = Path(text.strip("\"'")).suffix.lower()
    if "\n" in text or suffix not in (*_PROMPT_SUFFIXES, *_OTHER_PROMPT_SUFFIXES):
        return None
    path = Path(clean_place(text, "sample_prompts"))
    found = next((folder / path for folder in folders if is_ordinary_file(folder / path)), None)
    if found is None and len(text.split()) > 1 and not any(separator in text for separator in "/\\"):
        return None  # words that happen to end so
    start = f"cannot read sample prompts from '{path}'"
    if found is None:
        raise UserError(f"{start}: there is no such file. Correct sample_prompts.")
    if suffix in _OTHER_PROMPT_SUFFIXES:
        raise UserError(f"{start}: only text files with one prompt a line can be read. Write it so, and name it .txt.")
    return found


def _read_prompt_lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _LARGEST_PROMPT_FILE_BYTES:
            raise UserError(f"cannot read sample prompts from '{path}': it is larger than any list of prompts. Correct sample_prompts.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read sample prompts from '{path}': {reason}. Save it with the encoding UTF-8.") from None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise UserError(f"cannot read sample prompts from '{path}': no line of it is a prompt. Write one a line.")
    return lines
