"""A run that is resumed: by its options as they are now, on data as it is now, and never over what it has made."""

import dataclasses
import json
import shutil
import time

import pytest
import torch
from hotlora.engine.control import Control
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Graded, Started, Step, Validated, Warned
from hotlora.engine.history import History
from hotlora.engine.job import Job
from hotlora.engine.loop import train
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from safetensors.torch import load_file
from toy import AskedToyTrainee, ToyHost, ToyTrainee, run_toy, toy_config


def rates(run):
    return {event.step: event.learning_rate for event in History(run.events.read()).steps}


def notes(events):
    return [event.message for event in events if isinstance(event, Warned)]


def same_files(first, second):
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# -- options that may change -------------------------------------------------------------------------------------------


def test_another_rate_counts_from_the_next_step_and_is_said(tmp_path):
    config = toy_config(tmp_path / "run", scheduler="constant", max_steps=4, learning_rate=1e-2)
    run_toy(config)
    changed = dataclasses.replace(config, max_steps=8, learning_rate=1e-4, weight_decay=0.5)
    events, _, run = run_toy(changed, run=Run.reopen(changed))
    assert [rates(run)[step] for step in range(1, 9)] == [1e-2] * 4 + [1e-4] * 4
    assert any("From step 5 on" in note and "learning_rate 0.0001 (was 0.01)" in note for note in notes(events))
    assert Session(ToyTrainee(changed), changed, run).optimizer.param_groups[0]["weight_decay"] == 0.5


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "polynomial", "cosine_with_restarts"])
def test_a_finished_run_that_is_prolonged_goes_on_at_the_longer_schedules_rate(tmp_path, scheduler):
    config = toy_config(tmp_path / "run", scheduler=scheduler, max_steps=5)
    run_toy(config)
    longer = dataclasses.replace(config, max_steps=10)
    _, _, run = run_toy(longer, run=Run.reopen(longer))
    _, _, whole = run_toy(toy_config(tmp_path / "whole", scheduler=scheduler, max_steps=10))
    assert [rates(run)[step] for step in range(6, 11)] == [rates(whole)[step] for step in range(6, 11)]
    assert all(rates(run)[step] > 0 for step in range(6, 11))


def test_another_scheduler_counts_from_the_next_step(tmp_path):
    config = toy_config(tmp_path / "run", scheduler="constant", max_steps=10)
    run_toy(config, steps=4)
    changed = dataclasses.replace(config, scheduler="linear")
    _, _, run = run_toy(changed, run=Run.reopen(changed))
    assert rates(run)[10] == pytest.approx(config.learning_rate * 0.1)


# -- data and model ----------------------------------------------------------------------------------------------------


def test_data_that_has_changed_begins_a_new_epoch_and_is_said(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=2)  # 13 examples, 4 steps an epoch
    run_toy(config, steps=7)

    class Fewer(ToyTrainee):
        data_fingerprint = "other toy data"

        def __init__(self, config):
            super().__init__(config, examples=5)

    events, _, _ = run_toy(config, host=ToyHost(Fewer), run=Run.reopen(config))
    assert any("data has changed since step 6" in note for note in notes(events))
    started = next(event for event in events if isinstance(event, Started))
    assert started.step == 6 and started.total_steps == 6 + 2 * 2  # two epochs of two steps are left
    assert isinstance(events[-1], Finished) and events[-1].reason == "done"


def test_the_steps_that_were_lost_are_said(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=4)
    run_toy(config, steps=7)
    events, _, _ = run_toy(config, run=Run.reopen(config))
    assert any("of step 4: 3 later steps were lost" in note for note in notes(events))


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["gone", "cut off", "text", "empty"])
def test_without_a_readable_state_nothing_is_started_over_or_replaced(tmp_path, damage):
    config = toy_config(tmp_path / "run", max_steps=4)
    _, _, run = run_toy(config)
    made = run.final_path.read_bytes()
    for state in run.states.iterdir():
        data = state.read_bytes()
        if damage == "gone":
            state.unlink()
        else:
            state.write_bytes({"cut off": data[:500], "text": b"a state", "empty": b""}[damage])
    with pytest.raises(UserError, match="cannot resume 'run': .* init_lora: '.*run.safetensors'"):
        run_toy(config, run=Run.reopen(config))
    assert run.final_path.read_bytes() == made


def test_no_flipped_byte_of_a_state_goes_unnoticed(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=2)
    _, _, run = run_toy(config, steps=5)
    newest = sorted(run.states.iterdir())[-1]
    data = newest.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 150)):
        newest.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        (name, found), *_ = list(run.read_states())
        mark_is_damaged = place >= len(data) - 47  # then it is read like a state of before there were seals, and is whole
        assert name == newest.name and (isinstance(found, Exception) or mark_is_damaged), place


