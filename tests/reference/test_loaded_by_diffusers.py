"""The saved file, loaded by diffusers' own ``load_lora_weights``, gives the output of the adapter that was trained."""

import itertools
from pathlib import Path

import pytest
import torch
import yaml
from diffusers.utils import USE_PEFT_BACKEND
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from pictures import NOTES, make_pictures
from tiny import tiny_sd1, tiny_sdxl

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
CASES = {
    "sd1-lora": (tiny_sd1, {}),
    "sd1-locon": (tiny_sd1, {"conv_rank": 3, "conv_alpha": 1}),
    "sd1-lora-text": (tiny_sd1, {"train_text_encoder": True}),
    "sd1-locon-text-rslora": (tiny_sd1, {"conv_rank": 3, "train_text_encoder": True, "use_rslora": True}),
    "sdxl-lora": (tiny_sdxl, {}),
    "sdxl-locon": (tiny_sdxl, {"conv_rank": 3, "conv_alpha": 1}),
    "sdxl-lora-text": (tiny_sdxl, {"train_text_encoder": True}),
}


def read_table():
    """(kind, how it is set, what diffusers does with it) of each row in the documentation."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in RECIPES.read_text(encoding="utf-8").splitlines()]
    start = next(place for place, row in enumerate(rows) if row[-1:] == ["diffusers"]) + 2
    return [(row[0], row[1], row[-1]) for row in itertools.takewhile(len, rows[start:])]


@pytest.mark.skipif(not USE_PEFT_BACKEND, reason="diffusers loads LoRA files only beside transformers 4.34 or newer")
@pytest.mark.parametrize("case", CASES)
def test_unet_output_is_the_live_adapters(tmp_path, case):
    make, options = CASES[case]
    config, apart, (live_context, loaded_context, plain_context) = compare(tmp_path, make, options)
    assert apart <= 1e-4
    assert torch.allclose(loaded_context, live_context, atol=1e-5)
    assert config.train_text_encoder == ((live_context - plain_context).abs().max() > 1e-3)


@pytest.mark.skipif(not USE_PEFT_BACKEND, reason="diffusers loads LoRA files only beside transformers 4.34 or newer")
@pytest.mark.parametrize(("kind", "setting", "told"), read_table())
def test_the_table_of_kinds_says_what_diffusers_does(tmp_path, kind, setting, told):
    options = yaml.safe_load(setting.strip("`")) if ":" in setting else {}
    if told == "refused":
        with pytest.raises(ValueError, match="not been correctly renamed"):
            compare(tmp_path, tiny_sd1, options)
        return
    _, apart, _ = compare(tmp_path, tiny_sd1, options)
    assert apart <= 1e-4 if told == "as trained" else apart > 1e-2, (kind, apart)


def compare(tmp_path, make, options):
    """(config, how far the U-Net's answer with the file that diffusers has loaded is from the live adapter's, the words' encodings live,
    loaded and without it)."""
    folder = make(tmp_path / "model")
    values = {"base_model": str(folder), "train_data_dir": str(make_pictures(tmp_path / "data", 2)), "output_dir": str(tmp_path / "run")}
    values |= {"resolution": 64, "min_bucket_reso": 64, "bucket_reso_steps": 64, "lora_rank": 4, "lora_alpha": 2, "save_precision": "fp32"}
    config = build(ImageConfig, {**values, **options})
    trainee = DiffusersHost().borrow(config)
    for _ in trainee.prepare():
        pass
    session = Session(trainee, config, Run.start(config))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    path = trainee.write(session.adapters, tmp_path / "mine.safetensors", NOTES)

    def output():
        cond = trainee.model.encode_text(["red square"], clip_skip=None, max_token_length=75)
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]) if trainee.model.family == "sdxl" else None
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        return cond.context, trainee.model.predict(noisy, torch.tensor([500]), cond, sizes)

    with torch.no_grad():
        plain_context, plain = output()
        with session.attached():
            live_context, live = output()
    pipeline = load_pipeline(folder)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    trainee.model.unet = pipeline.unet
    with torch.no_grad():
        if config.train_text_encoder:
            trainee.model.text_encoders = [e for e in (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)) if e is not None]
        loaded_context, loaded = output()
    assert (live - plain).abs().max() > 1e-3
    return config, float((loaded - live).abs().max()), (live_context, loaded_context, plain_context)


def load_pipeline(folder):
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None, requires_safety_checker=False)
