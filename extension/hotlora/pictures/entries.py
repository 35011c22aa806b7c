"""The entries of `datasets`: folders with options of their own. What a run's folders are, in their order, and which options hold for each.

Looks at no disk; must not import torch, PIL or any host.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UserError
from ..engine.options import markdown_rows, option, options_of, read_values, types_by_option
from ..engine.other_names import OtherName
from ..engine.values import show

if TYPE_CHECKING:
    from .config import PictureConfig

SHARED = (  # options of a run that an entry may have otherwise, in the order that people read them
    "trigger_word",
    *("resolution", "resolutions", "flip_aug", "mask_dir"),
    *("enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"),
    *("caption_prefix", "caption_suffix", "caption_separator", "shuffle_caption", "keep_tokens", "keep_tokens_separator"),
    *("caption_dropout_rate", "caption_tag_dropout_rate", "enable_wildcard"),
)
MASK_FOLDER = ".masks"  # hidden, so that no trainer takes masks for pictures
_OTHER_NAMES = {
    **dict.fromkeys(("image_dir", "train_data_dir", "reg_data_dir", "path", "dir"), OtherName("folder")),
    **dict.fromkeys(("num_repeats", "repeat", "dataset_repeats"), OtherName("repeats")),
    **dict.fromkeys(("is_reg", "regularization", "reg"), OtherName("regularisation")),
    **dict.fromkeys(("loss_weight", "prior_loss_weight"), OtherName("weight")),
    **dict.fromkeys(("class_tokens", "class"), OtherName("class_words")),
    **dict.fromkeys(("trigger", "instance_prompt"), OtherName("trigger_word")),
    **dict.fromkeys(("metadata_file", "in_json"), OtherName("metadata_path")),
    **dict.fromkeys(("conditioning_data_dir",), OtherName("mask_dir")),
}


@dataclass
class EntryOptions:
    """What an entry has beside the options that it shares with the run."""

    folder: str = option("", "Folder with pictures, searched recursively. No other key is needed.", path=True)
    repeats: int | None = option(None, "Times an epoch shows each of them; as folders' names say when empty.", minimum=1, maximum=100_000)
    weight: float = option(1.0, "Weight of their errors in the loss.", minimum=0, maximum=1e6)
    regularisation: bool = option(
        False, "They show the class without the LoRA, as in `reg_data_dir`: as many as training pictures, without a trigger word."
    )
    class_words: str = option("", "Caption of those that have none.")
    metadata_path: str = option("", "File that names them; looked for in `folder` when empty.", path=True)


@dataclass(frozen=True)
class Source:
    """One of a run's folders, with what holds for its pictures."""

    root: Path
    use: str  # train, reg, validation
    option: str  # how people have named it
    config: "PictureConfig"  # the run's options, with its own in their place
    repeats: int | None = None  # None: as folders' names say
    weight: float = 1.0
    class_words: str = ""
    metadata_path: str = ""

    @property
    def is_reg(self) -> bool:
        return self.use == "reg"

    @property
    def mask_folder(self) -> Path:
        """Where its pictures' masks lie, if they have any."""
        return Path(self.config.mask_dir).expanduser() if self.config.mask_dir else self.root / MASK_FOLDER

    @functools.cached_property
    def by_resolution(self) -> dict[int, "PictureConfig"]:
        """The options at each resolution that its pictures are trained at."""
        sizes = self.config.resolutions or [self.config.resolution]
        return {size: self.config if size == self.config.resolution else replace(self.config, resolution=size) for size in sizes}


def list_sources(config: "PictureConfig") -> list[Source]:
    """Every folder: those to train on, then those of regularisation, then that of validation."""
    entries = list(_read_sources(config))
    sources = [source for source in entries if not source.is_reg]
    if config.train_data_dir:
        root = Path(config.train_data_dir).expanduser()
        sources.insert(0, Source(root, "train", "train_data_dir", config, metadata_path=config.metadata_path))
    if config.reg_data_dir:
        sources.append(Source(Path(config.reg_data_dir).expanduser(), "reg", "reg_data_dir", config))
    sources += [source for source in entries if source.is_reg]
    if config.validation_dir:
        sources.append(Source(Path(config.validation_dir).expanduser(), "validation", "validation_dir", config))
    return sources


def list_triggers(config: "PictureConfig") -> list[str]:
    """Every word that calls something, once."""
    words = [source.config.trigger_word for source in list_sources(config) if source.use == "train"]
    return list(dict.fromkeys(word for word in words or [config.trigger_word] if word))


