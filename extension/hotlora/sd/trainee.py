"""A Stable Diffusion model with its pictures, as the training loop sees it.

Joins data, objective and file format to any :class:`~.model.ImageModel`; the same for every host.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine.interfaces import AdapterChoice, Adapters, Draws, Loss, PreviewRequest, Progress, Target
from ..engine.run import Run
from ..pictures.batches import plan_batches
from ..pictures.buckets import choose_bucket, crop_offset
from ..pictures.captions import render_caption, render_fixed
from ..pictures.dataset import Dataset, Example, scan_dataset
from ..pictures.index import choose_cache_folder
from ..pictures.latents import Latent, LatentCache
from ..pictures.prompts import read_prompt
from ..pictures.sheet import Sample, draw_sheet, write_png
from . import objectives
from .conditions import Conditions, send
from .config import ImageConfig
from .continuing import begin
from .kohya import SAVE_DTYPES, write_lora
from .metadata import DatasetFacts, build_metadata, file_hashes, write_sidecar
from .model import ImageModel, SdSampleRequest
from .targets import choose_targets

_VALIDATION_TIMESTEPS = 4


@dataclass(frozen=True)
class ImageBatch:
    """Pictures of one bucket, by their index among the run's examples."""

    items: tuple[int, ...]

    @property
    def count(self) -> float:
        return float(len(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def halves(self) -> tuple["ImageBatch", "ImageBatch"]:
        middle = len(self.items) // 2
        return ImageBatch(self.items[:middle]), ImageBatch(self.items[middle:])


class ImageTrainee:
    """Implements :class:`hotlora.engine.interfaces.Trainee`."""

    largest_batch: int | None = None

    def __init__(self, model: ImageModel, config: ImageConfig):
        self.model, self.config = model, config
        self._start = begin(config, model)
        self.modules: list[nn.Module] = [model.unet, *model.text_encoders]
        self.fingerprint, self.device, self.compute_dtype = model.fingerprint, model.device, model.compute_dtype
        self._conditions = Conditions(model, config)
        self.data_fingerprint = ""
        self._loss_snr = objectives.snr(model.alphas_cumprod)
        self._alphas_cumprod = (
            objectives.rescale_zero_terminal_snr(model.alphas_cumprod) if model.zero_terminal_snr else model.alphas_cumprod
        )
        for prompt in config.sample_prompts:
            read_prompt(str(prompt), config, 0)  # a malformed one is better said now than at the first sample

    # -- data ----------------------------------------------------------------------------------------------------------

    def prepare(self) -> Iterator[Progress]:
        """Read and check the pictures, then encode those that are not in the cache."""
        yield from self._read_data()
        yield from self._cache.fill(list(zip(self._examples, self._fits, strict=True)))

    def _read_data(self) -> Iterator[Progress]:
        self.dataset: Dataset = yield from scan_dataset(self.config)
        self._examples: list[Example] = [*self.dataset.train, *self.dataset.validation]
        self.data_fingerprint = self.dataset.fingerprint()
        self._fits = [choose_bucket(*example.size, self.config) for example in self._examples]
        folder = choose_cache_folder(self.config)
        self._cache = LatentCache(self.model.encode_pixels, self.model.vae_fingerprint, self.config, folder)

    def warnings(self) -> list[str]:
        start = self._start.notes if self._start else []
        return [*self.model.warnings, *start, *self.dataset.problems, *self.dataset.notes, *self._tell_cut_captions()]

    def _tell_cut_captions(self) -> list[str]:
        """A line about captions with more tokens than are read."""
        most = self.config.max_token_length
        tokens = {example.path: self._count_tokens(self._fixed_caption(example)) for example in self._examples}
        cut = {path: count for path, count in tokens.items() if count > most}
        if not cut:
            return []
        first = ", ".join(f"{path.name} ({count} tokens)" for path, count in list(cut.items())[:3])
        more = " …" if len(cut) > 3 else ""
        longer = next((length for length in (150, 225) if length >= max(cut.values())), 225)
        advice = f"Set max_token_length: {longer}, or shorten them." if longer > most else "Shorten them."
        number = f"{len(cut)} captions are" if len(cut) > 1 else "1 caption is"
        return [f"{number} longer than {most} tokens, and what is beyond is not learned: {first}{more}. {advice}"]

    def _count_tokens(self, caption: str) -> int:
        return self.model.count_tokens(caption) if hasattr(self.model, "count_tokens") else 0

    def summary(self) -> dict[str, Any]:
        train = [example for example in self.dataset.train if not example.is_reg]
        buckets = sorted({fit.bucket for fit in self._fits})
        summary = {
            "base model": f"{self.model.name} ({self.model.family}, {self.model.prediction_type})",
            "pictures": len(train),
            "per epoch with repeats": sum(example.repeats for example in train),
            "sizes": " ".join(f"{w}x{h}" for w, h in buckets[:6]) + (" …" if len(buckets) > 6 else ""),
        }
        if self.dataset.validation:
            summary["kept back for validation"] = len(self.dataset.validation)
        if len(train) < len(self.dataset.train):
            summary["regularisation pictures"] = len(self.dataset.train) - len(train)
        return summary

    def batches(self, epoch: int, seed: int) -> list[ImageBatch]:
        count = len(self.dataset.train)
        plan = plan_batches(self._examples[:count], self._fits[:count], self.config.batch_size, epoch=epoch, seed=seed)
        return [ImageBatch(tuple(items)) for items in plan]

    # -- objective -----------------------------------------------------------------------------------------------------

    def adapter_choice(self) -> AdapterChoice:
        """A1111, ComfyUI and OneTrainer apply DoRA per input column; a file of another kind stays what it is."""
        axis = self._start.dora_axis if self._start else None
        return AdapterChoice(kind=self.config.network_type, lokr_factor=self.config.lokr_factor, dora_axis=axis or "input")

    def targets(self) -> Mapping[str, Target]:
        if self._start:
            return self._start.targets(self.config)
        return choose_targets(self.model.unet_layers(), self.model.text_layers(), self.config)

    def training(self) -> contextlib.AbstractContextManager[None]:
        return self.model.training(gradient_checkpointing=self.config.gradient_checkpointing)

    def foresee(self, steps: Sequence[tuple[ImageBatch, Draws]]) -> None:
        """Encode captions for all of them at once: where the text encoders wait elsewhere, they are fetched once."""
        self._conditions.encode_ahead([self._foresee_captions(batch, draws) for batch, draws in steps])

    def _foresee_captions(self, batch: ImageBatch, draws: Draws) -> list[str]:
        """Those that :meth:`loss` will render; a picture's flip and crop are drawn before its caption."""
        captions = []
        for place, index in enumerate(batch.items):
            chance = draws.chance(place)
            self._draw_flip(chance)
            if self.config.crop == "random":
                crop_offset(self._fits[index], chance)
            captions.append(self._draw_caption(index, chance))
        return captions

    def loss(self, batch: ImageBatch, draws: Draws) -> Loss:
        """Sum over the batch of each picture's weighted denoising error; see ``objectives`` for the formulas."""
        latents, noises, inputs, timesteps, cached, captions = [], [], [], [], [], []
        for place, index in enumerate(batch.items):
            generator, chance = draws.generator(place), draws.chance(place)
            latent = self._latent(index, chance)
            x = self.model.scaling_factor * (latent.mean + latent.std * torch.randn(latent.mean.shape, generator=generator))
            noise = objectives.draw_noise(tuple(x.shape), self.config, generator)
            timesteps.append(objectives.draw_timestep(self.config, generator))
            inputs.append(objectives.perturb_noise(noise, self.config, generator))
            captions.append(self._draw_caption(index, chance))
            latents.append(x)
            noises.append(noise)
            cached.append(latent)
        steps = torch.tensor(timesteps)
        weights = objectives.loss_weights(steps, self._loss_snr, self.config, self.model.prediction_type)
        weights = weights * torch.tensor([self.config.prior_loss_weight if self._examples[i].is_reg else 1.0 for i in batch.items])
        weights = send(weights, self.device)
        losses = self._losses(torch.stack(latents), torch.stack(noises), torch.stack(inputs), steps, captions, cached)
        return Loss((losses * weights).sum(), batch.count)

    def _latent(self, index: int, chance) -> Latent:
        return self._cache.get(self._examples[index], self._fits[index], self._draw_flip(chance), rng=chance)

    def _draw_flip(self, chance) -> bool:
        return self.config.flip_aug and chance.random() < 0.5

    def _draw_caption(self, index: int, chance) -> str:
        example = self._examples[index]
        return render_caption(example.caption, self.config, chance, with_trigger=not example.is_reg)

    def _losses(self, latents, noises, inputs, steps, captions, cached) -> torch.Tensor:
        """[batch] errors of the model's answers; all tensors [batch, 4, h, w] on the CPU."""
        device, alphas = self.device, self._alphas_cumprod
        cond = self._conditions.encode(captions)
        noisy = objectives.add_noise(latents, inputs, steps, alphas)
        wanted = objectives.target(latents, noises, steps, alphas, self.model.prediction_type)
        sizes = None
        if self.model.family == "sdxl":
            sizes = send(torch.tensor([latent.size_ids() for latent in cached], dtype=torch.float32), device)
        mask = send(torch.stack([_mask_of(latent) for latent in cached]), device) if self.config.masked_loss else None
        noisy, wanted, sent_steps = send(noisy, device), send(wanted, device), send(steps, device)  # before it is busy
        answer = self.model.predict(noisy, sent_steps, cond, sizes)
        return objectives.example_losses(answer, wanted, self.config, steps, alphas, mask)

    def validation_batches(self) -> list[ImageBatch]:
        first = len(self.dataset.train)
        indices = range(first, first + len(self.dataset.validation))
        return [ImageBatch((index,)) for index in indices]

    def validation_loss(self, batch: ImageBatch) -> Loss:
        """Mean error at four timesteps spread over the trained range, on noise fixed by picture and timestep; without
        timestep weights, so that runs with different options can be compared."""
        low, high = self.config.min_timestep, self.config.max_timestep
        steps = [round(low + (high - low) * (i + 1) / (_VALIDATION_TIMESTEPS + 1)) for i in range(_VALIDATION_TIMESTEPS)]
        total = torch.zeros(())
        for index in batch.items:
            example = self._examples[index]
            latent = self._cache.get(example, self._fits[index], rng=random.Random(0))
            x = (self.model.scaling_factor * latent.mean).expand(len(steps), -1, -1, -1)
            generator = torch.Generator().manual_seed(int(example.digest[:12], 16))
            noise = torch.randn(x.shape, generator=generator)
            caption = self._fixed_caption(example)
            count = len(steps)
            losses = self._losses(x, noise, noise, torch.tensor(steps), [caption] * count, [latent] * count)
            total = total + losses.mean().cpu()
        return Loss(total, batch.count)

    def _fixed_caption(self, example: Example) -> str:
        return render_fixed(example.caption, self.config, with_trigger=not example.is_reg)

    # -- samples -------------------------------------------------------------------------------------------------------

    def preview_requests(self) -> list[PreviewRequest]:
        prompts = [str(prompt) for prompt in self.config.sample_prompts]
        if not prompts:
            first = next(example for example in self.dataset.train if not example.is_reg)
            prompts = [self._fixed_caption(first)]
        return [PreviewRequest(prompt, self.config.sample_seed) for prompt in prompts]

    def preview(self, request: PreviewRequest) -> Sample:
        plain, config = read_prompt(request.prompt, self.config, request.seed), self.config
        wanted = SdSampleRequest(**vars(plain), clip_skip=config.clip_skip, max_token_length=config.max_token_length)
        return Sample(self.model.sample(wanted), wanted, f"<lora:{self.config.name}:{request.weight:g}>")

    def write_comparison(self, rows: Sequence[Sequence[tuple[PreviewRequest, Sample]]], run: Run) -> dict[str, Path]:
        """The sheet, and as cover the first prompt's sample at the highest weight up to 1."""
        title = f"{self.config.name} on {self.model.name}"
        sheet = draw_sheet([[(request.weight, sample) for request, sample in row] for row in rows], title)
        _, cover = max(rows[0], key=lambda made: made[0].weight if made[0].weight <= 1 else 0)
        return {"sheet": write_png(sheet, run.folder / "comparison.png"), "cover": cover.save(run.stem)}

    # -- files ---------------------------------------------------------------------------------------------------------

    def write(self, adapters: Adapters, path: Path, notes: Mapping[str, Any]) -> Path:
        """A kohya file with complete metadata, and A1111's sidecar beside it."""
        vae = Path(self.config.vae) if self.config.vae else None
        model_hashes, vae_hashes = (file_hashes(file) if file and file.is_file() else None for file in (self.model.path, vae))
        metadata = build_metadata(
            self.config,
            self.model,
            self._facts(),
            notes,
            hashes=model_hashes,
            vae_hashes=vae_hashes,
            adapters=adapters,
            dora_axis=self.adapter_choice().dora_axis,
        )
        write_lora(adapters, path, metadata, SAVE_DTYPES[self.config.save_precision], self._start.kept if self._start else None)
        write_sidecar(path, self.config, self.model.family, notes, adapters=adapters)
        return path

    def _facts(self) -> DatasetFacts:
        data = self.dataset
        return DatasetFacts(
            num_train_images=data.count(),
            num_reg_images=data.count(is_reg=True),
            num_validation_images=len(data.validation),
            num_batches_per_epoch=len(self.batches(0, self.config.seed)),
            dataset_dirs=data.folders(),
            reg_dataset_dirs=data.folders(is_reg=True),
            tag_frequency=data.tags(self.config),
            bucket_info=data.buckets(self._fits[: len(data.train)]) if self.config.enable_bucket else None,
        )

    def read(self, path: Path) -> dict[str, dict[str, torch.Tensor]]:
        """Of ``init_lora``, which was fitted to the model when it was borrowed."""
        assert self._start is not None, f"nothing is gone on from, not even from {path}"
        return self._start.read()

    def keep(self, folder: Path) -> None:
        """The file of ``init_lora``: it says ranks by layer, and holds what is written out again as it is."""
        if self._start:
            self._start.keep(folder)


def _mask_of(latent: Latent) -> torch.Tensor:
    """[1, h, w]: the picture's mask, or all of it where there is none."""
    return torch.ones(1, *latent.mean.shape[1:]) if latent.mask is None else latent.mask
