"""Options of a Stable Diffusion run: what only these models have."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..engine.errors import UserError
from ..engine.idle import Uses
from ..engine.options import option
from ..pictures.config import PictureConfig
from .recipes.files import convert_file
from .recipes.imported import Imported
from .recipes.names import NAMES

NETWORKS = {"standard": "lora", "networks.lora": "lora", "lierla": "lora", "lycoris_lora": "lora"}
PREDICTIONS = {
    "eps": "epsilon",
    "e": "epsilon",
    "noise": "epsilon",
    "v": "v_prediction",
    "vpred": "v_prediction",
    "velocity": "v_prediction",
}
LOSSES = {"mse": "l2", "mae": "l1", "smoothl1": "smooth_l1", "pseudo_huber": "huber"}


@dataclass
class ImageConfig(PictureConfig):
    """All options of training an image LoRA."""

    OF_THE_MODEL: ClassVar[Sequence[str]] = ("mixed_precision", "quantization")
    TASK: ClassVar[str] = "image-generation"
    TASK_SPELLINGS: ClassVar[Sequence[str]] = (
        *("image", "images", "picture", "pictures", "text-to-image", "text2image", "txt2img", "stable-diffusion", "diffusion"),
    )
    LATENT_PIXELS: ClassVar[int] = 8
    OTHER_NAMES: ClassVar = NAMES
    NEVER_SEARCHED: ClassVar[Sequence[str]] = ("train_text_encoder",)

    task_type: str = option(
        TASK,
        "What is trained: `image-generation` or `text-generation`.",
        choices=(TASK,),
        spellings=dict.fromkeys(TASK_SPELLINGS, TASK),
        group="Run",
    )

    # captions, as CLIP reads them
    clip_skip: int | None = option(
        None,
        "Take the text encoder's output this many layers before its end (2 for many anime models).",
        minimum=1,
        maximum=12,
        group="Captions",
    )
    max_token_length: int = option(
        75, "Longest caption in tokens; longer ones are cut.", choices=(75, 150, 225), spellings={"77": 75, "154": 150, "231": 225}
    )

    # network
    network_type: str = option(
        "lora", "Kind of adapter.", choices=("lora", "loha", "lokr"), spellings=NETWORKS, fixed=True, group="Network"
    )
    conv_rank: int = option(0, "Rank for 3x3 convolutions too (LoCon); 0 leaves them.", minimum=0, maximum=100_000, fixed=True)
    conv_alpha: float | None = option(None, "Strength for convolutions; same as `conv_rank` when empty.", minimum=0, fixed=True)
    lokr_factor: int = option(-1, "Size of LoKr's first factor; -1 chooses it.", minimum=-1, maximum=100_000, fixed=True)
    train_unet: bool = option(True, "Train the U-Net.", fixed=True)
    train_text_encoder: bool = option(False, "Train the text encoder too. Seldom needed; never for SDXL.", fixed=True)
    text_encoder_lr: float | None = option(
        None, "Learning rate of the text encoder; same as `learning_rate` when empty.", minimum=0, maximum=1000
    )
    block_ranks: dict = option({}, "Rank by U-Net block, such as `{down_blocks_0: 4, mid_block: 8}`; 0 leaves a block out.", fixed=True)
    block_lrs: dict = option({}, "Learning rate by U-Net block, likewise.")
    include: str = option("", "Only layers whose exported name this regular expression finds, such as `attn2`.", fixed=True)
    exclude: str = option("", "No layers whose exported name this regular expression finds.", fixed=True)

    # objective
    prediction_type: str = option(
        "auto",
        "What the base model predicts; read from the checkpoint.",
        choices=("auto", "epsilon", "v_prediction"),
        spellings=PREDICTIONS,
        group="Objective",
    )
    zero_terminal_snr: bool | None = option(
        None, "Noise schedule that ends in pure noise (arXiv 2305.08891); read from the checkpoint when empty."
    )
    min_snr_gamma: float | None = option(
        None, "Weigh timesteps by min(SNR, gamma) (arXiv 2303.09556); 5 learns faster.", minimum=0, maximum=1e6
    )
    debiased_estimation: bool = option(False, "Weigh timesteps by 1 / sqrt(SNR) (arXiv 2310.08442).")
    noise_offset: float = option(0.0, "Shift the noise's mean, for darker and lighter pictures; 0.05 is usual.", minimum=0, maximum=100)
    multires_noise_iterations: int = option(0, "Add noise of so many coarser resolutions; 6 is usual.", minimum=0, maximum=64)
    multires_noise_discount: float = option(0.3, "Strength of each coarser noise against the last.", minimum=0, maximum=1)
    ip_noise_gamma: float = option(
        0.0, "Input perturbation: extra noise on the input only (arXiv 2301.11706); 0.1 is usual.", minimum=0, maximum=100
    )
    loss_type: str = option(
        "l2", "How errors count; the others are gentler to outliers.", choices=("l2", "l1", "huber", "smooth_l1"), spellings=LOSSES
    )
    huber_schedule: str = option("snr", "How Huber's threshold changes with the timestep.", choices=("constant", "exponential", "snr"))
    huber_c: float = option(0.1, "Huber's threshold.", minimum=1e-6, maximum=1e6)
    huber_scale: float = option(1.0, "Factor on Huber's threshold (constant and exponential).", minimum=0, maximum=1e6)
    min_timestep: int = option(0, "Lowest timestep trained.", minimum=0, maximum=999)
    max_timestep: int = option(1000, "Timesteps below this are trained.", minimum=1, maximum=1000)

    # model
    vae: str = option("", "Another VAE than the checkpoint's own: a file or folder.", group="Model", path=True)
    quantization: str = option(
        "none",
        "Stand-alone: hold the U-Net's transformer blocks in fewer bits to save memory. Needs the package bitsandbytes.",
        choices=("none", "8bit", "4bit"),
        fixed=True,
    )
    training_comment: str = option("", "A note kept in the file's metadata.")

    @classmethod
    def import_recipe(cls, path: Path) -> Imported:
        """Another trainer's recipe as options of this class, with what became of each key. Raises UserError."""
        return convert_file(path, cls)

    @property
    def conv_alpha_value(self) -> float:
        """`conv_alpha`, or `conv_rank` where none is set."""
        return float(self.conv_alpha if self.conv_alpha else self.conv_rank)

    def list_uses(self) -> Uses:
        """Options that only count beside others; see :mod:`..engine.idle`. What ``init_lora`` may switch on is used."""
        goes_on, is_lora = bool(self.init_lora), self.network_type == "lora"
        huber = (self.loss_type in ("huber", "smooth_l1"), "only loss_type huber and smooth_l1 have a threshold")
        return {
            **super().list_uses(),
            "conv_alpha": (goes_on or self.conv_rank > 0, "conv_rank is 0"),
            "lokr_factor": (goes_on or self.network_type == "lokr", "only network_type lokr has factors"),
            "use_rslora": (goes_on or is_lora, f"network_type {self.network_type} is scaled by alpha / rank"),
            "text_encoder_lr": (goes_on or self.train_text_encoder, "train_text_encoder is off"),
            "block_lrs": (goes_on or self.train_unet, "train_unet is off"),
            "block_ranks": (goes_on or self.train_unet, "train_unet is off"),
            "multires_noise_discount": (self.multires_noise_iterations > 0, "multires_noise_iterations is 0"),
            "huber_c": huber,
            "huber_schedule": huber,
            "huber_scale": huber,
        }

    def save_memory(self) -> list[dict[str, Any]]:
        """Fewer bits of the base model where the adapter allows them, and at last smaller pictures, too."""
        packs = self.quantization == "none" and self.network_type == "lora" and not self.use_dora
        bits = [{"quantization": bits} for bits in ("8bit", "4bit") if packs]
        return [*super().save_memory(), *bits, *self.list_smaller_sizes()]

    def search_also(self) -> Mapping[str, tuple[Any, ...]]:
        """Which layers, convolutions too or not, and which kind of adapter."""
        space: dict[str, tuple[Any, ...]] = {
            "include": tuple(dict.fromkeys((self.include, "attn[12]_to_(q|k|v|out_0)$", ""))),
            "conv_rank": tuple(dict.fromkeys((self.conv_rank, 0, 8))),
        }
        return space if self.use_dora else {**space, "network_type": ("lora", "loha", "lokr")}

    def search_first(self) -> Sequence[Mapping[str, Any]]:
        """All layers, and convolutions too: the best of the presets by far, see tools/bench_presets.py."""
        return [{"include": "", "conv_rank": 8}]

    def learning_rates(self) -> list[float]:
        """Every rate that layers may learn at; 0 leaves some out."""
        rates = [self.learning_rate] if self.train_unet else []
        if self.train_text_encoder:
            rates.append(self.learning_rate if self.text_encoder_lr is None else self.text_encoder_lr)
        return [*rates, *_read_rates(self.block_lrs.values())] if self.train_unet else rates

    def check(self) -> None:
        """Raise UserError where options contradict each other."""
        super().check()
        if self.min_timestep >= self.max_timestep:
            raise UserError(
                f"cannot train timesteps {self.min_timestep} to {self.max_timestep}: there are none. Set min_timestep below max_timestep."
            )
        if not (self.train_unet or self.train_text_encoder):
            raise UserError("cannot train nothing: train_unet and train_text_encoder are both off. Switch one of them on.")
        if self.quantization != "none" and (self.use_dora or self.network_type != "lora"):
            kind = "DoRA" if self.use_dora else self.network_type
            raise UserError(
                f"cannot train {kind} on a model in {self.quantization}: it needs the weights as they are. "
                "Set quantization: none, or train a plain LoRA."
            )
        if self.auto_rank and self.network_type != "lora":
            raise UserError(
                f"cannot choose ranks by themselves for {self.network_type}: only a LoRA's layers can be cut to another rank. "
                "Set network_type: lora or auto_rank: false."
            )
        if self.use_dora and self.network_type != "lora":
            raise UserError(f"cannot use DoRA with {self.network_type}: it is made for LoRA. Set network_type: lora or use_dora: false.")


def _read_rates(values: Iterable[Any]) -> list[float]:
    """Those that are numbers; what is wrong with others is said where blocks are known."""
    rates = []
    for value in values:
        with contextlib.suppress(TypeError, ValueError):
            rates.append(float(value))
    return rates
