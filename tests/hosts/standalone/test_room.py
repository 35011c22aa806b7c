"""A card that is too small, pretended on a processor: what is proposed was loaded and trained; and a run that hands its memory back."""

import importlib.util

import pytest
import tiny
import torch
from hotlora.engine.events import Paused, Step, read_events
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import build
from hotlora.engine.probe import NoRoom, look_ahead
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.sd.trainee import ImageTrainee
from pictures import make_pictures
from safetensors.torch import load_file
from waiting import wait_until

HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None  # not among AUTOMATIC1111's packages


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.tiny_sd1_file(tmp_path_factory.mktemp("models") / "one.safetensors")


def values(place, checkpoint, **options):
    pictures = place.parent / "pictures"
    if not pictures.exists():
        make_pictures(pictures, size=(128, 128))
    values = {"base_model": str(checkpoint), "train_data_dir": str(pictures), "output_dir": str(place), "output_name": place.name}
    values |= {"resolution": 128, "min_bucket_reso": 64, "max_bucket_reso": 128, "sheet_weights": [], "tensorboard": False}
    return values | {"lora_rank": 2, "max_steps": 6, "batch_size": 2, **options}


def propose(monkeypatch, config, fits):
    """What is proposed on a card on which a batch fits where ``fits(trainee)``."""
    plain = ImageTrainee.loss

    def loss(self, batch, draws):
        if not fits(self):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (pretended)")
        return plain(self, batch, draws)

    monkeypatch.setattr(ImageTrainee, "loss", loss)
    with pytest.raises(NoRoom) as refused:
        list(look_ahead(DiffusersHost(), config))
    return [dict(made.changes) for made in refused.value.proposals]


def bytes_of_base(trainee):
    """Of its U-Net, without adapters."""
    frozen = [parameter for parameter in trainee.model.unet.parameters() if not parameter.requires_grad]
    return sum(parameter.numel() * parameter.element_size() for parameter in frozen)


@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not here")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_the_base_model_is_loaded_in_fewer_bits_where_nothing_less_makes_it_fit(tmp_path, checkpoint, monkeypatch, bits):
    packed = DiffusersHost().borrow(build(ImageConfig, values(tmp_path / "packed", checkpoint, quantization=bits)))
    room = bytes_of_base(packed)
    config = build(ImageConfig, values(tmp_path / "run", checkpoint))
    found = propose(monkeypatch, config, lambda trainee: bytes_of_base(trainee) <= room)
    assert found == [{"gradient_checkpointing": True, "optimizer": "AdamW8bit", "quantization": bits}]
    assert config.quantization == "none" and config.optimizer == "AdamW" and not config.gradient_checkpointing


def test_at_last_smaller_pictures_are_encoded_and_tried(tmp_path, checkpoint, monkeypatch):
    config = build(ImageConfig, values(tmp_path / "run", checkpoint, optimizer="Lion", network_type="loha"))
    found = propose(monkeypatch, config, lambda trainee: max(trainee.stock.fits[0].bucket) <= 64)
    assert found == [{"gradient_checkpointing": True, "resolution": 64}]


def test_freed_and_resumed_equals_never_paused(tmp_path, checkpoint):
    jobs = Jobs(DiffusersHost, tmp_path / "runs", ImageConfig)
    whole = values(tmp_path / "whole", checkpoint)
    jobs.start(whole)
    wait_until(lambda: jobs.status("whole") == "done")
    job = jobs.start(whole | {"output_name": "freed"})
    job.subscribe(lambda event: isinstance(event, Step) and event.step == 2 and job.control.pause(free=True))
    events = jobs.folder / "freed" / "events.jsonl"
    wait_until(lambda: any(isinstance(event, Paused) and event.freed for event in read_events(events)) or jobs.status("freed") == "done")
    job.control.go_on()
    wait_until(lambda: jobs.status("freed") == "done")
    assert any(isinstance(event, Paused) and event.freed for event in read_events(events))
    one, other = (load_file(jobs.folder / name / f"{name}.safetensors") for name in ("whole", "freed"))
    assert one and all(torch.equal(one[key], other[key]) for key in one)