def list_own_sizes(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """What is trained at, where every folder to train on says it for itself; else nothing."""
    sizes = [entry.get("resolutions") or [entry.get("resolution")] for entry in entries if not entry.get("regularisation")]
    listed = [size for some in sizes for size in some]
    return [] if None in listed else listed


def name_entry(number: int) -> str:
    """How messages call it. ``number``: its place, from 1."""
    return f"entry {number} of datasets"


def _read_sources(config: "PictureConfig") -> Iterator[Source]:
    for number, entry in enumerate(config.datasets, start=1):
        own = {key: value for key, value in entry.items() if key in SHARED}
        if "resolution" in own or "resolutions" in own:
            sizes = sorted(set(own.get("resolutions", [])))
            own |= {"resolutions": sizes, "resolution": own.get("resolution") or sizes[-1]}
        yield Source(
            root=Path(entry["folder"]).expanduser(),
            use="reg" if entry.get("regularisation") else "train",
            option=name_entry(number),
            config=replace(config, **own) if own else config,
            repeats=entry.get("repeats"),
            weight=entry.get("weight", 1.0),
            class_words=entry.get("class_words", ""),
            metadata_path=entry.get("metadata_path", ""),
        )


def list_places(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(option, what it says) of every file and folder that entries name; what is looked for in an entry's folder, there as well."""
    for entry in entries:
        yield "datasets", entry["folder"]
        if entry.get("mask_dir"):
            yield "datasets", entry["mask_dir"]
        if entry.get("metadata_path"):
            yield "metadata_path", entry["metadata_path"]
            yield "datasets", str(Path(entry["folder"]).expanduser() / entry["metadata_path"])


def hide_places(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same without anything that tells of somebody's disk: a folder by its name, no other place."""
    hidden = [{key: value for key, value in entry.items() if key not in ("metadata_path", "mask_dir")} for entry in entries]
    return [{**entry, "folder": Path(entry["folder"]).name} for entry in hidden]


# -- reading -----------------------------------------------------------------------------------------------------------


def spread_sizes(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The options, with `resolution: [512, 768]` as the `resolutions` that it means."""
    sizes = values.get("resolution")
    if not isinstance(sizes, (list, tuple)) or len(set(map(str, sizes))) < 2:
        return dict(values)
    if values.get("resolutions"):
        raise UserError("cannot train at a list of sizes in resolution and another in resolutions. Leave one of them out.")
    return {**{key: value for key, value in values.items() if key != "resolution"}, "resolutions": list(sizes)}


def read_entries(value: Any, config_class: type["PictureConfig"]) -> Any:
    """`datasets` as it is kept: a list of mappings, each with the keys that were given and values of their types.

    Raises:
        UserError: for the first entry that is wrong.
    """
    if isinstance(value, (str, Mapping)):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return value  # whoever reads the option says what it takes
    known = known_keys(config_class)
    run_wide = "It holds for the whole run, and stands beside datasets."
    others = {**dict.fromkeys(options_of(config_class), OtherName("", run_wide)), **_OTHER_NAMES}
    entries = []
    for number, entry in enumerate((entry for entry in value if entry not in (None, "")), start=1):
        try:
            entries.append(_read_entry(entry, known, others))
        except UserError as error:
            raise UserError(f"cannot use {name_entry(number)}: {error}") from None
    return entries


def known_keys(config_class: type["PictureConfig"]) -> dict[str, Any]:
    """Every key that an entry may have, for :func:`read_values`."""
    shared = types_by_option(config_class)
    return {**types_by_option(EntryOptions), **{name: shared[name] for name in SHARED}}


def _read_entry(entry: Any, known: Mapping[str, Any], others: Mapping[str, OtherName]) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {"folder": entry}
    if not isinstance(entry, Mapping):
        raise UserError(f"cannot read {show(entry)}: it names no folder. Write one, or 'folder:' and what holds for it.")
    checked, problems = read_values(known, spread_sizes(entry), others)
    if problems:
        raise UserError(problems[0])
    if not checked.get("folder"):
        raise UserError("cannot find its pictures: it names no folder. Write 'folder:' and where they are.")
    sizes = checked.get("resolutions", [])
    if sizes and checked.get("resolution", sizes[0]) not in sizes:
        raise UserError(f"cannot train at resolution {checked['resolution']} and at resolutions {show(sizes)}. Leave one of them out.")
    return checked


def markdown_entries(config_class: type["PictureConfig"]) -> str:
    """The documentation's table of an entry's own keys, and the names of those that it shares."""
    shared = ", ".join(f"`{name}`" for name in SHARED)
    table = "\n".join(["### Entries of `datasets`\n", "| key | default | what it does |", "|---|---|---|", *markdown_rows(EntryOptions)])
    return f"{table}\n\nAn entry may also have, each as the run has it when left out: {shared}."
