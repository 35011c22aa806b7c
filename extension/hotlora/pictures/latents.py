"""Pictures encoded by the VAE, each kept under a key that holds everything its latent depends on.

Owns the cache's files and the promise that a changed picture, mask, size or VAE never gets an old latent. Must not import
any host: the VAE comes in as a function.
"""

import hashlib
import itertools
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from PIL import Image

from ..engine.errors import UserError
from ..engine.files import remove_dead_leftovers, write_bytes
from ..engine.interfaces import Progress
from ..engine.processes import ALONE, Processes
from .ahead import read_ahead
from .buckets import Fit, crop_offset
from .config import PictureConfig
from .dataset import Example
from .focus import Box
from .reading import cut_mask, cut_pixels, decode_picture, read_bytes, read_mask

_FORMAT = "hotlora-latent-1"  # part of the key: change it when pictures are cut or encoded differently


@dataclass(frozen=True)
class Latent:
    """What the VAE made of a picture, and how the picture was cut for it."""

    mean: torch.Tensor  # [4, height/8, width/8] fp32, not scaled by the VAE's factor
    std: torch.Tensor  # likewise
    mask: torch.Tensor | None  # [1, height/8, width/8] in 0..1; None where everything counts
    original_size: tuple[int, int]  # (width, height) of the picture in pixels, upright; of what a crop by hand leaves
    crop_top_left: tuple[int, int]  # (top, left) in scaled pixels
    bucket: tuple[int, int]  # (width, height)

    def size_ids(self) -> tuple[int, ...]:
        """SDXL's size conditioning (arXiv 2307.01952, 2.2): original height, width, crop top, left, bucket height, width.

        The crop is where the picture was really cut. sd-scripts writes half the letterbox margin there instead: for
        800x1000 pixels in a 1024x1024 bucket, which loses 128 rows at the top, it says top 0 and left 102.

        Of a picture that is cropped by hand all six are what they would be if its file had been cut so: where a screenshot's bars or a
        frame are taken off, the model is not to learn that something is missing there, and sd-scripts would know nothing else.
        """
        (width, height), (bucket_width, bucket_height) = self.original_size, self.bucket
        return height, width, *self.crop_top_left, bucket_height, bucket_width


@dataclass(frozen=True)
class _View:
    """One way of cutting a picture."""

    example: Example
    fit: Fit
    flipped: bool
    offset: tuple[int, int]  # (top, left) before mirroring


_Read = tuple[torch.Tensor, torch.Tensor | None]


