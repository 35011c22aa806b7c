"""The demo keeps its promise: the style rises with the weight, on subjects that were not trained, in a pipeline that is not ours."""

import pytest
import run_demo
from diffusers.utils import USE_PEFT_BACKEND

pytestmark = pytest.mark.skipif(not USE_PEFT_BACKEND, reason="diffusers loads no LoRA with this transformers; the demo uses newer ones")


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A shorter run than the demo's, with the demo's options."""
    output = tmp_path_factory.mktemp("demo") / "a run"
    no_samples = ("sample_prompts=[]", "sample_every_steps=0", "save_steps=0", "tensorboard=false")
    assert run_demo.train(f"output_dir={output}", "max_steps=200", *no_samples) == 0
    return output / "house-colours.safetensors"


def test_style_rises_with_the_weight_and_subjects_stay(lora):
    *scores, true = run_demo.score_lora(lora, subjects=10, steps=12)
    run_demo.print_scores([*scores, true])
    assert [score.name for score in scores] == ["0", "0.4", "0.8", "1"]
    styles = [score.style for score in scores]
    assert styles[0] - 0.02 < styles[1] < styles[2] < styles[3]
    assert styles[0] < 0.2 and styles[3] > styles[0] + 0.3 and true.style > 0.8
    colours = [score.saturation for score in scores]
    assert colours == sorted(colours, reverse=True) and colours[3] < 0.65 * colours[0]
    assert all(score.same_subject >= 0.7 for score in scores)
