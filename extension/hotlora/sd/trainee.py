"""A Stable Diffusion model with its pictures, as the training loop sees it.

Joins data, objective and file format to any :class:`~.model.ImageModel`; the same for every host.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine.grid import Grid
from ..engine.interfaces import AdapterChoice, Adapters, Draws, Loss, PreviewRequest, Progress, Target
from ..engine.precision import describe_precision
from ..engine.processes import ALONE
from ..engine.redrawing import Opened
from ..engine.run import Run
from ..pictures.dataset import Dataset, scan_dataset
from ..pictures.folder_facts import count_buckets, count_folders, count_tags, list_datasets
from ..pictures.grid_page import write_grid_page
from ..pictures.index import choose_cache_folder
from ..pictures.latents import Latent
from ..pictures.prompts import read_prompt
from ..pictures.sheet import Sample, draw_sheet, write_png
from ..pictures.stock import Stock
from . import objectives
from .conditions import Conditions, send
from .config import ImageConfig
from .continuing import begin, open_fitted
from .file_hashes import file_hashes
from .kohya import SAVE_DTYPES, write_lora
from .metadata import DatasetFacts, build_metadata, write_sidecar
from .model import ImageModel, read_sample
from .names import is_plain_layer
from .readers import tell_loading
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
        self._unet_paths = [path for path, layer in model.unet.named_modules() if is_plain_layer(layer)]
        self.modules: list[nn.Module] = [model.unet, *model.text_encoders]
        self.fingerprint, self.device, self.compute_dtype = model.fingerprint, model.device, model.compute_dtype
        self._conditions = Conditions(model, config)
        self.data_fingerprint, self.processes = "", ALONE
        self._loss_snr = objectives.snr(model.alphas_cumprod)
        self._alphas_cumprod = (
            objectives.rescale_zero_terminal_snr(model.alphas_cumprod) if model.zero_terminal_snr else model.alphas_cumprod
        )
        for prompt in config.sample_prompts:
            read_prompt(str(prompt), config, 0)  # a malformed one is better said now than at the first sample

    # -- data ----------------------------------------------------------------------------------------------------------

    def prepare(self) -> Iterator[Progress]:
        """Read and check the pictures, then encode those that are not in the cache."""
        if self.data_fingerprint:
            return  # renewed
        yield from self.processes.in_turn(self._read_data)
        self.processes.require_same({"training data": self.data_fingerprint, "VAE": self.model.vae_fingerprint})
        yield from self.stock.fill(self.processes)

    def renew(self, config: ImageConfig) -> "ImageTrainee":
        """The same pictures, latents and encoded captions for a run of other options; see :class:`~..engine.interfaces.Renewing`."""
        fresh = ImageTrainee(self.model, config)
        fresh.dataset, fresh.stock = self.dataset, self.stock.renew(config)
        fresh._conditions, fresh.data_fingerprint = self._conditions, self.data_fingerprint
        return fresh

    def _read_data(self) -> Iterator[Progress]:
        self.dataset: Dataset = yield from scan_dataset(self.config)
        model, folder = self.model, choose_cache_folder(self.config)
        self.stock = Stock(self.dataset, self.config, model.encode_pixels, model.vae_fingerprint, folder)
        self.data_fingerprint = self.stock.fingerprint

    def warnings(self) -> list[str]:
        start = self._start.notes if self._start else []
        return [*self.model.warnings, *start, *self.dataset.problems, *self.dataset.notes, *self._tell_cut_captions()]

    def _tell_cut_captions(self) -> list[str]:
        """A line about captions with more tokens than are read."""
        most = self.config.max_token_length
        tokens = {example.path: self._count_tokens(self.stock.fixed_caption(example)) for example in self.stock.examples}
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
        reg = {example.path for example in self.dataset.train if example.is_reg}
        buckets = sorted({fit.bucket for fit in self.stock.fits})
        summary = {
            "base model": f"{self.model.name} ({self.model.family}, {self.model.prediction_type})",
            "precision": describe_precision(self.config.mixed_precision, self.compute_dtype),
            "pictures": len({example.path for example in train}),
            "per epoch with repeats": sum(example.repeats for example in train),
            "sizes": " ".join(f"{w}x{h}" for w, h in buckets[:6]) + (" …" if len(buckets) > 6 else ""),
        }
        focused, cropped = ({example.path for example in train if getattr(example, said)} for said in ("focus", "crop"))
        if focused:
            summary["with a focus point"] = len(focused)
        if cropped:
            summary["cropped by hand"] = len(cropped)
        if self.dataset.validation:
            summary["kept back for validation"] = len({example.path for example in self.dataset.validation})
        if reg:
            summary["regularisation pictures"] = len(reg)
        return summary

    def batches(self, epoch: int, seed: int) -> list[ImageBatch]:
        return [ImageBatch(tuple(items)) for items in self.stock.plan(epoch=epoch, seed=seed)]

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
        foreseen = [
            [self.stock.foresee_caption(item, draws.chance(place)) for place, item in enumerate(batch.items)] for batch, draws in steps
        ]
        self._conditions.encode_ahead(foreseen)

    def loss(self, batch: ImageBatch, draws: Draws) -> Loss:
        """Sum over the batch of each picture's weighted denoising error; see ``objectives`` for the formulas."""
        latents, noises, inputs, timesteps, cached, captions = [], [], [], [], [], []
        for place, index in enumerate(batch.items):
            generator, chance = draws.generator(place), draws.chance(place)
            latent = self.stock.latent(index, chance)
            x = self.model.scaling_factor * (latent.mean + latent.std * torch.randn(latent.mean.shape, generator=generator))
            noise = objectives.draw_noise(tuple(x.shape), self.config, generator)
            timesteps.append(objectives.draw_timestep(self.config, generator))
            inputs.append(objectives.perturb_noise(noise, self.config, generator))
            captions.append(self.stock.caption(index, chance))
            latents.append(x)
            noises.append(noise)
            cached.append(latent)
        steps = torch.tensor(timesteps)
        weights = objectives.loss_weights(steps, self._loss_snr, self.config, self.model.prediction_type)
        weights = weights * torch.tensor([self.stock.weight(index) for index in batch.items])
        weights = send(weights, self.device)
        losses = self._losses(torch.stack(latents), torch.stack(noises), torch.stack(inputs), steps, captions, cached)
        return Loss((losses * weights).sum(), batch.count)

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

    def spread_training(self, count: int) -> list[ImageBatch]:
        """So many training pictures, evenly over all, one by one: to be judged as those that were kept back."""
        indices = [index for index, example in enumerate(self.dataset.train) if not example.is_reg]
        count = min(count, len(indices))
        return [ImageBatch((indices[place * len(indices) // count],)) for place in range(count)]

    def known_examples(self, *, kept_back: bool) -> Iterator[tuple[Path, str, torch.Tensor]]:
        """(file, caption without chance, the VAE's mean [4, h, w]) of every training picture but regularisation's, or of those that
        were kept back."""
        first = len(self.dataset.train)
        for place in range(first, len(self.stock.examples)) if kept_back else range(first):
            example = self.stock.examples[place]
            if not example.is_reg:
                yield example.path, self.stock.fixed_caption(example), self.stock.fixed_latent(place).mean

    def validation_loss(self, batch: ImageBatch) -> Loss:
        """Mean error at four timesteps spread over the trained range, on noise fixed by picture and timestep; without
        timestep weights, so that runs with different options can be compared."""
        low, high = self.config.min_timestep, self.config.max_timestep
        steps = [round(low + (high - low) * (i + 1) / (_VALIDATION_TIMESTEPS + 1)) for i in range(_VALIDATION_TIMESTEPS)]
        total = torch.zeros(())
        for index in batch.items:
            example, latent = self.stock.examples[index], self.stock.fixed_latent(index)
            x = (self.model.scaling_factor * latent.mean).expand(len(steps), -1, -1, -1)
            generator = torch.Generator().manual_seed(int(example.digest[:12], 16))
            noise = torch.randn(x.shape, generator=generator)
            caption = self.stock.fixed_caption(example)
            count = len(steps)
            losses = self._losses(x, noise, noise, torch.tensor(steps), [caption] * count, [latent] * count)
            total = total + losses.mean().cpu()
        return Loss(total, batch.count)

    # -- samples -------------------------------------------------------------------------------------------------------

    def preview_requests(self) -> list[PreviewRequest]:
        prompts = [str(prompt) for prompt in self.config.sample_prompts]
        if not prompts:
            first = next(example for example in self.dataset.train if not example.is_reg)
            prompts = [self.stock.fixed_caption(first)]
        return [PreviewRequest(prompt, self.config.sample_seed) for prompt in prompts]

    def preview(self, request: PreviewRequest) -> Sample:
        wanted = read_sample(request, self.config)
        return Sample(self.model.sample(wanted), wanted, f"<lora:{request.adapter or self.config.name}:{request.weight:g}>")

    def settle(self, request: PreviewRequest) -> dict[str, Any]:
        """All that a picture follows from beside the U-Net, the text encoders and the adapter. Not the program's own settings."""
        model, dtype = self.model, str(self.compute_dtype)
        read_as = [type(model).__name__, model.vae_fingerprint, model.prediction_type, model.zero_terminal_snr, dtype]
        return {**vars(read_sample(request, self.config)), "read as": read_as}

    def open(self, path: Path) -> Opened:
        """A finished LoRA, fitted to the model."""
        return open_fitted(path, self.model)

    def write_grid(self, grid: Grid) -> Path:
        """A page with all pictures in it."""
        return write_grid_page(grid, f"{grid.title} on {self.model.name}")

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
        dtype, kept = SAVE_DTYPES[self.config.save_precision], self._start.kept if self._start else None
        loads = write_lora(adapters, path, metadata, dtype, kept, self._judge_loading)
        write_sidecar(path, self.config, self.model.family, notes, adapters=adapters, loads=loads)
        return path

    def _judge_loading(self, tensors: Mapping[str, torch.Tensor]) -> str:
        return tell_loading(tensors, self.model.family, self._unet_paths)

    def _facts(self) -> DatasetFacts:
        data, fits = self.dataset, self.stock.fits[: len(self.dataset.train)]
        trained = [source for source in data.sources if source.use == "train"]
        options = [options for source in trained for options in source.by_resolution.values()]
        return DatasetFacts(
            num_train_images=data.count(),
            num_reg_images=data.count(is_reg=True),
            num_validation_images=len(data.validation),
            num_focused=len({example.path for example in data.train if example.focus}),
            num_cropped=len({example.path for example in data.train if example.crop}),
            random_crop=any(example.is_cut_at_random(self.config) for example in data.train),
            num_batches_per_epoch=len(self.batches(0, self.config.seed)),
            dataset_dirs=count_folders(data),
            reg_dataset_dirs=count_folders(data, is_reg=True),
            tag_frequency=count_tags(data),
            bucket_info=count_buckets(data, fits),
            datasets=list_datasets(data, fits, self.config.batch_size) if self.config.datasets or len(options) > 1 else None,
            options=options,
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
