"""A run beside AUTOMATIC1111's WebUI: trained by a process of its own on the checkpoint's file, and usable in the WebUI at every save."""

from pathlib import Path

import pytest
import torch
import webui as stand_in
from hotlora.engine.errors import UserError
from hotlora.engine.events import Saved, Step, read_events
from hotlora.engine.job import Job
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.a1111.host import A1111Host
from hotlora.hosts.standalone import images
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES, check_beside
from pictures import make_pictures
from safetensors.torch import load_file
from tiny import tiny_sd1_file
from waiting import wait_until

FEW = {"resolution": 64, "min_bucket_reso": 64, "batch_size": 2, "max_steps": 4, "save_steps": 2, "lora_rank": 2, "learning_rate": 1e-3}
FEW |= {"scheduler": "constant", "save_precision": "fp32", "tensorboard": False, "sample_prompts": ["a cat"], "sample_steps": 2}
FEW |= {"sample_width": 64, "sample_height": 64, "sheet_weights": [1.0], "sample_every_steps": 2}


@pytest.fixture
def studio(webui, tmp_path, monkeypatch):
    """(jobs, the options of a run)"""
    info = webui.loaded.sd_checkpoint_info
    tiny_sd1_file(Path(info.filename))
    webui.sd_models.checkpoint_aliases[info.name] = info
    webui.taken = []
    acquire = stand_in.FairLock.acquire
    monkeypatch.setattr(stand_in.FairLock, "acquire", lambda lock, blocking=True: webui.taken.append(lock) or acquire(lock, blocking))
    jobs = Jobs(A1111Host, tmp_path / "runs", ImageConfig, check_start=lambda config: check_beside(IMAGES, config, A1111Host()))
    return jobs, {**FEW, "train_data_dir": str(make_pictures(tmp_path / "data", 4)), "output_name": "cat", "train_device": "cpu"}


def test_it_is_the_stand_alone_run_and_the_webui_is_not_touched_but_to_take_the_files(studio, webui, tmp_path):
    jobs, values = studio
    random, weights = torch.get_rng_state(), {name: value.clone() for name, value in webui.loaded.state_dict().items()}
    names = webui.layer.network_current_names
    listed, job = webui.networks.listed, jobs.start(values)
    seen = []
    job.subscribe(lambda event: seen.append((event, len(webui.taken), webui.layer.network_current_names)))
    wait_until(lambda: jobs.status("cat") not in ("preparing", "training"), 90)
    assert jobs.status("cat") == "done", jobs.history("cat").log
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[name]) for name, value in webui.loaded.state_dict().items())
    events = list(read_events(jobs.folder / "cat" / "events.jsonl"))
    saves = sum(isinstance(event, Saved) for event in events)
    assert len(webui.taken) == saves + 1, "and once more, with the cover"
    early = [(taken, left) for event, taken, left in seen if isinstance(event, Step) and event.step <= 2]
    assert early == [(0, names)] * 2, "nothing before a file was there to be used"
    assert webui.networks.listed == listed + saves + 1 and webui.layer.network_current_names == ()
    assert {path.name for path in (tmp_path / "Lora" / "hotlora").glob("*.safetensors")} >= {
        "cat.safetensors",
        "cat-step00000002.safetensors",
    }
    assert jobs.values("cat")["base_model"] == webui.loaded.sd_checkpoint_info.name
    config = build(ImageConfig, {**values, "base_model": webui.loaded.sd_checkpoint_info.filename, "output_dir": str(tmp_path / "alone")})
    Job(images.DiffusersHost(), config, Run.start(config)).work()
    made, wanted = (load_file(folder / "cat.safetensors") for folder in (jobs.folder / "cat", tmp_path / "alone"))
    assert made.keys() == wanted.keys() and all(torch.equal(made[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_device": "cuda:7"}, r"cannot train on 'cuda:7': here there is cpu\. Set train_device"),
        ({"base_model": "other"}, "cannot train 'cat' on cpu: the WebUI has no checkpoint 'other'. Choose one"),
        ({"sample_sampler": "LCM"}, "cannot make samples with the sampler 'LCM' outside the WebUI"),
    ],
)
def test_what_cannot_be_is_said_before_anything_begins(studio, monkeypatch, changes, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    jobs, values = studio
    with pytest.raises(UserError, match=said):
        jobs.start({**values, **changes})
    assert not jobs.folder.exists()


def test_without_diffusers_it_is_said_which_package_is_missing(studio, monkeypatch):
    jobs, values = studio
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="the package diffusers is missing"):
        jobs.start(values)


def test_where_no_checkpoint_is_loaded_the_one_that_is_named_is_found(studio, webui):
    jobs, values = studio
    name, webui.sd_models.model_data.sd_model = webui.loaded.sd_checkpoint_info.name, None
    config = jobs.build_config({**values, "base_model": name})
    assert A1111Host().find_base(config) == Path(webui.loaded.sd_checkpoint_info.filename)
    with pytest.raises(UserError, match="the WebUI has no checkpoint loaded"):
        A1111Host().find_base(jobs.build_config(values))
