"""Which size a picture is trained at: aspect-ratio buckets as sd-scripts makes and chooses them.

Pure functions over numbers; must not import torch, PIL or any host.
"""

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.errors import UserError

if TYPE_CHECKING:
    from .config import PictureConfig


@dataclass(frozen=True)
class Fit:
    """How a picture gets into its bucket: scaled to cover it, then cut. Sizes are (width, height) in pixels."""

    bucket: tuple[int, int]
    scaled: tuple[int, int]


def check_sizes(config: "PictureConfig") -> None:
    """Raise UserError where no bucket can be made of the config's numbers."""
    side = config.LATENT_PIXELS
    if config.enable_bucket:
        if config.bucket_reso_steps % side:
            raise UserError(
                f"cannot make buckets in steps of {config.bucket_reso_steps}: it is no multiple of {side}. Set bucket_reso_steps: 64."
            )
        bucket_sizes(config.resolution, config.min_bucket_reso, config.max_bucket_reso, config.bucket_reso_steps)
    elif config.resolution % side:
        raise UserError(
            f"cannot train at resolution {config.resolution}: it is no multiple of {side}. "
            f"Set resolution: {config.resolution - config.resolution % side}."
        )


@functools.lru_cache
def bucket_sizes(resolution: int, minimum: int, maximum: int, step: int) -> list[tuple[int, int]]:
    """Every bucket (width, height), sorted: about `resolution` squared in area, sides multiples of `step`.

    Limits that are no multiples of the step are widened to the next ones. The square bucket is there whatever the limits.

    Raises:
        UserError: for a step that is larger than the resolution.
    """
    if resolution < step:
        raise UserError(
            f"cannot make buckets at resolution {resolution}: bucket_reso_steps is {step}. Raise resolution or lower bucket_reso_steps."
        )
    smallest, largest = max(step, _down(minimum, step)), -_down(-maximum, step)
    area, square = resolution * resolution, _down(resolution, step)
    sizes = {(square, square)}
    for width in range(smallest, largest + 1, step):
        height = min(largest, _down(area // width, step))
        if height >= smallest:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def choose_bucket(width: int, height: int, config: "PictureConfig") -> Fit:
    """The bucket of a picture of that size (after EXIF rotation) and how far it is scaled.

    With `enable_bucket` off there is one square bucket. With `bucket_no_upscale` a picture smaller than the training
    area keeps its size, and loses only what is over a multiple of the step; only one that is narrower than a single
    step is enlarged to that.
    """
    if not config.enable_bucket:
        return _cover(width, height, (config.resolution, config.resolution))
    step = config.bucket_reso_steps
    if config.bucket_no_upscale:
        return _shrink_to_step(width, height, config.resolution**2, step)
    sizes = bucket_sizes(config.resolution, config.min_bucket_reso, config.max_bucket_reso, step)
    if (width, height) in sizes:
        return Fit((width, height), (width, height))
    ratio = width / height
    return _cover(width, height, min(sizes, key=lambda size: abs(size[0] / size[1] - ratio)))


def crop_offset(fit: Fit, rng: random.Random | None = None, *, focus: tuple[float, float] | None = None) -> tuple[int, int]:
    """(top, left) in scaled pixels of what is kept: the middle, or anywhere where an rng is given.

    Args:
        focus: (from the left, from the top) in 0..1 of the picture: it comes as near to the middle of what is kept as the picture allows,
            whether there is an rng or not.
    """
    spare_height, spare_width = fit.scaled[1] - fit.bucket[1], fit.scaled[0] - fit.bucket[0]
    if focus is not None:
        left, top = (math.ceil(at * scaled - kept / 2 - 0.5) for at, scaled, kept in zip(focus, fit.scaled, fit.bucket, strict=True))
        return min(max(top, 0), spare_height), min(max(left, 0), spare_width)
    if rng is None:
        return spare_height // 2, spare_width // 2
    return rng.randint(0, spare_height), rng.randint(0, spare_width)


def bucket_info(sizes: Sequence[tuple[int, int]], fits: Sequence[Fit], repeats: Sequence[int]) -> dict[str, Any]:
    """kohya's `ss_bucket_info`: pictures with repeats in each bucket, and how far aspect ratios had to be cut on average."""
    counts: dict[tuple[int, int], int] = {}
    for fit, times in zip(fits, repeats, strict=True):
        counts[fit.bucket] = counts.get(fit.bucket, 0) + times
    errors = [abs(f.bucket[0] / f.bucket[1] - w / h) for (w, h), f in zip(sizes, fits, strict=True)]
    buckets = {str(i): {"resolution": list(b), "count": counts[b]} for i, b in enumerate(sorted(counts))}
    return {"buckets": buckets, "mean_img_ar_error": sum(errors) / len(errors) if errors else 0.0}


def _down(value: int, step: int) -> int:
    return value // step * step


def _cover(width: int, height: int, bucket: tuple[int, int]) -> Fit:
    """Scaled so that the bucket is covered and one side fits exactly."""
    scale = max(bucket[0] / width, bucket[1] / height)
    scaled = (int(width * scale + 0.5), int(height * scale + 0.5))
    return Fit(bucket, (max(scaled[0], bucket[0]), max(scaled[1], bucket[1])))


def _shrink_to_step(width: int, height: int, area: int, step: int) -> Fit:
    scaled = (width, height)
    if width * height > area:
        scaled = _scale_to_area(width / height, area, step)
    bucket = (max(step, _down(scaled[0], step)), max(step, _down(scaled[1], step)))
    if bucket[0] > scaled[0] or bucket[1] > scaled[1]:
        return _cover(width, height, bucket)
    return Fit(bucket, scaled)


def _scale_to_area(ratio: float, area: int, step: int) -> tuple[int, int]:
    """About the area with one side a multiple of the step: that side which distorts the bucket's aspect ratio less."""

    def stepped(side: float) -> int:
        return max(step, _down(int(side + 0.5), step))

    by_width = stepped((area * ratio) ** 0.5)
    by_height = stepped((area / ratio) ** 0.5)
    error_by_width = abs(by_width / stepped(by_width / ratio) - ratio)
    error_by_height = abs(stepped(by_height * ratio) / by_height - ratio)
    if error_by_width < error_by_height:
        return by_width, int(by_width / ratio + 0.5)
    return int(by_height * ratio + 0.5), by_height
