"""Ranks, alphas and rates reach the layers they are meant for."""

import pytest
from full_size_models import make_text_encoders, make_unet
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.sd.config import ImageConfig
from hotlora.sd.names import name_text_layers, name_unet_layers
from hotlora.sd.targets import choose_targets
from torch import nn


@pytest.fixture(scope="module")
def layers():
    return name_unet_layers(make_unet("sd1"), "sd1"), name_text_layers(make_text_encoders("sd1"), "sd1")


def choose(layers, **options):
    return choose_targets(*layers, build(ImageConfig, options))


def test_a_plain_lora_is_kohyas_192(layers):
    targets = choose(layers, lora_rank=8, learning_rate=2e-4)
    assert len(targets) == 192
    assert {(t.rank, t.alpha, t.learning_rate) for t in targets.values()} == {(8, 8.0, 2e-4)}
    assert all(layers[0][name] is target.layer for name, target in targets.items())


def test_text_encoder_has_its_own_rate(layers):
    targets = choose(layers, train_text_encoder=True, text_encoder_lr=5e-5, learning_rate=1e-4)
    assert len(targets) == 192 + 72
    assert {t.learning_rate for n, t in targets.items() if n.startswith("lora_te_")} == {5e-5}
    assert {t.learning_rate for n, t in targets.items() if n.startswith("lora_unet_")} == {1e-4}
    assert len(choose(layers, train_text_encoder=True, train_unet=False)) == 72
    assert len(choose(layers, train_text_encoder=True, text_encoder_lr=0)) == 192


def test_convolutions_have_their_rank_and_the_rest_keeps_its_own(layers):
    targets = choose(layers, lora_rank=8, lora_alpha=4, conv_rank=2, conv_alpha=1)
    three_by_three = [t for t in targets.values() if isinstance(t.layer, nn.Conv2d) and t.layer.kernel_size == (3, 3)]
    others = [t for t in targets.values() if t not in three_by_three]
    assert len(targets) == 278 and len(three_by_three) == 50
    assert {(t.rank, t.alpha) for t in three_by_three} == {(2, 1.0)}
    assert {(t.rank, t.alpha) for t in others} == {(8, 4.0)}
    assert targets["lora_unet_down_blocks_1_resnets_0_conv_shortcut"].rank == 8
    assert targets["lora_unet_down_blocks_1_resnets_0_time_emb_proj"].rank == 8


def test_block_ranks_keep_strength_and_zero_leaves_out(layers):
    targets = choose(layers, lora_rank=8, lora_alpha=4, conv_rank=2, block_ranks={"mid_block": 16, "down_blocks_0": 0, "up_blocks_3": "4"})
    middle = targets["lora_unet_mid_block_attentions_0_proj_in"]
    assert (middle.rank, middle.alpha) == (16, 8.0)
    assert targets["lora_unet_mid_block_resnets_0_conv1"].rank == 2
    assert targets["lora_unet_up_blocks_3_attentions_0_proj_in"].rank == 4
    assert targets["lora_unet_up_blocks_2_attentions_0_proj_in"].rank == 8
    assert not any("down_blocks_0" in name for name in targets)


def test_block_rates(layers):
    targets = choose(layers, learning_rate=1e-4, block_lrs={"mid_block": "5e-5", "up_blocks_1": 0})
    assert targets["lora_unet_mid_block_attentions_0_proj_in"].learning_rate == 5e-5
    assert targets["lora_unet_up_blocks_2_attentions_0_proj_in"].learning_rate == 1e-4
    assert not any("up_blocks_1" in name for name in targets)


def test_sdxl_blocks_go_by_compvis_names():
    layers = name_unet_layers(make_unet("sdxl"), "sdxl"), {}
    targets = choose(layers, block_ranks={"output_blocks_3": 4})
    assert len(targets) == 722
    assert {t.rank for n, t in targets.items() if "_output_blocks_3_" in n} == {4}


def test_include_and_exclude(layers):
    targets = choose(layers, include="attn2", exclude="to_[kv]$")
    assert {name.rpartition("attn2_")[2] for name in targets} == {"to_q", "to_out_0"}
    assert len(targets) == 32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block_ranks": {"middle": 4}}, "cannot use 'middle' in block_ranks.*mid_block"),
        ({"block_lrs": {"input_blocks_4": 1e-4}}, "cannot use 'input_blocks_4' in block_lrs.*down_blocks_0"),
        ({"block_ranks": {"mid_block": 2.5}}, "cannot use 2.5 for mid_block in block_ranks: it takes a whole number"),
        ({"block_ranks": {"mid_block": -1}}, "cannot use -1 for mid_block"),
        ({"block_lrs": {"mid_block": "fast"}}, "cannot use 'fast' for mid_block in block_lrs: it takes a number"),
        ({"block_ranks": {"mid_block": float("inf")}}, "cannot use inf for mid_block"),
        ({"include": "attn("}, r"cannot use 'attn\(' for include"),
        ({"exclude": "*"}, r"cannot use '\*' for exclude"),
        ({"include": "attention_that_is_not"}, "cannot train nothing.*lora_unet_down_blocks_0"),
        ({"exclude": "."}, "cannot train nothing"),
    ],
)
def test_what_cannot_be_is_said(layers, options, said):
    with pytest.raises(UserError, match=said):
        choose(layers, **options)


def test_a_text_encoder_without_fitting_layers_is_refused(layers):
    with pytest.raises(UserError, match="cannot train the text encoder"):
        choose((layers[0], {}), train_text_encoder=True)
