"""What a finished LoRA tells of the folders it was trained on, in the forms of kohya-ss/sd-scripts: each folder by its name alone, one that
is trained at several sizes once for each.

Pure; must not import any host.
"""

from collections.abc import Sequence
from typing import Any

from .buckets import Fit, bucket_info
from .captions import tag_frequency
from .dataset import Dataset, Example
from .entries import Source
from .folders import read_class_words

_Key = tuple[int, str, int]  # place of the source, folder, resolution


def count_folders(dataset: Dataset, *, is_reg: bool = False) -> dict[str, dict[str, int]]:
    """`ss_dataset_dirs` and `ss_reg_dataset_dirs`. A name that is taken gets a number, as there: 'img (2)'."""
    named = _name_folders(dataset, is_reg=is_reg)
    folders: dict[str, dict[str, int]] = {}
    for example in dataset.train:
        if example.is_reg == is_reg:
            folder = folders.setdefault(named[_key(example)], {"n_repeats": example.folder_repeats, "img_count": 0})
            folder["img_count"] += 1
    return folders


def count_tags(dataset: Dataset, resolution: int = 0) -> dict[str, dict[str, int]]:
    """`ss_tag_frequency`, of the pictures that the LoRA learns from (no regularisation pictures), each counted once.

    Args:
        resolution: only of pictures that are trained at this one; 0 for any.
    """
    named, tags = _name_folders(dataset), dict[str, dict[str, int]]()
    for place, source in enumerate(dataset.sources):
        first = resolution or next(iter(source.by_resolution))
        chosen = [e for e in dataset.train if e.source == place and not e.is_reg and e.resolution == first]
        tags |= tag_frequency(((named[_key(e)], e.caption) for e in chosen), source.config)
    return tags


def count_buckets(dataset: Dataset, fits: Sequence[Fit]) -> dict[str, Any] | None:
    """`ss_bucket_info`, for the fits of ``dataset.train`` in its order; None where no folder has buckets."""
    if not any(source.config.enable_bucket for source in dataset.sources if source.use != "validation"):
        return None
    return bucket_info([e.size for e in dataset.train], fits, [e.repeats for e in dataset.train])


def list_datasets(dataset: Dataset, fits: Sequence[Fit], batch_size: int) -> list[dict[str, Any]]:
    """`ss_datasets`: all that is trained at one size makes one, with its folders as its subsets."""
    groups: dict[tuple, list[tuple[Example, Fit]]] = {}
    for example, fit in zip(dataset.train, fits, strict=True):
        config = _options(dataset, example)
        sizes = (config.resolution, config.enable_bucket, config.min_bucket_reso, config.max_bucket_reso)
        groups.setdefault(sizes, []).append((example, fit))
    return [_describe_group(dataset, pairs, batch_size) for pairs in groups.values()]


def _describe_group(dataset: Dataset, pairs: Sequence[tuple[Example, Fit]], batch_size: int) -> dict[str, Any]:
    examples = [example for example, _ in pairs]
    config = _options(dataset, examples[0])
    buckets = bucket_info([e.size for e in examples], [fit for _, fit in pairs], [e.repeats for e in examples])
    subsets: dict[_Key, list[Example]] = {}
    for example in examples:
        subsets.setdefault(_key(example), []).append(example)
    part = Dataset(examples, [], [], dataset.sources)
    return {
        "is_dreambooth": True,  # as sd-scripts calls folders of pictures with captions beside them
        "batch_size_per_device": batch_size,
        "num_train_images": part.count(),
        "num_reg_images": part.count(is_reg=True),
        "resolution": [config.resolution, config.resolution],
        "enable_bucket": config.enable_bucket,
        "min_bucket_reso": config.min_bucket_reso if config.enable_bucket else None,
        "max_bucket_reso": config.max_bucket_reso if config.enable_bucket else None,
        "tag_frequency": count_tags(part, config.resolution),
        "bucket_info": buckets if config.enable_bucket else None,
        "resize_interpolation": None,
        "subsets": [_describe_subset(dataset.sources[key[0]], members) for key, members in subsets.items()],
    }


def _describe_subset(source: Source, members: Sequence[Example]) -> dict[str, Any]:
    config, first = source.config, members[0]
    return {
        "img_count": len(members),
        "num_repeats": first.folder_repeats,
        "color_aug": False,
        "flip_aug": config.flip_aug,
        "random_crop": any(example.is_cut_at_random(config) for example in members),
        "shuffle_caption": config.shuffle_caption,
        "keep_tokens": config.keep_tokens,
        "keep_tokens_separator": config.keep_tokens_separator or None,
        "secondary_separator": None,
        "enable_wildcard": config.enable_wildcard,
        "caption_prefix": config.caption_prefix or None,
        "caption_suffix": config.caption_suffix or None,
        "resize_interpolation": None,
        "image_dir": first.folder,
        "class_tokens": source.class_words or read_class_words(first.folder) or None,
        "is_reg": source.is_reg,
    }


def _name_folders(dataset: Dataset, *, is_reg: bool = False) -> dict[_Key, str]:
    named: dict[_Key, str] = {}
    taken: set[str] = set()
    for example in dataset.train:
        key = _key(example)
        if example.is_reg != is_reg or key in named:
            continue
        name, number = example.folder, 2
        while name in taken:
            name, number = f"{example.folder} ({number})", number + 1
        taken.add(name)
        named[key] = name
    return named


def _key(example: Example) -> _Key:
    return example.source, example.folder, example.resolution


def _options(dataset: Dataset, example: Example) -> Any:
    return dataset.sources[example.source].by_resolution[example.resolution]
