"""The pictures of a run as training draws them: each at its size, by the options of its folder, with its latent.

A picture is meant by its place among the run's examples, those to train on before those kept back. All chance comes from the caller, and is
drawn in one order: mirroring, cutting, caption. Must not import any host; the VAE comes in as a function.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ..engine.interfaces import Progress
from ..engine.processes import ALONE, Processes
from .batches import plan_batches
from .buckets import crop_offset
from .captions import render_caption, render_fixed
from .config import PictureConfig
from .dataset import Dataset, Example
from .entries import Source, list_sources
from .latents import Latent, LatentCache


class Stock:
    """Everything that a loss needs of the pictures.

    Args:
        encode_pixels, vae_fingerprint, folder: as for :class:`LatentCache`.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: PictureConfig,
        encode_pixels: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        vae_fingerprint: str,
        folder: Path,
    ):
        self.dataset, self._config = dataset, config
        self._sources = list_sources(config)
        self.examples: list[Example] = [*dataset.train, *dataset.validation]
        self.fits = [dataset.fit(example) for example in self.examples]
        self.fingerprint = dataset.fingerprint(config.resolution)
        self.cache = LatentCache(encode_pixels, vae_fingerprint, config, folder)

    def renew(self, config: PictureConfig) -> "Stock":
        """The same pictures and latents for other options of learning."""
        fresh = object.__new__(Stock)
        vars(fresh).update(vars(self))
        fresh._config, fresh._sources = config, list_sources(config)
        return fresh

    def fill(self, processes: Processes = ALONE) -> Iterator[Progress]:
        """Encode those that are not in the cache, each process some of them."""
        pictures = list(zip(self.examples, self.fits, strict=True))
        yield from self.cache.fill(pictures, lambda example: self._source(example).config.flip_aug, processes)

    def plan(self, *, epoch: int, seed: int) -> list[list[int]]:
        """The epoch's batches, as places."""
        count = len(self.dataset.train)
        return plan_batches(self.examples[:count], self.fits[:count], self._config.batch_size, epoch=epoch, seed=seed)

    def latent(self, place: int, chance: random.Random) -> Latent:
        """The picture as it is trained on this time."""
        return self.cache.get(self.examples[place], self.fits[place], self._draw_flip(place, chance), rng=chance)

    def fixed_latent(self, place: int) -> Latent:
        """With nothing random about it."""
        return self.cache.get(self.examples[place], self.fits[place], rng=random.Random(0))

    def caption(self, place: int, chance: random.Random) -> str:
        """The caption of this time, to be drawn after :meth:`latent`."""
        example = self.examples[place]
        return render_caption(example.caption, self._source(example).config, chance, with_trigger=not example.is_reg)

    def foresee_caption(self, place: int, chance: random.Random) -> str:
        """The same, where the latent is not needed yet."""
        self._draw_flip(place, chance)
        if self.examples[place].is_cut_at_random(self._config):
            crop_offset(self.fits[place], chance)
        return self.caption(place, chance)

    def fixed_caption(self, example: Example) -> str:
        """With nothing random about it."""
        return render_fixed(example.caption, self._source(example).config, with_trigger=not example.is_reg)

    def weight(self, place: int) -> float:
        """Of the picture's error in the loss."""
        example = self.examples[place]
        return (self._config.prior_loss_weight if example.is_reg else 1.0) * self._source(example).weight

    def _source(self, example: Example) -> Source:
        return self._sources[example.source]

    def _draw_flip(self, place: int, chance: random.Random) -> bool:
        return self._source(self.examples[place]).config.flip_aug and chance.random() < 0.5
