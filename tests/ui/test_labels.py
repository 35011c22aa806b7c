"""What is refused on the page names options as the page does."""

import pytest
from hotlora.captioning.onnx_tagger import OnnxTagger
from hotlora.engine.errors import UserError
from hotlora.ui.compat import message
from hotlora.ui.labels import in_labels


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Set save_steps, or raise save_steps.", 'Set "Save every so many steps" (save_steps), or raise "Save every so many steps".'),
        ("Set max_steps: 8.", 'Set "Steps" (max_steps): 8.'),
        ("Set learning_rate to 1e-4.", 'Set "Learning rate" (learning_rate) to 1e-4.'),
        ("Set endpoint_url to one.", 'Set "Endpoint\'s address" (endpoint_url) to one.'),
    ],
)
def test_an_option_is_called_as_the_page_calls_it(said, shown):
    assert in_labels(said) == shown


@pytest.mark.parametrize(
    "said", ["a run called 'max_steps'", "C:\\data\\max_steps", "/data/max_steps/cat.png", "max_steps.yaml", "long_hair", "max_steps=3"]
)
def test_names_and_files_that_are_called_like_one_stay(said):
    assert in_labels(said) == said


def test_a_tagger_without_a_folder_names_the_field():
    with pytest.raises(UserError) as refused:
        OnnxTagger("", 0.3, 0.8)
    assert "&quot;Tagger&#x27;s folder&quot; (tagger_folder) is empty" in message(str(refused.value), bad=True)