def test_a_state_that_lacks_something_falls_back_to_the_one_before_and_says_so(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=2)
    _, _, run = run_toy(config, steps=5)
    newest = sorted(run.states.iterdir())[-1]
    torch.save({"fingerprint": "toy"}, newest)
    events, _, _ = run_toy(config, run=Run.reopen(config))
    assert next(event for event in events if isinstance(event, Started)).step == 2
    assert any(newest.name in note and "damaged" in note for note in notes(events))


def test_a_state_is_read_where_a_host_has_put_its_own_loader_before_torchs(tmp_path, monkeypatch):
    config = toy_config(tmp_path / "run", save_steps=2)
    _, _, run = run_toy(config, steps=5)
    original = torch.load

    def look_inside_first(file, *args, **kwargs):
        file.read()
        return original(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", look_inside_first)
    assert Session(ToyTrainee(config), config, run).step == 4


def test_a_state_of_before_there_were_seals_is_read(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=2)
    _, _, run = run_toy(config, steps=5)
    newest = sorted(run.states.iterdir())[-1]
    _, state = next(run.read_states())
    torch.save(state, newest)
    assert Session(ToyTrainee(config), config, run).step == 4


# -- numbers -----------------------------------------------------------------------------------------------------------


class Poisoned(ToyTrainee):
    """Its adapter holds no numbers any more after one of its steps, though loss and gradient did."""

    after = 5

    def loss(self, batch, draws):
        loss = super().loss(batch, draws)
        if draws.step == self.after and not getattr(self, "poisoned", False):
            self.poisoned = True
            parameter = next(p for p in self.net.parameters() if p.requires_grad)
            handle = parameter.register_hook(lambda gradient: (parameter.data.fill_(torch.inf), handle.remove(), None)[2])
        return loss


def test_weights_that_are_no_numbers_are_never_written(tmp_path):
    config = toy_config(tmp_path / "run", save_steps=1, max_steps=12, validation_every_steps=1)
    host = ToyHost(Poisoned)
    events, _, run = run_toy(config, host=host)
    assert isinstance(events[-1], Finished)
    assert any("no finite numbers after step" in note and "half the learning rate" in note for note in notes(events))
    for path in {*host.published, *run.folder.rglob("*.safetensors")}:
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values()), path
    for _, state in run.read_states():
        assert all(torch.isfinite(t).all() for parts in state["adapters"].values() for t in parts.values())


def test_a_validation_loss_that_is_no_number_is_never_the_best(tmp_path):
    class Unjudged(ToyTrainee):
        def validation_loss(self, batch):
            loss = super().validation_loss(batch)
            return type(loss)(loss.total * torch.nan, loss.count)

    config = toy_config(tmp_path / "run", max_steps=4, validation_every_steps=1)
    events, _, run = run_toy(config, host=ToyHost(Unjudged))
    assert [event.best for event in events if isinstance(event, Validated)] == [False] * 4
    assert not run.best_path.exists()


# -- one folder, one run -----------------------------------------------------------------------------------------------


def test_a_second_program_is_kept_out_of_a_runs_folder(tmp_path):
    config = toy_config(tmp_path / "run")
    run = Run.start(config)
    for enter in (Run.start, Run.reopen):
        with pytest.raises(UserError, match="another process trains there now"):
            enter(config)
    run.close()
    Run.start(config).close()


def test_a_run_whose_folder_is_deleted_ends_with_a_sentence_and_makes_no_new_one(tmp_path):
    config = toy_config(tmp_path / "run", max_steps=50)
    job = Job(ToyHost(), config, Run.start(config))
    job.subscribe(lambda event: shutil.rmtree(config.output_dir) if isinstance(event, Step) and event.step == 3 else None)
    outcome = job.work()
    assert not outcome.bug and "was deleted" in outcome.message
    assert not (tmp_path / "run").exists()


def test_what_a_killed_first_start_left_is_removed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yaml.123.tmp").write_text("half")
    Run.start(toy_config(folder)).close()
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


# -- stopping ----------------------------------------------------------------------------------------------------------


class Slow(AskedToyTrainee):
    """Counts what is asked of it, and can be told to stop the run at one of those."""

    asked = 5
    stop_at: tuple[str, int] | None = None
    control: Control | None = None

    def _count(self, what):
        counts = self.__dict__.setdefault("counts", {})
        counts[what] = counts.get(what, 0) + 1
        if (what, counts[what]) == self.stop_at:
            self.control.stop()

    def validation_batches(self):
        return [batch for batch in super().validation_batches() for _ in range(5)]

    def validation_loss(self, batch):
        self._count("validation")
        return super().validation_loss(batch)

    def grade(self, question):
        self._count("answer")
        return super().grade(question)

    def preview(self, request):
        self._count("sample")
        return super().preview(request)


