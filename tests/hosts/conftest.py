"""Tiny models, made once for all tests of the stand-alone host."""

from types import SimpleNamespace

import pytest
import tiny
import torch
import webui as stand_in
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersModel
from hotlora.sd.config import ImageConfig


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The three families, each as a folder and as a file with the same numbers. The path is one that Windows users have."""
    root = tmp_path_factory.mktemp("models") / "für Zoë"
    return SimpleNamespace(
        root=root,
        sd1_folder=tiny.tiny_sd1(root / "sd1"),
        sd2_folder=tiny.tiny_sd2(root / "sd2", prediction_type="v_prediction"),
        sdxl_folder=tiny.tiny_sdxl(root / "sdxl"),
        sd1_file=tiny.tiny_sd1_file(root / "one.safetensors"),
        sd2_file=tiny.tiny_sd2_file(root / "two.safetensors", prediction_type="v_prediction"),
        sdxl_file=tiny.tiny_sdxl_file(root / "extra large.safetensors"),
    )


@pytest.fixture(scope="module")
def loaded(models):
    """The three files as the stand-alone host holds them."""
    files = {"sd1": models.sd1_file, "sd2": models.sd2_file, "sdxl": models.sdxl_file}
    return {family: DiffusersModel(describe(path), ImageConfig(), torch.device("cpu")) for family, path in files.items()}


@pytest.fixture
def webui(monkeypatch, tmp_path):
    """AUTOMATIC1111's WebUI with a checkpoint loaded, after a picture that used everything that shapes pictures."""
    return stand_in.make_webui(monkeypatch, tmp_path)
