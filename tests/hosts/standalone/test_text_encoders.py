"""Captions are encoded as transformers' own models encode them, layer by layer."""

import pytest
import tiny
import torch
import transformers
from hotlora.engine.errors import UserError
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.images import DiffusersModel
from hotlora.sd.config import ImageConfig

CAPTIONS = ["a photo of a cat", "", "a dog, " * 40]


def run_encoder(folder, name, rows):
    """Outputs of each layer of transformers' own model, caught by hooks, and its normal outputs."""
    text_class = transformers.CLIPTextModelWithProjection if name.endswith("_2") else transformers.CLIPTextModel
    encoder = text_class.from_pretrained(str(folder / name)).eval()
    inner = getattr(encoder, "text_model", encoder)
    caught = []

    def catch(module, inputs, output):
        caught.append(output[0] if isinstance(output, tuple) else output)

    for layer in inner.encoder.layers:
        layer.register_forward_hook(catch)
    with torch.no_grad():
        output = encoder(rows)
    return caught, output, inner.final_layer_norm


def tokenize(captions, pad):
    """[batch, 77]: begin, up to 75 tokens, end, padding."""
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(str(tiny.TOKENIZER))
    rows = []
    for caption in captions:
        ids = tokenizer(caption, add_special_tokens=False).input_ids[:75]
        rows.append([49406, *ids, 49407, *[pad] * (75 - len(ids))])
    return torch.tensor(rows)


@pytest.mark.parametrize(("family", "pad"), [("sd1", 49407), ("sd2", 0)])
@pytest.mark.parametrize("clip_skip", [None, 1, 2, 3])
def test_text_is_encoded_as_transformers_does(loaded, models, family, pad, clip_skip):
    layers, output, norm = run_encoder(getattr(models, f"{family}_folder"), "text_encoder", tokenize(CAPTIONS, pad))
    with torch.no_grad():
        expected = output.last_hidden_state if clip_skip is None else norm(layers[-clip_skip])
        found = loaded[family].encode_text(CAPTIONS, clip_skip=clip_skip, max_token_length=75)
    torch.testing.assert_close(found.context, expected)
    assert found.pooled is None


def test_sdxl_text_is_the_layers_before_the_last_and_the_pooled_end(loaded, models):
    first, _, _ = run_encoder(models.sdxl_folder, "text_encoder", tokenize(CAPTIONS, 49407))
    second, output, _ = run_encoder(models.sdxl_folder, "text_encoder_2", tokenize(CAPTIONS, 0))
    for clip_skip in (None, 2):
        with torch.no_grad():
            found = loaded["sdxl"].encode_text(CAPTIONS, clip_skip=clip_skip, max_token_length=75)
        torch.testing.assert_close(found.context, torch.cat([first[-2], second[-2]], dim=-1))
        torch.testing.assert_close(found.pooled, output.text_embeds)


@pytest.mark.parametrize("length", [150, 225])
def test_long_captions_are_windows_of_75_tokens(loaded, models, length):
    caption = " ".join(f"word{number}" for number in range(60))
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(str(tiny.TOKENIZER))
    ids = tokenizer(caption, add_special_tokens=False).input_ids[:length]
    assert len(ids) > 75
    rows = []
    for start in range(0, length, 75):
        window = ids[start : start + 75]
        rows.append([49406, *window, 49407, *[49407] * (75 - len(window))])
    _, output, _ = run_encoder(models.sd1_folder, "text_encoder", torch.tensor(rows))
    hidden = output.last_hidden_state
    expected = torch.cat([hidden[0, :1], *(window[1:-1] for window in hidden), hidden[-1, -1:]])
    with torch.no_grad():
        found = loaded["sd1"].encode_text(["short", caption], clip_skip=None, max_token_length=length)
    assert found.context.shape == (2, length + 2, 32)
    torch.testing.assert_close(found.context[1], expected)


def test_text_has_gradients_where_something_is_trained(loaded):
    model = loaded["sd1"]
    parameter = next(iter(model.text_layers().values())).weight
    assert not model.encode_text(["a cat"], clip_skip=None, max_token_length=75).context.requires_grad
    parameter.requires_grad_(True)
    try:
        model.encode_text(["a cat"], clip_skip=None, max_token_length=75).context.square().sum().backward()
        assert parameter.grad.abs().sum() > 0
    finally:
        parameter.requires_grad_(False)
        parameter.grad = None


def test_clip_skip_beyond_the_encoder_is_refused(models):
    with pytest.raises(UserError, match="clip_skip to 4: this text encoder has 3 layers"):
        DiffusersModel(describe(models.sd1_file), ImageConfig(clip_skip=4), torch.device("cpu"))
