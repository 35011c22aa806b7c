"""Options of an image run that mean the same for every family of models: pictures, captions, samples."""

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.options import option
from .buckets import check_sizes

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
    LATENT_PIXELS: ClassVar[int]  # pixels to a side of one latent value, in the family's VAEs

    # pictures
    resolution: int = option(
        512,
        "Training resolution: pictures are scaled to this many pixels squared in area; `512,768` is that area as well.",
        minimum=64,
        maximum=8192,
        read=read_area,
        advanced=False,
        fixed=True,
        group="Pictures",
    )
    enable_bucket: bool = option(True, "Keep each picture's shape by training in aspect-ratio buckets; else crop to squares.", fixed=True)
    min_bucket_reso: int = option(256, "Shortest side of a bucket.", minimum=8, maximum=16384)
    max_bucket_reso: int = option(1024, "Longest side of a bucket.", minimum=8, maximum=16384)
    bucket_reso_steps: int = option(64, "Bucket sides are multiples of this.", minimum=8, maximum=4096)
    bucket_no_upscale: bool = option(False, "Never enlarge a picture: small ones get a bucket of their own size.")
    crop: str = option(
        "center",
        "Which part of a picture is kept where it must be cut.",
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
        False, "Learn only where a picture's mask is white: its alpha channel or a picture of the same name in `mask_dir`."
    )
    mask_dir: str = option("", "Folder with mask pictures for `masked_loss`.", path=True)
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
        check_sizes(self)
        if not self.caption_separator:
            raise UserError("cannot split captions at an empty caption_separator. Set it to what stands between tags, such as ','.")
        if self.min_bucket_reso > self.max_bucket_reso:
            raise UserError(f"cannot make buckets: min_bucket_reso {self.min_bucket_reso} is above max_bucket_reso {self.max_bucket_reso}.")
        if self.mask_dir and not self.masked_loss:
            raise UserError("cannot use mask_dir: masked_loss is off. Set masked_loss: true.")