class LatentCache:
    """Latents of pictures, in memory or on disk; what is cut at random is not kept but encoded as asked for.

    On disk each latent is a file of its own, read when it is asked for and not held, so memory does not grow with the
    number of pictures.
    """

    def __init__(
        self,
        encode_pixels: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        vae_fingerprint: str,
        config: PictureConfig,
        folder: Path,
    ):
        """``encode_pixels``: [batch, 3, height, width] in -1..1 -> the mean and spread of each latent, [batch, 4, height/8, width/8];
        ``folder`` is what choose_cache_folder gives."""
        self._encode_pixels, self._vae_fingerprint, self._config = encode_pixels, vae_fingerprint, config
        self._folder = folder / "latents"
        self._memory: dict[str, dict[str, torch.Tensor]] = {}

    def fill(
        self,
        pictures: Iterable[tuple[Example, Fit]],
        is_mirrored: Callable[[Example], bool] | None = None,
        processes: Processes = ALONE,
    ) -> Iterator[Progress]:
        """Encode whatever is not there yet, `vae_batch_size` pictures of a bucket at once; shared out among processes, each of which
        then has all. Files are written by one on each computer.

        Args:
            is_mirrored: which are needed mirrored too; by the run's `flip_aug` where it is not given.

        Raises:
            UserError: naming the picture that cannot be read or encoded, or that changed since the data was checked.
        """
        remove_dead_leftovers(self._folder.parent)
        views = {}
        for example, fit in pictures:
            if example.is_cut_at_random(self._config):
                continue
            for flipped in (False, True) if (is_mirrored(example) if is_mirrored else self._config.flip_aug) else (False,):
                view = _View(example, fit, flipped, crop_offset(fit, focus=example.focus))
                views[self._key(view)] = view
        if not views:
            return
        lacking = set().union(*processes.gather([key for key in views if not self._has(key)]))
        missing = sorted((views[key].fit.bucket, key) for key in lacking)
        done, batches = len(views) - len(missing), list(_cut_batches(missing, self._config.vae_batch_size))
        yield Progress("encoding pictures", done, len(views))
        own = batches[processes.place :: processes.count]
        pictures_read = read_ahead(self._read, [views[key] for batch in own for key in batch])
        for start in range(0, len(batches), processes.count):
            mine = batches[start + processes.place] if start + processes.place < len(batches) else []
            entries = self._encode([views[key] for key in mine], list(itertools.islice(pictures_read, len(mine)))) if mine else []
            for found in processes.gather(dict(zip(mine, entries, strict=True))):
                for key, entry in found.items():
                    if processes.is_first_here or self._config.cache_latents == "memory":
                        self._store(key, entry)
                done += len(found)
            yield Progress("encoding pictures", done, len(views))

    def get(self, example: Example, fit: Fit, flipped: bool = False, *, rng: random.Random | None = None) -> Latent:
        """The picture's latent, encoded now when it is not there (or its file is damaged).

        Args:
            rng: where to cut, for what is cut at random; not used otherwise.
        """
        if example.is_cut_at_random(self._config):
            if rng is None:
                raise ValueError("crop: random needs an rng")
            view = _View(example, fit, flipped, crop_offset(fit, rng))
            entry = self._encode([view], [self._read(view)])[0]
        else:
            view = _View(example, fit, flipped, crop_offset(fit, focus=example.focus))
            entry = self._load_or_encode(view)
        top, left = view.offset
        if flipped:
            left = fit.scaled[0] - fit.bucket[0] - left
        return Latent(entry["mean"], entry["std"], entry.get("mask"), example.size, (top, left), fit.bucket)

    def _load_or_encode(self, view: _View) -> dict[str, torch.Tensor]:
        key = self._key(view)
        entry = self._load(key)
        if entry is None:
            entry = self._encode([view], [self._read(view)])[0]
            self._store(key, entry)
        return entry

    def _key(self, view: _View) -> str:
        mask = view.example.mask_digest or "alpha" if self._config.masked_loss else "none"
        crop = [view.example.crop] if view.example.crop else []
        parts = (_FORMAT, view.example.digest, mask, view.fit, view.offset, view.flipped, self._vae_fingerprint, *crop)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _has(self, key: str) -> bool:
        if self._config.cache_latents == "memory":
            return key in self._memory
        try:
            with safetensors.safe_open(self._path(key), "pt"):  # reads the header, and compares the length with it
                return True
        except (OSError, safetensors.SafetensorError):
            return False

    def _load(self, key: str) -> dict[str, torch.Tensor] | None:
        if self._config.cache_latents == "memory":
            return self._memory.get(key)
        try:
            entry = safetensors.torch.load(self._path(key).read_bytes())
        except (OSError, safetensors.SafetensorError):
            return None
        checksum = entry.pop("checksum", None)
        return entry if checksum is not None and checksum.item() == _checksum(entry) else None

    def _store(self, key: str, entry: dict[str, torch.Tensor]) -> None:
        if self._config.cache_latents == "memory":
            self._memory[key] = entry
        else:
            write_bytes(self._path(key), safetensors.torch.save(entry | {"checksum": torch.tensor(_checksum(entry))}), flush=False)

    def _encode(self, views: Sequence[_View], read: Sequence[_Read]) -> list[dict[str, torch.Tensor]]:
        """``read``: what :meth:`_read` gives of each."""
        pixels, masks = zip(*read, strict=True)
        means, stds = self._encode_pixels(torch.stack(pixels))
        entries = []
        for view, mask, mean, std in zip(views, masks, means, stds, strict=True):
            if not (torch.isfinite(mean).all() and torch.isfinite(std).all()):
                raise UserError(
                    f"cannot encode the picture {view.example.path}: the VAE's result is not finite, as happens in half precision. "
                    "Run the VAE in fp32 (--no-half-vae in the WebUI), or choose another with the option vae."
                )
            # clones, so that no entry keeps its whole batch alive
            entry = {"mean": mean.float().cpu().contiguous().clone(), "std": std.float().cpu().contiguous().clone()}
            entries.append(entry if mask is None else entry | {"mask": mask})
        return entries

    def _read(self, view: _View) -> _Read:
        """The view's pixels and, for masked loss, its mask."""
        example = view.example
        data = read_bytes(example.path)
        if hashlib.sha256(data).hexdigest() != example.digest:
            raise UserError(f"cannot train on the picture {example.path}: it was changed after training started. Start again.")
        whole = decode_picture(data, example.path)
        picture = whole.cut(example.crop)
        pixels, mask = cut_pixels(picture.rgb, view.fit, view.offset), None
        if self._config.masked_loss:
            image = _crop_mask(read_mask(example.mask), whole.rgb.size, example.crop) if example.mask else picture.alpha
            mask = None if image is None else cut_mask(image, view.fit, view.offset, self._config.LATENT_PIXELS)
        if view.flipped:
            pixels, mask = pixels.flip(-1), None if mask is None else mask.flip(-1)
        return pixels, mask


def _crop_mask(mask: Image.Image, size: tuple[int, int], crop: Box | None) -> Image.Image:
    """A mask of a whole picture of that size, cut alike."""
    if crop is None:
        return mask
    return (mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)).crop(crop)


def _cut_batches(missing: Sequence[tuple[tuple[int, int], str]], batch_size: int) -> Iterator[list[str]]:
    """Keys in batches of the same bucket; ``missing`` is sorted by bucket."""
    batch: list[str] = []
    bucket = None
    for size, key in missing:
        if batch and (size != bucket or len(batch) == batch_size):
            yield batch
            batch = []
        batch.append(key)
        bucket = size
    if batch:
        yield batch


def _checksum(entry: dict[str, torch.Tensor]) -> int:
    total = 0
    for name in sorted(entry):
        total = zlib.crc32(entry[name].contiguous().numpy().tobytes(), total)
    return total
