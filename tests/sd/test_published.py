"""The layers of the published models, said without them, are those of diffusers' and transformers' classes."""

import pytest
from full_size_models import make_text_encoders, make_unet
from hotlora.sd.names import name_text_layers, name_unet_layers
from hotlora.sd.published import list_text_paths, list_unet_paths
from hotlora.sd.spelling import Names
from torch import nn


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_paths_are_those_of_the_classes(family):
    unet = make_unet(family)
    assert set(list_unet_paths(family)) == {path for path, layer in unet.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    names = Names(family)
    assert names.paths.keys() > name_unet_layers(unet, family).keys()
    modules = dict(unet.named_modules())
    for name, layer in name_unet_layers(unet, family).items():
        assert names.resolve(name) == name and names.to_diffusers(name)[0] == "unet" and modules[names.to_diffusers(name)[1]] is layer
    encoders = make_text_encoders(family)
    assert [len(paths) for paths in list_text_paths(family)] == [len(name_text_layers([encoder], "sd1")) for encoder in encoders]
    last = f"lora_te{'2' if family == 'sdxl' else ''}_text_model_encoder_layers_{{}}_mlp_fc1"
    depth = encoders[-1].config.num_hidden_layers
    assert names.resolve(last.format(depth - 1)) and names.resolve(last.format(depth)) is None
