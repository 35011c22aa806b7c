"""sd-scripts' data set files: `[general]`, `[[datasets]]`, `[[datasets.subsets]]`. Here one folder holds the pictures, and the number
in a sub-folder's name says how often an epoch shows them. Must not import torch or any host."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from .imported import Conversion, as_number, is_off
from .names import NAMES

_OF_A_SUBSET = ("image_dir", "num_repeats", "is_reg", "class_tokens", "metadata_file", "caption_extension", "conditioning_data_dir")


def convert_datasets(content: Mapping[str, Any], change: Conversion, *, whole: bool) -> None:
    """Take in a data set file; with ``whole`` it is all there is, so that options of the run are left as ours."""
    datasets = [entry for entry in content.get("datasets") or [] if isinstance(entry, Mapping)]
    shared: dict[str, Any] = dict(content.get("general") or {})
    subsets: list[dict[str, Any]] = []
    for dataset in datasets:
        shared |= {key: value for key, value in dataset.items() if key != "subsets"}
        subsets += [dict(subset) for subset in dataset.get("subsets") or [] if isinstance(subset, Mapping)]
    if len(datasets) > 1:
        change.differ(f"The file has {len(datasets)} data sets; one has to do here, so resolution and batch size are the last one's.")
    if not whole:
        shared.setdefault("enable_bucket", False)
    for subset in subsets[:1]:
        shared |= {key: value for key, value in subset.items() if key not in _OF_A_SUBSET}
    for subset in subsets[1:]:
        other = [key for key, value in subset.items() if key not in _OF_A_SUBSET and shared.get(key) != value]
        if other:
            change.differ(f"What only holds for {subset.get('image_dir', 'one subset')} is not taken: {', '.join(other)}.")
    _take_shared(shared, change)
    _take_folders(subsets, change, whole=whole)


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


def _take_folders(subsets: list[dict[str, Any]], change: Conversion, *, whole: bool) -> None:
    training = [subset for subset in subsets if is_off(subset.get("is_reg")) and subset.get("image_dir")]
    regularising = [subset for subset in subsets if not is_off(subset.get("is_reg")) and subset.get("image_dir")]
    for option, found in (("train_data_dir", training), ("reg_data_dir", regularising)):
        if found:
            folder = _common_folder([str(subset["image_dir"]) for subset in found])
            change.result.values[option] = folder
            change.result.taken.append(f"image_dir: {', '.join(str(subset['image_dir']) for subset in found)} -> {option}: {folder!r}")
            change.left.pop(option, None)
    _take_repeats(training, change, whole=whole)
    for subset in subsets:
        if not is_off(subset.get("metadata_file")):
            change.result.values["metadata_path"] = str(subset["metadata_file"])
        if not is_off(subset.get("class_tokens")):
            words = subset["class_tokens"]
            said = f"class_tokens: {words!r}. It is the caption of pictures without one: name the folder '1_{words}'."
            change.result.left_out.append(said)


def _take_repeats(training: list[dict[str, Any]], change: Conversion, *, whole: bool) -> None:
    """Repeats that the folders' names do not tell."""
    wanted = {str(subset["image_dir"]): int(as_number(subset.get("num_repeats"), 1) or 1) for subset in training}
    untold = {folder: repeats for folder, repeats in wanted.items() if repeats != _told(folder)}
    if not untold:
        return
    if len(wanted) == 1:
        folder, repeats = next(iter(untold.items()))
        if _told(folder) == 1 and not whole:
            change.result.values["epochs"] = repeats  # times the recipe's epochs, where those are read
            change.differ(f"num_repeats {repeats} of the only folder is counted into epochs, which comes to the same.")
            return
    for folder, repeats in untold.items():
        name = PurePath(folder.replace("\\", "/")).name
        change.differ(f"{folder} is repeated {repeats} times there: rename it to '{repeats}_{re.sub(r'^[0-9]+_', '', name)}'.")


def _told(folder: str) -> int:
    match = re.match(r"(\d+)_", PurePath(folder.replace("\\", "/")).name)
    return int(match[1]) if match else 1


def _common_folder(folders: list[str]) -> str:
    """The only one, or the folder that all of them lie in."""
    if len(folders) == 1:
        return folders[0]
    parts = [PurePath(folder.replace("\\", "/")).parts for folder in folders]
    shared = []
    for step in zip(*parts, strict=False):
        if len(set(step)) > 1:
            break
        shared.append(step[0])
    return str(PurePath(*shared)) if shared else folders[0]
