"""Options of an image run that mean the same for every family of models: pictures, captions, samples."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.idle import Uses
from ..engine.options import option
from .buckets import check_sizes
from .entries import list_own_sizes, list_places, list_sources, markdown_entries, read_entries, spread_sizes

_SMALLER_BY = 64  # pixels, at least
_SIDES = re.compile(r"[\[(]?\s*(\d{1,9})\s*[,;x×*]\s*(\d{1,9})\s*[\])]?")


def read_area(value: Any) -> Any:
    """A resolution written as two sides, `512,768` or `[512, 768]`, as the one number that stands for their area."""
    sides = value if isinstance(value, (list, tuple)) else ()
    if isinstance(value, str) and (match := _SIDES.fullmatch(value.strip().lower())):
        sides = match.groups()
    try:
        numbers = [int(side) for side in sides]
    except (TypeError, ValueError, OverflowError):
        return value
    if len(numbers) in (1, 2) and min(numbers) > 0:
        return math.ceil(math.sqrt(numbers[0] * numbers[-1]))  # rounded up, so that the buckets of that area are the same
    return value


@dataclass
class PictureConfig(RunConfig):
    """What a family's own options are added to."""

    FILE_SUFFIX: ClassVar[str] = ".safetensors"
    ALSO_WRITES: ClassVar[Sequence[str]] = ("comparison.png", "{name}.png", "{name}.json")
    NAMES_TAKEN: ClassVar[Sequence[str]] = (
        "loss",
        "comparison",
        "ranks",
    )  # by pictures and notes of a run, where its cover and card would go
    LATENT_PIXELS: ClassVar[int]  # pixels to a side of one latent value, in the family's VAEs

    # pictures
    resolution: int = option(
        512,
        "Training size: 512 is the area of 512x512 pixels, whatever a picture's shape; `512,768` is one size too. "
        "`[512, 768]` trains each picture at both.",
        minimum=64,
        maximum=8192,
        read=read_area,
        advanced=False,
        fixed=True,
        group="Pictures",
    )
    resolutions: list = option(
        [],
        "Train each picture at each of these, once at each in an epoch; samples are as large as the largest, or as `resolution`.",
        minimum=64,
        maximum=8192,
        items=int,
        fixed=True,
    )
    datasets: list = option(
        [],
        "Folders with options of their own, beside `train_data_dir` or instead of it: a list of `folder:` and what holds for it, such as "
        "`repeats`, `trigger_word`, `weight`, `resolution`.",
        items=dict,
        read=lambda value: read_entries(value, PictureConfig),
        personal=True,
    )
    enable_bucket: bool = option(True, "Keep each picture's shape by training in aspect-ratio buckets; else crop to squares.", fixed=True)
    min_bucket_reso: int = option(256, "Shortest side of a bucket.", minimum=8, maximum=16384)
    max_bucket_reso: int = option(1024, "Longest side of a bucket.", minimum=8, maximum=16384)
    bucket_reso_steps: int = option(64, "Bucket sides are multiples of this.", minimum=8, maximum=4096)
    bucket_no_upscale: bool = option(False, "Never enlarge a picture: small ones get a bucket of their own size.")
    crop: str = option(
        "center",
        "Which part of a picture is kept where it must be cut; one with a focus point is cut around that.",
        choices=("center", "random"),
        spellings={"centre": "center", "middle": "center"},
    )
    flip_aug: bool = option(False, "Mirror half of the pictures. Never for text, logos or asymmetric subjects.")
    cache_latents: str = option(
        "disk",
        "Where encoded pictures are kept: `disk` also saves the next start's encoding.",
        choices=("memory", "disk"),
        spellings={"ram": "memory", "yes": "disk", "true": "disk"},
    )
    cache_dir: str = option("", "Folder for encoded pictures; `.hotlora-cache` in `train_data_dir` when empty.", path=True)
    vae_batch_size: int = option(1, "Pictures that are encoded at once.", minimum=1, maximum=4096)
    masked_loss: bool = option(
        False, "Learn only where a picture's mask is white: its alpha channel, or a picture of the same name in `mask_dir`."
    )
    mask_dir: str = option("", "Folder with mask pictures for `masked_loss`; `.masks` in each data folder when empty.", path=True)
    reg_data_dir: str = option("", "Folder with regularisation pictures: what the class looks like without the LoRA.", path=True)
    prior_loss_weight: float = option(1.0, "Weight of regularisation pictures in the loss.", minimum=0, maximum=1e6)

    # captions
    trigger_word: str = option(
        "", "Word that calls the LoRA: put before every caption, and the whole caption where there is none.", advanced=False, personal=True
    )
    caption_prefix: str = option("", "Text before every caption.", group="Captions")
    caption_suffix: str = option("", "Text after every caption.")
    caption_separator: str = option(",", "What stands between tags.")
    shuffle_caption: bool = option(False, "Shuffle a caption's tags every time it is used.")
    keep_tokens: int = option(0, "First tags that stay in place when shuffling or dropping.", minimum=0)
    keep_tokens_separator: str = option("", "Text such as `|||`: tags before it stay in place.")
    caption_dropout_rate: float = option(0.0, "Chance to train without the caption.", minimum=0, maximum=1)
    caption_tag_dropout_rate: float = option(0.0, "Chance to leave out each tag.", minimum=0, maximum=1)
    enable_wildcard: bool = option(False, "Read `{a|b}` as one of the two, and captions of several lines as one of the lines.")

    # samples
    negative_prompt: str = option("", "Negative prompt of samples.", group="Sample pictures")
    sample_width: int | None = option(None, "Width of samples in pixels; `resolution` when empty.", minimum=64, maximum=8192)
    sample_height: int | None = option(None, "Height of samples in pixels; `resolution` when empty.", minimum=64, maximum=8192)
    sample_steps: int = option(25, "Sampling steps.", minimum=1, maximum=1000)
    sample_cfg: float = option(7.0, "Guidance scale of samples.", minimum=0, maximum=1000)
    sample_sampler: str = option(
        "DPM++ 2M", "Sampler, by its name in the WebUI; a scheduler's name may stand behind it, as in `DPM++ 2M Karras`."
    )

    def check(self) -> None:
        """Raise UserError where options contradict each other."""
        super().check()
        self._settle_sizes()
        _check_folder(self)
        sources = list_sources(self)
        self.notes += dict.fromkeys(note for folder in (self, *(s.config for s in sources)) for note in _tell_same_sizes(folder))
        for source in sources:
            if source.config is not self:
                try:
                    _check_folder(source.config)
                except UserError as error:
                    raise UserError(f"cannot use {source.option}: {error}") from None
        if self.datasets and self.metadata_path and not self.train_data_dir:
            raise UserError("cannot use metadata_path: train_data_dir is empty. Write it into the entry of datasets that it belongs to.")

    @classmethod
    def spell_out(cls, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """What people write shorter."""
        return spread_sizes(super().spell_out(values))

    @classmethod
    def describe_values(cls) -> Sequence[str]:
        """Tables for the documentation, of what an option's value is made of; each with its heading."""
        return [markdown_entries(cls)]

    def places(self) -> Iterator[tuple[str, str]]:
        """(option, what it says) of every file and folder that people have chosen."""
        yield from super().places()
        yield from list_places(self.datasets)

    def list_uses(self) -> Uses:
        """Options that only count beside others; see :mod:`..engine.idle`."""
        folders = [source.config for source in list_sources(self)] or [self]
        in_buckets = (any(folder.enable_bucket for folder in folders), "enable_bucket is off")
        varied = any(folder.shuffle_caption or folder.caption_tag_dropout_rate for folder in folders)
        sampled = (bool(self.sample_prompts), "there are no sample_prompts")
        return {
            **super().list_uses(),
            "sample_every_steps": sampled,
            "sample_every_epochs": sampled,
            "min_bucket_reso": in_buckets,
            "max_bucket_reso": in_buckets,
            "bucket_no_upscale": in_buckets,
            "keep_tokens": (varied, "tags are neither shuffled nor dropped (shuffle_caption, caption_tag_dropout_rate)"),
            "prior_loss_weight": (any(source.is_reg for source in list_sources(self)), "there are no regularisation pictures"),
        }

    def list_smaller_sizes(self) -> list[dict[str, Any]]:
        """Lower resolutions, where the run has one."""
        sizes = (self.resolution * part // 4 // _SMALLER_BY * _SMALLER_BY for part in (3, 2))  # three quarters, and half
        least = max(_SMALLER_BY, self.min_bucket_reso)
        return [{"resolution": size} for size in sizes if least <= size and not self.resolutions]

    def _settle_sizes(self) -> None:
        """`resolution` is one of `resolutions`, where there are any; or of what all folders have for themselves."""
        self.resolutions = sorted(set(self.resolutions))
        if not self.resolutions:
            own = [] if self.train_data_dir or "resolution" in self.given else list_own_sizes(self.datasets)
            self.resolution = max(own, default=self.resolution)
            return
        listed = ", ".join(map(str, self.resolutions))
        if "resolution" not in self.given:
            self.resolution = self.resolutions[-1]
        elif self.resolution not in self.resolutions:
            raise UserError(f"cannot train at resolution {self.resolution} and at resolutions {listed}. Leave one of them out.")
        if len(self.resolutions) > 1:
            self.notes.append(f"Each picture is trained at {listed} pixels, once at each in every epoch.")


def _tell_same_sizes(config: PictureConfig) -> Iterator[str]:
    """Resolutions that differ by less than a step between buckets, so that pictures are only seen more often."""
    step = config.bucket_reso_steps if config.enable_bucket and not config.bucket_no_upscale else 1
    for first, second in itertools.pairwise(config.resolutions):
        if first // step == second // step:
            yield f"Resolutions {first} and {second} come to the same sizes. Lower bucket_reso_steps, which is {step}, or leave one out."


def _check_folder(config: PictureConfig) -> None:
    """Raise UserError where the options that hold for a folder contradict each other."""
    for size in config.resolutions or [config.resolution]:
        check_sizes(replace(config, resolution=size))
    if not config.caption_separator:
        raise UserError("cannot split captions at an empty caption_separator. Set it to what stands between tags, such as ','.")
    if config.min_bucket_reso > config.max_bucket_reso:
        sizes = f"min_bucket_reso {config.min_bucket_reso} is above max_bucket_reso {config.max_bucket_reso}"
        raise UserError(f"cannot make buckets: {sizes}. Lower the first or raise the second.")
    if config.mask_dir and not config.masked_loss:
        raise UserError("cannot use mask_dir: masked_loss is off. Set masked_loss: true.")