@pytest.mark.parametrize("what", ["validation", "answer", "sample"])
def test_stop_ends_in_the_middle_and_resuming_equals_never_stopped(tmp_path, what):
    options = {"output_name": "a", "max_steps": 6, "validation_every_steps": 2, "sample_every_steps": 2}
    options |= {"sample_prompts": ["a", "b", "c", "d", "e"], "sheet_weights": []}
    _, _, whole = run_toy(toy_config(tmp_path / "whole", **options), host=ToyHost(Slow))
    config = toy_config(tmp_path / "cut", **options)
    run = Run.start(config)
    host = ToyHost(Slow)
    trainee = host.borrow(config)
    control = trainee.control = Control(host, run, 1.0)
    trainee.stop_at = (what, 7)  # of the answers, five come before the first step
    events = list(train(trainee, config, control))
    assert trainee.counts[what] == 7 and events[-1].reason == "stopped"
    run.close()
    for event in events:
        run.events.append(event)
    events, _, _ = run_toy(config, host=ToyHost(Slow), run=Run.reopen(config))
    assert events[-1].reason == "done" and same_files(run.final_path, whole.final_path)
    judged = [event.step for event in run.events.read() if isinstance(event, Validated)]
    assert sorted(set(judged)) == [2, 4, 6]


def test_a_run_that_is_told_to_stop_says_so_at_once(tmp_path):
    config = toy_config(tmp_path / "run", max_steps=500)
    job = Job(ToyHost(), config, Run.start(config))
    seen = []
    job.subscribe(lambda event: (job.control.stop(), seen.append(job.phase)) if isinstance(event, Step) and event.step == 3 else None)
    job.work()
    assert seen == ["stopping"]


def test_answers_take_their_share_of_the_time_and_no_more(tmp_path):
    class Thinking(AskedToyTrainee):
        asked, grading_share = 40, 0.1

        def grade(self, question):
            time.sleep(0.02)
            return super().grade(question)

        def loss(self, batch, draws):
            time.sleep(0.02)
            return super().loss(batch, draws)

    config = toy_config(tmp_path / "run", max_steps=60, validation_every_steps=20)
    events, _, _ = run_toy(config, host=ToyHost(Thinking))
    graded = [event for event in events if isinstance(event, Graded)]
    assert len({event.count for event in graded}) == 1 and 1 <= graded[0].count <= 3  # 0.1 * 1.2 s / 5 times / 0.02 s
    assert any("of 40 questions" in note and "test_answers_share" in note for note in notes(events))


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["garbage", '{"type": "Step"}', '{"type": "Step", "time": "x"}', "[1]", "\x00\x01", '{"type": "Danced"}'])
def test_a_damaged_event_costs_only_itself(tmp_path, line):
    config = toy_config(tmp_path / "run", max_steps=3)
    _, _, run = run_toy(config)
    lines = run.events.path.read_text(encoding="utf-8").splitlines()
    run.events.path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n", encoding="utf-8")
    longer = dataclasses.replace(config, max_steps=5)
    events, _, _ = run_toy(longer, run=Run.reopen(longer))
    assert events[-1].reason == "done" and set(rates(run)) == {1, 2, 3, 4, 5}
    assert "left out" in next(event.message for event in run.events.read() if isinstance(event, Warned))


def test_tensorboard_shows_each_step_once_after_a_start_over_and_a_rewind(tmp_path):
    pytest.importorskip("tensorboard")
    from hotlora.engine.tensorboard import TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = toy_config(tmp_path / "run", max_steps=9)

    class Breaking(ToyTrainee):
        def __init__(self, config):
            super().__init__(config)
            self.poison_at = {6}

    run = Run.start(config)
    for stop_at in (4, None):  # killed before the first state but that of step 0, then from the start
        reader = TensorBoard(run.tensorboard)
        host = ToyHost(Breaking)
        generator = train(host.borrow(config), config, Control(host, run, 1.0))
        for event in generator:
            run.events.append(event)
            reader(event)
            if isinstance(event, Step) and event.step == stop_at:
                generator.close()
                break
        reader.close()
    shown = EventAccumulator(str(run.tensorboard))
    shown.Reload()
    assert [point.step for point in shown.Scalars("train/loss")] == list(range(1, 10))
    assert len(json.loads(run.events.path.read_text(encoding="utf-8").splitlines()[0])) > 1
