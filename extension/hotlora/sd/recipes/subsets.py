"""sd-scripts' data set files: `[general]`, `[[datasets]]`, `[[datasets.subsets]]`. A subset is an entry of `datasets` here; what is the
same for all of them holds for the run. Must not import torch or any host."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ...pictures.config import read_area
from ...pictures.entries import SHARED
from .imported import Conversion, as_number, is_off
from .names import NAMES

Subset = dict[str, Any]

_OF_A_SUBSET = ("image_dir", "num_repeats", "is_reg", "class_tokens", "metadata_file", "conditioning_data_dir")
_OWN_KEYS = {"class_tokens": "class_words", "metadata_file": "metadata_path", "conditioning_data_dir": "mask_dir"}
_OF_A_SIZE = {"resolution": None, "min_bucket_reso": min, "max_bucket_reso": max}  # what may differ where a folder has several sizes


def convert_datasets(content: Mapping[str, Any], change: Conversion, *, whole: bool) -> None:
    """Take in a data set file; with ``whole`` it is all there is, so that options of the run are left as ours."""
    shared, subsets = _list_subsets(content)
    if not whole:
        for options in (shared, *subsets):
            options.setdefault("enable_bucket", False)
    for options in (shared, *subsets):
        if "resolution" in options:
            options["resolution"] = read_area(options["resolution"])  # two sides, where ours would be two sizes
    if subsets:
        shared = _split_off_shared(subsets, change)
    _take_shared(shared, change)
    training = _join_sizes([subset for subset in subsets if is_off(subset.get("is_reg")) and subset.get("image_dir")], change)
    regularising = _join_sizes([subset for subset in subsets if not is_off(subset.get("is_reg")) and subset.get("image_dir")], change)
    for option, found in (("train_data_dir", training), ("reg_data_dir", regularising)):
        if found:
            change.drop(option, "The data set file goes before it.")
            _take_folders(found, option, change)


def _list_subsets(content: Mapping[str, Any]) -> tuple[Subset, list[Subset]]:
    """(what holds where there is no subset, each subset with what holds for it)."""
    shared: Subset = dict(content.get("general") or {})
    subsets: list[Subset] = []
    for dataset in [entry for entry in content.get("datasets") or [] if isinstance(entry, Mapping)]:
        own = {**shared, **{key: value for key, value in dataset.items() if key != "subsets"}}
        subsets += [{"num_repeats": 1, **own, **subset} for subset in dataset.get("subsets") or [] if isinstance(subset, Mapping)]
        shared = shared if subsets else own
    return shared, subsets


def _split_off_shared(subsets: Sequence[Subset], change: Conversion) -> Subset:
    """What is the same for all of them, and is left out of each afterwards; of what a folder cannot have for itself the first one's."""
    shared: Subset = {}
    for key in dict.fromkeys(key for subset in subsets for key in subset if key not in _OF_A_SUBSET):
        values = [subset.get(key) for subset in subsets]
        other = NAMES.get(key)
        if all(value == values[0] for value in values):
            shared[key] = values[0]
        elif other and other.option in SHARED:
            continue
        else:
            shared[key] = next(value for value in values if value is not None)
            if key == "caption_extension":  # whatever there is, is read
                continue
            said = f"{key} differs from folder to folder there and holds for the whole run here: {shared[key]!r} is taken"
            change.differ(f"{said}, that of the first.")
        for subset in subsets:
            subset.pop(key, None)
    return shared


def _take_shared(shared: Mapping[str, Any], change: Conversion) -> None:
    for key, value in shared.items():
        other = NAMES.get(key)
        if key == "random_crop" and not is_off(value):
            change.result.values["crop"] = "random"
        elif other and other.option and not other.note and not (is_off(value) and key != "enable_bucket"):
            change.left.pop(key, None)
            change.result.values[other.option] = value
            change.result.taken.append(f"{key}: {value!r} -> {other.option}: {value!r}")
        elif is_off(value) or key == "caption_extension":
            change.result.off.append(key)
        else:
            change.result.left_out.append(f"{key}: {value!r}. {other.note if other and other.note else 'That key is not known here.'}")


def _join_sizes(subsets: Sequence[Subset], change: Conversion) -> list[Subset]:
    """Each folder once: where it stands in several data sets of other resolutions, with all of these; else with its repeats added up."""
    joined: dict[str, Subset] = {}
    for subset in subsets:
        folder = str(subset["image_dir"])
        first = joined.setdefault(folder, subset)
        if first is subset:
            continue
        differ = [key for key in {**first, **subset} if first.get(key) != subset.get(key) and key not in (*_OF_A_SIZE, "resolutions")]
        if "resolution" not in first and differ in ([], ["num_repeats"]):
            first["num_repeats"] = as_number(first["num_repeats"], 1) + as_number(subset["num_repeats"], 1)
            continue
        if differ:
            change.differ(f"{folder} stands there again with another {', '.join(differ)}: only the first is taken. Copy it for the second.")
            continue
        first["resolutions"] = [*first.get("resolutions", [first["resolution"]]), subset.get("resolution", first["resolution"])]
        for key, choose in _OF_A_SIZE.items():
            if choose and key in first and key in subset:
                first[key] = choose(first[key], subset[key])
    return list(joined.values())


def _take_folders(subsets: Sequence[Subset], option: str, change: Conversion) -> None:
    """As entries of `datasets`; a single one of which nothing is to be said as the run's own folder."""
    entries = [_make_entry(subset, change) for subset in subsets]
    (only, *others), values = entries, change.result.values
    if not others and only.keys() <= {"folder", "repeats", "regularisation"} and only["repeats"] == _told(only["folder"]):
        values[option] = only["folder"]
        change.result.taken.append(f"image_dir: {only['folder']!r} -> {option}: {only['folder']!r}")
        return
    values["datasets"] = [*values.get("datasets", []), *entries]
    change.result.taken += [f"image_dir: {entry['folder']!r} -> an entry of datasets: {entry!r}" for entry in entries]


def _make_entry(subset: Mapping[str, Any], change: Conversion) -> dict[str, Any]:
    entry: dict[str, Any] = {"folder": str(subset["image_dir"]), "repeats": int(as_number(subset.get("num_repeats"), 1) or 1)}
    if not is_off(subset.get("is_reg")):
        entry["regularisation"] = True
    for key, ours in _OWN_KEYS.items():
        if not is_off(subset.get(key)):
            entry[ours] = str(subset[key])
    for key, value in subset.items():
        other = NAMES.get(key)
        if key in _OF_A_SUBSET or (is_off(value) and key != "enable_bucket"):
            continue
        if key == "resolutions":
            entry[key] = sorted(set(value))
        elif other and other.option in SHARED and not (key == "resolution" and "resolutions" in subset):
            entry[other.option] = value
    return entry


def _told(folder: str) -> int:
    """Repeats, as the folder's name says."""
    match = re.match(r"(\d+)_", PurePath(folder.replace("\\", "/")).name)
    return int(match[1]) if match else 1
