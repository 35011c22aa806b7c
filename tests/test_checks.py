"""What can be seen to be wrong in a moment is said before a run is made, by each task in its own words."""

import time

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.engine.places import may_hold
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES, TEXTS
from pictures import make_pictures


@pytest.fixture
def places(tmp_path):
    """A folder of pictures, one of texts, and several that are of no use."""
    make_pictures(tmp_path / "pictures" / "below", 2)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "facts.jsonl").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "note.rtf").write_text("a note")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    return tmp_path


def check(task, places, **options):
    at = {name: str(places / value) if isinstance(value, str) else value for name, value in options.items()}
    task.check(build(task.config_class, {"output_dir": str(places / "run"), **at}))


IMAGE_FAULTS = {
    "no folder": ({"train_data_dir": "nowhere"}, "there is no such folder"),
    "a file": ({"train_data_dir": "bad.safetensors"}, "it is a file"),
    "empty": ({"train_data_dir": "empty"}, "the folder is empty"),
    "no pictures": ({"train_data_dir": "words"}, "it holds no pictures, only .rtf"),
    "validation": ({"validation_dir": "nowhere"}, "Correct validation_dir"),
    "validation is empty": ({"validation_dir": "empty"}, "or correct validation_dir"),
    "regularisation": ({"reg_data_dir": "nowhere"}, "Correct reg_data_dir"),
    "twice": ({"reg_data_dir": "pictures"}, "it is train_data_dir already"),
    "masks": ({"mask_dir": "nowhere", "masked_loss": True}, "Correct mask_dir"),
    "metadata": ({"metadata_path": "nowhere.json"}, "Correct metadata_path"),
    "a LoRA": ({"init_lora": "nowhere.safetensors"}, "there is no such file. Check init_lora"),
    "no LoRA": ({"init_lora": "bad.safetensors"}, "it cannot be read"),
}


@pytest.mark.parametrize("name", IMAGE_FAULTS)
def test_pictures(places, name):
    options, said = IMAGE_FAULTS[name]
    check(IMAGES, places, train_data_dir="pictures")
    began = time.thread_time()
    with pytest.raises(UserError, match=said):
        check(IMAGES, places, **{"train_data_dir": "pictures", **options})
    assert time.thread_time() - began < 1


def test_no_folder_at_all():
    for task in (IMAGES, TEXTS):
        with pytest.raises(UserError, match="Set (it|train_data_dir) to"):
            task.check(task.config_class())


TEXT_FAULTS = {
    "no folder": ({"train_data_dir": "nowhere"}, "there is no such file or folder"),
    "empty": ({"train_data_dir": "empty"}, "the folder is empty"),
    "no texts": ({"train_data_dir": "words"}, "nothing in it can be used"),
    "a file of another kind": ({"train_data_dir": "words/note.rtf"}, "nothing in it can be used"),
    "validation": ({"validation_dir": "nowhere"}, "there is no such file or folder"),
    "template": ({"chat_template": "nowhere.jinja"}, "neither the name of one nor a file"),
    "an adapter": ({"init_lora": "nowhere"}, "there is no such file or folder. Mend init_lora"),
    "no adapter": ({"init_lora": "words"}, "no text LoRA"),
}


@pytest.mark.parametrize("name", TEXT_FAULTS)
def test_texts(places, name):
    options, said = TEXT_FAULTS[name]
    check(TEXTS, places, train_data_dir="texts")
    check(TEXTS, places, train_data_dir="texts/facts.jsonl")
    with pytest.raises(UserError, match=said):
        check(TEXTS, places, **{"train_data_dir": "texts", **options})


def test_the_stand_alone_model(places):
    for task, values, said in (
        (IMAGES, {}, "cannot train without a base model"),
        (IMAGES, {"base_model": str(places / "nowhere.safetensors")}, "cannot find the base model"),
        (IMAGES, {"base_model": str(places), "sample_sampler": "Eulr"}, "with the sampler 'Eulr'"),
        (IMAGES, {"base_model": str(places), "vae": str(places / "nowhere")}, "cannot find the VAE"),
        (TEXTS, {}, "cannot train without a base model"),
        (TEXTS, {"base_model": str(places / "nowhere")}, "there is no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            task.check_model(build(task.config_class, {"output_dir": str(places / "run"), **values}))
    IMAGES.check_model(ImageConfig(base_model=str(places)))  # what it is, is found out when it is loaded


def test_a_look_at_a_large_folder_ends_in_time(tmp_path, monkeypatch):
    from hotlora.engine import places

    for number in range(50):
        (tmp_path / str(number)).mkdir()
    assert not may_hold(tmp_path, (".png",))
    monkeypatch.setattr(places, "_LOOK_SECONDS", -1)
    assert may_hold(tmp_path, (".png",))  # nobody has looked at all of it
