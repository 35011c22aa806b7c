"""In a running AUTOMATIC1111 or Forge: every kind of file is applied there exactly as it was trained.

For each kind two files are put there: the adapter as we save it, and the plain difference of weights that the
live adapter makes, layer by layer ("diff" in LyCORIS' terms). The WebUI must draw the same picture with either.
"""

from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
import torch
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.dora import AxisDoRA
from hotlora.engine.options import build
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.sd.kohya import write_lora
from hotlora.sd.targets import choose_targets
from real_webui import ask, draw, in_each_webui, lora_dir, webui_now
from safetensors.torch import save_file

pytestmark = in_each_webui
DEMO = Path(__file__).resolve().parents[3] / "demo" / "model" / "emoji-sd.safetensors"
KINDS = {
    "lora": {},
    "lora-text": {"train_text_encoder": True},
    "rslora": {"use_rslora": True},
    "locon": {"conv_rank": 4, "conv_alpha": 2},
    "dora": {"use_dora": True},
    "dora-locon-text": {"use_dora": True, "conv_rank": 4, "train_text_encoder": True},
    "loha": {"network_type": "loha"},
    "loha-conv": {"network_type": "loha", "conv_rank": 4},
    "lokr": {"network_type": "lokr", "lora_rank": 2},
    "lokr-full": {"network_type": "lokr", "lora_rank": 100, "lora_alpha": 30},
    "lokr-conv": {"network_type": "lokr", "conv_rank": 2, "lora_rank": 2},
}


def differences(adapters: AdapterSet) -> dict[str, torch.Tensor]:
    """What each live adapter adds to its layer's weight, read off its answers: of unit inputs, for Linear and Conv2d alike."""
    out = {}
    for name, layer in adapters.layers.items():
        base = adapters.targets[name].layer
        if isinstance(layer, AxisDoRA):
            merged = base.weight + layer.lora.get_delta_weight("default")
            axes = tuple(a for a in range(merged.dim()) if a != 1)
            out[name] = merged * layer.dora_scale / merged.pow(2).sum(axes, keepdim=True).sqrt() - base.weight
        else:
            out[name] = layer.get_delta_weight("default")
    return {f"{name}.diff": value.detach().contiguous() for name, value in out.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_webui_applies_what_was_trained(kind):
    if webui_now().name == "forge" and kind == "lokr-conv":
        check_it_is_refused()
        return
    config = build(ImageConfig, {"base_model": str(DEMO), "lora_rank": 4, "lora_alpha": 2, **KINDS[kind]})
    model = DiffusersHost().borrow(config).model
    targets = choose_targets(model.unet_layers(), model.text_layers(), config)
    adapters = AdapterSet(
        targets,
        config.network_type,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        dora_axis="input",
        lokr_factor=config.lokr_factor,
    )
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensors in _by_layer(adapters).values():
            for tensor in tensors:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
        scale = 0.15  # so that pictures change a lot and do not break
        deltas = differences(adapters)
        for name in adapters.layers:
            ratio = deltas[f"{name}.diff"].norm() / (scale * targets[name].layer.weight.norm())
            if not config.use_dora:
                adapters._shrink(name, (1 / ratio).item())
    name = f"hotlora-{kind}"
    folder = lora_dir()
    write_lora(adapters, folder / f"{name}.safetensors", {}, torch.float32)
    save_file(differences(adapters), str(folder / f"{name}-diff.safetensors"))
    try:
        plain = draw("red apple")
        for weight in (1, 0.6):
            file, wanted = draw(f"red apple <lora:{name}:{weight}>"), draw(f"red apple <lora:{name}-diff:{weight}>")
            assert np.abs(file - plain).mean() > 1, "the file changes nothing"
            assert np.abs(file - wanted).max() <= 2, np.abs(file - wanted).max()
        assert np.array_equal(draw("red apple"), plain)
    finally:
        for path in (folder / f"{name}.safetensors", folder / f"{name}-diff.safetensors"):
            path.unlink()


def check_it_is_refused():
    """At the click: Forge answers with HTTP 500 where a LoKr of a convolution is in the prompt."""
    data = str(DEMO.parents[1] / "pictures" / "train")
    with pytest.raises(HTTPError) as refused:
        ask("/hotlora/v1/runs", {"output_name": "x", "train_data_dir": data, "network_type": "lokr", "conv_rank": 2}, "POST")
    assert "cannot train LoKr with convolutions" in refused.value.read().decode()


def _by_layer(adapters: AdapterSet) -> dict[str, list[torch.Tensor]]:
    out: dict[str, list[torch.Tensor]] = {}
    for (name, tensor), parameter in adapters.trained:
        if tensor != "dora_scale":
            out.setdefault(name, []).append(parameter)
    return out
