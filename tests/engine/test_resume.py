"""Stopped and resumed equals never stopped, bit for bit, however often and however abruptly."""

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Step, Warned
from hotlora.engine.history import History
from hotlora.engine.options import as_plain, build
from hotlora.engine.recipe import read_options
from hotlora.engine.run import Run, check_unchanged, describe_changes, describe_place
from hotlora.engine.session import Session
from hotlora.sd.config import ImageConfig
from safetensors.torch import load_file
from toy import ToyHost, ToyTrainee, run_toy, toy_config

KINDS = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "averaged": {"ema_decay": 0.9},
    "schedule-free": {"optimizer": "AdamWScheduleFree"},
    "prodigy": {"optimizer": "Prodigy", "learning_rate": 1.0},
    "lion": {"optimizer": "Lion"},
    "adafactor": {"optimizer": "Adafactor"},
    "8 bits": {"optimizer": "AdamW8bit", "optimizer_args": {"min_8bit_size": 16}},
    "longer than its epochs": {"epochs": 1, "least_steps": 14},
    "dropout": {"lora_dropout": 0.3},
    "dora": {"use_dora": True},
    "norms": {"max_norm": 0.05},
    "restarts": {"scheduler": "cosine_with_restarts", "scheduler_cycles": 2, "warmup_steps": 3},
}


def losses(run):
    return [(e.step, e.loss, e.learning_rate) for e in History(run.events.read()).steps]


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_killed_twice_equals_uninterrupted(tmp_path, options):
    _, _, whole = run_toy(toy_config(tmp_path / "whole", save_steps=3, output_name="a", **options))
    config = toy_config(tmp_path / "cut", save_steps=3, output_name="a", **options)
    run_toy(config, steps=4)
    run_toy(config, run=Run.reopen(config), steps=7)
    torch.manual_seed(999)  # whatever else drew numbers meanwhile
    events, _, cut = run_toy(config, run=Run.reopen(config))
    assert isinstance(events[-1], Finished) and events[-1].reason == "done"
    assert losses(cut) == losses(whole)
    first, second = load_file(whole.final_path), load_file(cut.final_path)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="this torch scales gradients on CUDA only")
def test_fp16s_scale_is_resumed_and_bad_gradients_skip_their_step(tmp_path):
    class Half(ToyTrainee):
        compute_dtype = torch.float16

        def loss(self, batch, draws):
            loss = super().loss(batch, draws)
            # a gradient that overflows once it is scaled by the 65536 that scaling starts with
            large = 1e35 if draws.step == 2 else 1.0
            return type(loss)(loss.total / large * large, loss.count)

    config = toy_config(tmp_path / "whole", output_name="a", save_steps=3)
    _, _, whole = run_toy(config, host=ToyHost(Half))
    config = toy_config(tmp_path / "cut", output_name="a", save_steps=3)
    run_toy(config, host=ToyHost(Half), steps=7)
    _, _, cut = run_toy(config, host=ToyHost(Half), run=Run.reopen(config))
    first, second = load_file(whole.final_path), load_file(cut.final_path)
    assert all(torch.equal(first[key], second[key]) for key in first)
    scale = next(whole.read_states())[1]["scaler"]["scale"]
    assert scale == 65536.0 / 2 and losses(cut) == losses(whole)


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="this torch scales gradients on CUDA only")
def test_fp16_goes_on_after_a_step_that_was_not_taken(tmp_path):
    class Half(ToyTrainee):
        compute_dtype = torch.float16

        def __init__(self, config):
            super().__init__(config)
            self.poison_at = {7}

    config = toy_config(tmp_path / "run", output_name="a", save_steps=2)
    events, _, _ = run_toy(config, host=ToyHost(Half))
    assert any("Training broke down" in event.message for event in events if isinstance(event, Warned))
    assert isinstance(events[-1], Finished) and events[-1].reason == "done"
    timed, untimed = (Session(Half(config), config, Run.start(toy_config(tmp_path / name))) for name in ("b", "c"))
    with timed.attached():
        timed.time_step()
        first = timed.train_step()
    with untimed.attached():
        assert untimed.train_step().loss == first.loss
    assert timed.scaler.state_dict() == untimed.scaler.state_dict()


