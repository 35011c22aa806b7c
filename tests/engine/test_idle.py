"""Options that have nothing to act on are said, each with what it lacks; and nothing is said of those that have."""

import pytest
from hotlora.engine.options import build
from hotlora.sd.config import ImageConfig

# what is set -> the option that it leaves idle -> what makes it count
IDLE = [
    ("scheduler_cycles", {"scheduler_cycles": 3}, {"scheduler": "cosine_with_restarts"}),
    ("scheduler_power", {"scheduler_power": 2}, {"scheduler": "polynomial"}),
    ("keep_last", {"keep_last": 2}, {"save_epochs": 1}),
    ("validation_every_steps", {"validation_every_steps": 5}, {"validation_split": 0.1}),
    ("sample_every_steps", {"sample_every_steps": 2}, {"sample_prompts": ["a cat"]}),
    ("min_bucket_reso", {"min_bucket_reso": 64, "enable_bucket": False}, {"enable_bucket": True}),
    ("keep_tokens", {"keep_tokens": 2}, {"datasets": [{"folder": "a", "shuffle_caption": True}]}),
    ("prior_loss_weight", {"prior_loss_weight": 0.5}, {"datasets": [{"folder": "a"}, {"folder": "b", "regularisation": True}]}),
    ("conv_alpha", {"conv_alpha": 2}, {"conv_rank": 4}),
    ("conv_alpha", {"conv_alpha": 2}, {"init_lora": "a.safetensors"}),
    ("lokr_factor", {"lokr_factor": 4}, {"network_type": "lokr"}),
    ("use_rslora", {"use_rslora": True, "network_type": "loha"}, {"network_type": "lora"}),
    ("text_encoder_lr", {"text_encoder_lr": 1e-5}, {"train_text_encoder": True}),
    ("multires_noise_discount", {"multires_noise_discount": 0.8}, {"multires_noise_iterations": 6}),
    ("huber_c", {"huber_c": 0.2}, {"loss_type": "huber"}),
]


def tell(values) -> list[str]:
    return [note for note in build(ImageConfig, values).notes if "is not used" in note]


@pytest.mark.parametrize(("key", "values", "more"), IDLE, ids=[f"{key} {index}" for index, (key, _, _) in enumerate(IDLE)])
def test_what_has_no_effect_is_said_and_what_has_is_not(key, values, more):
    (said,) = tell(values)
    assert said.startswith(f"{key} ") and said.endswith(".")
    assert tell({**values, **more}) == []


def test_defaults_that_are_written_out_are_no_wish():
    assert tell({"scheduler_cycles": 1, "keep_last": 0, "epochs": 10, "max_steps": 5, "prior_loss_weight": 1.0}) == []


def test_a_rate_of_nothing_is_said():
    assert any("learning_rate is 0" in note for note in build(ImageConfig, {"learning_rate": 0}).notes)
    assert build(ImageConfig, {"learning_rate": 0, "block_lrs": {"mid_block": 1e-4}}).notes == []
