"""A finished run on a tiny model, with a checkpoint on its way."""

from pathlib import Path

from hotlora.engine.control import Control
from hotlora.engine.loop import train
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from tiny import tiny_sd1_file


def train_tiny(folder: Path, pictures: int, **options) -> ImageConfig:
    """Four steps in ``folder / "run"``, on ``folder / "base.safetensors"``."""
    values = {
        "base_model": str(tiny_sd1_file(folder / "base.safetensors")),
        "train_data_dir": str(make_pictures(folder / "data", pictures)),
        "output_dir": str(folder / "run"),
        **{"resolution": 64, "min_bucket_reso": 64, "lora_rank": 4, "train_text_encoder": True, "save_precision": "fp32"},
        **{"max_steps": 4, "save_steps": 2, "tensorboard": False, "sheet_weights": [], "cache_latents": "memory"},
        **options,
    }
    config = build(ImageConfig, values)
    host, run = DiffusersHost(), Run.start(config)
    list(train(host.borrow(config), config, Control(host, run, 60.0)))
    run.close()
    return config