def test_kill_before_any_checkpoint_starts_again_from_the_first_state(tmp_path):
    config = toy_config(tmp_path / "run")
    run_toy(config, steps=3)
    events, _, run = run_toy(config, run=Run.reopen(config))
    assert [e.step for e in events if isinstance(e, Step)][0] == 1
    assert len(losses(run)) == 16


def test_a_torn_state_falls_back_to_the_one_before(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=2)
    _, _, run = run_toy(config, steps=7)
    newest = sorted(run.states.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    session = Session(ToyTrainee(config), config, Run.reopen(config))
    assert session.step == 4
    assert newest.name in run.log_path.read_text(encoding="utf-8")


def test_a_finished_run_resumes_to_nothing_but_its_end(tmp_path):
    config = toy_config(tmp_path / "run")
    _, _, run = run_toy(config)
    before = {key: value.clone() for key, value in load_file(run.final_path).items()}  # else a view of the file that changes
    events, _, _ = run_toy(config, run=Run.reopen(config))
    assert not [e for e in events if isinstance(e, Step)]
    assert isinstance(events[-1], Finished)
    after = load_file(run.final_path)
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_another_base_model_is_refused(tmp_path):
    config = toy_config(tmp_path / "run")
    run_toy(config, steps=2)

    class Other(ToyTrainee):
        fingerprint = "another"

    with pytest.raises(UserError, match="trained on another one"):
        run_toy(config, host=ToyHost(Other), run=Run.reopen(config))


def test_another_rank_is_refused_naming_both(tmp_path):
    with pytest.raises(UserError, match="lora_rank 16: it was trained with lora_rank 8"):
        check_unchanged(toy_config(tmp_path, lora_rank=8), toy_config(tmp_path, lora_rank=16))
    with pytest.raises(UserError, match="lora_alpha 4.0: it was trained without it. Leave lora_alpha out or choose a new output_dir"):
        check_unchanged(toy_config(tmp_path, lora_alpha=None), toy_config(tmp_path, lora_alpha=4.0))


def test_a_new_run_never_overwrites_an_old_one(tmp_path):
    config = toy_config(tmp_path / "run")
    run_toy(config, steps=1)
    with pytest.raises(UserError, match="there is one already"):
        Run.start(config)


def test_nothing_of_other_origin_is_written_over_or_removed(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=1, keep_last=1)
    for name in ("loss.png", "config.yaml", "samples/a.txt", "ranks.json"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# mine", encoding="utf-8")
        with pytest.raises(UserError, match=f"would write over {name.partition('/')[0]}"):
            Run.start(config)
        assert path.read_text(encoding="utf-8") == "# mine"
        path.unlink()
        if path.parent.name == "samples":
            path.parent.rmdir()
    for name in ("comparison.png", "run.png", "run.json"):
        (tmp_path / "run" / name).write_bytes(b"mine")
    with pytest.raises(UserError, match="would write over comparison.png, run.png, run.json, and"):
        Run.start(build(ImageConfig, {"output_dir": str(tmp_path / "run")}))
    Run.start(config).close()
    (tmp_path / "run" / "state").mkdir()
    (tmp_path / "run" / "state" / ".step-00000000.pt.7.tmp").write_bytes(b"as a kill leaves it")
    Run.start(config).close()  # what a start leaves that came to nothing is none of somebody's


def test_checkpoints_alone_are_a_run_too(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=1, keep_last=1)
    kept = tmp_path / "run" / "checkpoints" / "run-step00000001.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("of a run whose state was deleted", encoding="utf-8")
    with pytest.raises(UserError, match="there is one already"):
        Run.start(config)
    assert kept.exists()


def test_old_checkpoints_are_found_by_any_name_and_copies_of_them_are_not_theirs(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=1, keep_last=1, output_name="cat [v2]", max_steps=3)
    run = Run.start(config)
    copy = run.checkpoints / "cat [v2]-step00000001 (copy).safetensors"
    copy.parent.mkdir()
    copy.write_text("mine", encoding="utf-8")
    run_toy(config, run=run)
    assert sorted(path.name for path in run.checkpoints.glob("*.safetensors")) == [copy.name, "cat [v2]-step00000003.safetensors"]
    assert "step 3" in run.list_adapters()


@pytest.mark.parametrize("name", ["checkpoints", "logs", "Samples"])
def test_no_adapter_takes_the_place_of_a_runs_own_folders(tmp_path, name):
    class Folders(type(toy_config(tmp_path))):
        FILE_SUFFIX = ""

    with pytest.raises(UserError, match="something else of that name"):
        build(Folders, {"output_dir": str(tmp_path / "run"), "output_name": name})


def test_an_ending_in_the_name_is_the_files_own(tmp_path):
    assert toy_config(tmp_path / "run", output_name="cat.SafeTensors").name == "cat"


def test_what_is_set_that_was_not_is_told(tmp_path):
    before = as_plain(toy_config(tmp_path))
    (said,) = describe_changes(before, toy_config(tmp_path, max_steps=7, sample_prompts=["a cat"]), 4)
    assert "max_steps 7 (was empty)" in said and "sample_prompts ['a cat'] (was empty)" in said
    with pytest.raises(UserError, match="lora_alpha 1.0: it was trained without it. Leave lora_alpha out or"):
        check_unchanged(toy_config(tmp_path), toy_config(tmp_path, lora_alpha=1))


def test_another_file_is_told_and_the_same_in_another_place_is_not():
    before = as_plain(build(ImageConfig, {"output_dir": "/a/run", "vae": "/a/mse.safetensors", "train_data_dir": "/a/pictures"}))
    moved = build(ImageConfig, {"output_dir": "/b/run", "vae": "/b/mse.safetensors", "train_data_dir": "/b/pictures"})
    assert describe_changes(before, moved, 4) == []
    other = build(ImageConfig, {"output_dir": "/a/run", "vae": "/a/ema.safetensors", "train_data_dir": "/a/pictures"})
    assert describe_changes(before, other, 4) == ["From step 5 on: vae /a/ema.safetensors (was /a/mse.safetensors)."]


def test_a_run_that_has_come_to_its_end_says_so(tmp_path):
    config = toy_config(tmp_path / "run", max_steps=2)
    run_toy(config)
    events, _, _ = run_toy(config, run=Run.reopen(config))
    assert any(isinstance(e, Warned) and "nothing is trained. Raise max_steps" in e.message for e in events)


def test_a_resumed_run_stays_what_and_where_it_is(tmp_path):
    config = toy_config(tmp_path / "run", max_steps=2)
    run_toy(config)
    tasks = {"toy": type(config), "other": type("Other", (type(config),), {"TASK": "other"})}
    type(config).TASK = "toy"
    again = read_options(tasks, overrides=["output_dir=elsewhere"], resume=tmp_path / "run")
    assert again.output_dir == str(tmp_path / "run") and any("output_dir elsewhere is not used" in note for note in again.notes)
    with pytest.raises(UserError, match="as task_type 'other': it is a run of toy. Leave task_type out"):
        read_options(tasks, overrides=["task_type=other"], resume=tmp_path / "run")
    Run(tmp_path / "run", "run", "").config_path.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="its config.yaml is empty"):
        read_options(tasks, resume=tmp_path / "run")


def test_what_a_look_says_of_the_place(tmp_path):
    config = toy_config(tmp_path / "run")
    assert describe_place(config) == []
    run_toy(config, steps=1)
    assert "holds a run already" in describe_place(config)[0]
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in ("file", "file/run"):
        with pytest.raises(UserError, match="is a file. Choose another output_dir"):
            describe_place(toy_config(tmp_path / place))
