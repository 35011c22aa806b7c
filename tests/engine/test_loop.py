"""What the loop promises: right sums, clean turns, survival of what goes wrong."""

import itertools

import pytest
import torch
from hotlora.engine.control import Control
from hotlora.engine.errors import UserError
from hotlora.engine.events import Failed, Finished, Graded, Previewed, Saved, Step, Validated, Warned
from hotlora.engine.history import History
from hotlora.engine.job import Job
from hotlora.engine.loop import train
from hotlora.engine.probe import look_ahead
from hotlora.engine.run import Run
from safetensors.torch import load_file
from toy import AskedToyTrainee, ToyHost, ToyTrainee, run_toy, toy_config


def finals(run):
    return load_file(run.final_path)


def close(first, second, tolerance=1e-6):
    return all(torch.allclose(first[key], second[key], atol=tolerance, rtol=1e-4) for key in first)


@pytest.mark.parametrize(("size", "accumulation"), [(2, 2), (1, 4)])
def test_accumulated_equals_the_big_batch(tmp_path, size, accumulation):
    _, _, big = run_toy(toy_config(tmp_path / "big", output_name="a", batch_size=4))
    config = toy_config(tmp_path / "small", output_name="a", batch_size=size, gradient_accumulation_steps=accumulation)
    _, _, small = run_toy(config)
    assert [round(e.loss, 5) for e in History(small.events.read()).steps] == [round(e.loss, 5) for e in History(big.events.read()).steps]
    assert close(finals(big), finals(small))


@pytest.mark.parametrize(
    ("options", "steps", "said"),
    [
        ({}, 16, ""),
        ({"least_steps": 30}, 30, "epochs 4 come to 16 steps here, and least_steps to 30"),
        ({"most_steps": 10}, 10, "epochs 4 come to 16 steps here, and most_steps to 10"),
        ({"least_steps": 16, "most_steps": 16}, 16, ""),
        ({"least_steps": 30, "most_steps": 40, "max_steps": 5}, 5, ""),
    ],
)
def test_a_run_is_no_shorter_and_no_longer_than_it_may_be(tmp_path, options, steps, said):
    events, _, run = run_toy(toy_config(tmp_path / "run", **options))
    assert len(History(run.events.read()).steps) == steps == events[-1].step
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert (said in warned[0]) if said else not warned


def test_bounds_that_leave_no_length_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot train 9 steps at least and 8 at most"):
        toy_config(tmp_path / "run", least_steps=9, most_steps=8)


def test_out_of_memory_halves_the_batch_and_changes_no_number(tmp_path):
    _, _, plain = run_toy(toy_config(tmp_path / "plain", output_name="a"))

    class Small(ToyTrainee):
        def __init__(self, config):
            super().__init__(config)
            self.memory_limit = 1

    events, _, small = run_toy(toy_config(tmp_path / "small", output_name="a"), host=ToyHost(Small))
    warnings = [e.message for e in events if isinstance(e, Warned)]
    assert [w for w in warnings if "cut to 2" in w] and [w for w in warnings if "cut to 1" in w]
    assert close(finals(plain), finals(small))


def test_memory_for_not_even_one_example_is_said(tmp_path):
    class Tiny(ToyTrainee):
        def loss(self, batch, draws):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (pretended)")

    config = toy_config(tmp_path / "run")
    outcome = Job(ToyHost(Tiny), config, Run.start(config)).work()
    assert isinstance(outcome, Failed) and not outcome.bug
    assert "gradient_checkpointing" in outcome.message


def test_model_is_as_found_between_turns_and_after_closing(tmp_path):
    config = toy_config(tmp_path / "run", slice_seconds=0.05)
    host = ToyHost()
    trainee = host.borrow(config)
    trainee.net[0].weight.requires_grad_(False)
    trainee.net[1].train()
    before = [id(m) for m in trainee.net.modules()], [p.clone() for p in trainee.net.parameters()]
    flags = [p.requires_grad for p in trainee.net.parameters()], [m.training for m in trainee.net.modules()]

    def as_found():
        assert [id(m) for m in trainee.net.modules()] == before[0]
        assert all(torch.equal(a, b) for a, b in zip(trainee.net.parameters(), before[1], strict=True))
        assert ([p.requires_grad for p in trainee.net.parameters()], [m.training for m in trainee.net.modules()]) == flags
        assert all(p.grad is None for p in trainee.net.parameters())

    class Watching(ToyHost):
        def turn(self):
            as_found()
            return super().turn()

    watching = Watching()
    watching.waiting = True  # a turn per step
    control = Control(watching, Run.start(config), 0.05)
    generator = train(trainee, config, control)
    events = list(itertools.islice(generator, 8))
    steps = len([e for e in events if isinstance(e, Step)])
    assert steps >= 4 and watching.turns >= steps
    generator.close()
    assert not watching.inside
    as_found()


def test_an_error_in_a_step_leaves_the_model_as_found(tmp_path):
    class Broken(ToyTrainee):
        def loss(self, batch, draws):
            if draws.step == 3:
                raise ValueError("broken on purpose")
            return super().loss(batch, draws)

    config = toy_config(tmp_path / "run")
    host, run = ToyHost(Broken), Run.start(config)
    outcome = Job(host, config, run).work()
    assert outcome.bug and "run.log" in outcome.message
    assert "broken on purpose" in run.log_path.read_text(encoding="utf-8")
    assert not host.inside and type(host.trainee.net[0]).__module__.startswith("torch.")


def test_nan_goes_back_once_at_half_the_rate(tmp_path):
    class Poisoned(ToyTrainee):
        def __init__(self, config):
            super().__init__(config)
            self.poison_at = {7}

    config = toy_config(tmp_path / "run", save_steps=4, scheduler="constant")
    events, _, run = run_toy(config, host=ToyHost(Poisoned))
    warning = next(e.message for e in events if isinstance(e, Warned))
    assert "back to step 4" in warning and "half" in warning
    curve = History(run.events.read()).steps
    assert [e.step for e in curve] == list(range(1, 17))
    assert curve[3].learning_rate == pytest.approx(1e-2) and curve[4].learning_rate == pytest.approx(5e-3)
    assert all(torch.isfinite(t).all() for t in finals(run).values())


def test_a_model_that_gives_no_numbers_is_said_and_no_rate_is_blamed(tmp_path):
    class Damaged(ToyTrainee):
        def loss(self, batch, draws):
            self.poison_at = {draws.step}
            return super().loss(batch, draws)

    config = toy_config(tmp_path / "run", base_model="toy.safetensors")
    outcome = Job(ToyHost(Damaged), config, Run.start(config)).work()
    assert isinstance(outcome, Failed) and not outcome.bug
    assert "cannot train on 'toy.safetensors': it gives no usable numbers" in outcome.message and "learning_rate" not in outcome.message
    with pytest.raises(UserError, match="it gives no usable numbers"):
        list(look_ahead(ToyHost(Damaged), config))


def test_a_look_ahead_that_breaks_down_is_a_sentence(tmp_path):
    class Breaking(ToyTrainee):
        def loss(self, batch, draws):
            self.poison_at = {1}
            return super().loss(batch, draws)

    with pytest.raises(UserError, match="training breaks down at once .* Set learning_rate well below 0.01"):
        list(look_ahead(ToyHost(Breaking), toy_config(tmp_path / "run")))


@pytest.mark.parametrize("name", ["checkpoints", "state"])
def test_what_stands_in_the_way_of_a_file_is_a_sentence(tmp_path, name):
    config = toy_config(tmp_path / "run", save_steps=2)
    run = Run.start(config)
    (run.folder / name).write_text("mine", encoding="utf-8")
    outcome = Job(ToyHost(), config, run).work()
    assert isinstance(outcome, Failed) and not outcome.bug, outcome.message
    assert outcome.message.startswith("cannot write '") and name in outcome.message and "Move what is there away" in outcome.message


def test_a_second_breakdown_ends_the_run_with_a_sentence(tmp_path):
    class Poisoned(ToyTrainee):
        def loss(self, batch, draws):
            if draws.step >= 5:
                self.poison_at = {draws.step}
            return super().loss(batch, draws)

    config = toy_config(tmp_path / "run")
    run = Run.start(config)
    outcome = Job(ToyHost(Poisoned), config, run).work()
    assert isinstance(outcome, Failed) and not outcome.bug
    assert "half the learning rate" in outcome.message
    assert not run.final_path.exists()


def test_exploding_loss_is_noticed(tmp_path):
    class Exploding(ToyTrainee):
        def loss(self, batch, draws):
            loss = super().loss(batch, draws)
            return type(loss)(loss.total * (1e4 if draws.step > 60 and not getattr(self, "calm", False) else 1), loss.count)

    config = toy_config(tmp_path / "run", max_steps=100, save_steps=20)
    outcome = Job(ToyHost(Exploding), config, Run.start(config)).work()
    assert isinstance(outcome, Failed) and "broke down" in outcome.message


def test_validation_keeps_the_best_and_stops_early(tmp_path):
    class Overfitting(ToyTrainee):
        judged = 0

        def validation_loss(self, batch):
            loss = super().validation_loss(batch)
            Overfitting.judged += 1
            return type(loss)(torch.tensor(float(abs(Overfitting.judged - 3) + 1)) * loss.count, loss.count)

    config = toy_config(tmp_path / "run", max_steps=60, validation_split=0.1, validation_every_steps=2, early_stopping_patience=3)
    events, _, run = run_toy(config, host=ToyHost(Overfitting))
    validated = [e for e in events if isinstance(e, Validated)]
    assert [e.best for e in validated] == [True, True, True, False, False, False]
    assert isinstance(events[-1], Finished) and events[-1].reason == "early stopping"
    best = load_file(run.folder / "run-best.safetensors")
    assert all(torch.equal(best[key], value) for key, value in finals(run).items())


def test_validation_and_samples_leave_training_untouched(tmp_path):
    _, _, plain = run_toy(toy_config(tmp_path / "plain", output_name="a"))
    options = {"validation_split": 0.1, "validation_every_steps": 1, "sample_prompts": ["x"], "sample_every_steps": 1, "save_steps": 1}
    events, host, watched = run_toy(toy_config(tmp_path / "watched", output_name="a", **options))
    assert len([e for e in events if isinstance(e, Previewed)]) == 16
    assert all(torch.equal(finals(plain)[key], value) for key, value in finals(watched).items())
    saved = [e.path for e in events if isinstance(e, Saved)]
    assert [str(path) for path in host.published] == [*saved, saved[-1]]  # the last one again, with its cover


def test_keep_last_deletes_only_older_checkpoints(tmp_path):
    _, _, run = run_toy(toy_config(tmp_path / "run", save_steps=2, keep_last=3))
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == [f"run-step{s:08d}.safetensors" for s in (12, 14, 16)]


def test_stop_saves_and_pause_waits(tmp_path):
    config = toy_config(tmp_path / "run", max_steps=100_000)
    job = Job(ToyHost(), config, Run.start(config))
    reached = []

    def reader(event):
        if isinstance(event, Step):
            reached.append(event.step)
            if event.step == 5:
                job.control.pause()

    job.subscribe(reader)
    job.start()
    assert not job.wait(1.0)
    paused_at = reached[-1]
    assert paused_at <= 6
    assert (job.run.states / f"step-{paused_at:08d}.pt").exists()
    job.control.go_on()
    while reached[-1] < 20:
        assert not job.wait(0.01)
    job.control.stop()
    assert job.wait(20)
    assert job.outcome.reason == "stopped" and job.run.final_path.exists()


@pytest.mark.parametrize(("prompts", "granted"), [(["x"], "Previewed"), ([], "Warned")])
def test_wishes_are_granted_after_the_current_step(tmp_path, prompts, granted):
    """Where there is nothing to sample, that is said."""
    config = toy_config(tmp_path / "run", sample_prompts=prompts)
    job = Job(ToyHost(), config, Run.start(config))
    events = []

    def reader(event):
        events.append(event)
        if isinstance(event, Step) and event.step == 3:
            job.control.save_now()
            job.control.sample_now()

    job.subscribe(reader)
    job.work()
    kinds = [type(e).__name__ for e in events]
    third = next(i for i, e in enumerate(events) if isinstance(e, Step) and e.step == 3)
    assert kinds[third + 1 : third + 3] == [granted, "Saved"]


def test_full_disk_ends_with_a_sentence_and_whole_checkpoints(tmp_path, monkeypatch):
    config = toy_config(tmp_path / "run", save_steps=2)
    run = Run.start(config)
    job = Job(ToyHost(), config, run)
    original = type(run.states).write_bytes

    def full(path, data):
        if "step-00000006" in path.name:
            original(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(type(run.states), "write_bytes", full)
    outcome = job.work()
    assert isinstance(outcome, Failed) and not outcome.bug and "disk is full" in outcome.message
    monkeypatch.undo()
    assert next(run.read_states())[1]["attributes"]["step"] == 4
    assert not list(run.folder.rglob("*.tmp"))
    resumed = Job(ToyHost(), config, Run.reopen(config)).work()
    assert isinstance(resumed, Finished)


def test_init_lora_takes_over_rank_and_weights(tmp_path):
    _, _, first = run_toy(toy_config(tmp_path / "first", lora_rank=3))
    options = {"output_dir": str(tmp_path / "second"), "init_lora": str(first.final_path), "learning_rate": 0.0, "tensorboard": False}
    from hotlora.engine.config import RunConfig
    from hotlora.engine.options import build

    config = build(RunConfig, {**options, "max_steps": 2, "weight_decay": 0})
    _, _, second = run_toy(config)
    assert all(torch.equal(finals(first)[key], value) for key, value in finals(second).items())
    with pytest.raises(UserError, match="with lora_rank 8: it has lora_rank 3"):
        run_toy(toy_config(tmp_path / "third", lora_rank=8, init_lora=str(first.final_path)))


def test_stopping_while_data_is_prepared_ends_there(tmp_path):
    class Slow(ToyTrainee):
        def prepare(self):
            for number in range(1000):
                yield type("Progress", (), {"what": "looking", "done": number, "total": 1000})

    config = toy_config(tmp_path / "run")
    job = Job(ToyHost(Slow), config, Run.start(config))
    seen = []
    job.subscribe(lambda event: seen.append(event) or (len(seen) == 5 and job.control.stop()))
    outcome = job.work()
    assert outcome.reason == "stopped" and len(seen) < 10
    assert not job.run.final_path.exists()


def test_a_reader_that_meets_the_full_disk_is_no_bug(tmp_path):
    config = toy_config(tmp_path / "run")
    job = Job(ToyHost(), config, Run.start(config))

    def reader(event):
        if isinstance(event, Step):
            raise OSError(28, "No space left on device")

    job.subscribe(reader)
    outcome = job.work()
    assert not outcome.bug and "disk is full" in outcome.message


def test_questions_are_asked_before_with_each_validation_and_at_the_end(tmp_path):
    class Asked(AskedToyTrainee):
        asked = 3

    config = toy_config(tmp_path / "run", max_steps=5, validation_every_steps=2)
    events, _, run = run_toy(config, host=ToyHost(Asked))
    tested = [event for event in events if isinstance(event, Graded)]
    assert [event.step for event in tested] == [0, 2, 4, 5]
    assert all(event.count == 3 and event.scores == {"right": 1 / 3} for event in tested)
    assert [test.step for test in History(run.events.read()).grades] == [0, 2, 4, 5]


def test_a_resumed_run_does_not_ask_at_its_start_again(tmp_path):
    class Asked(AskedToyTrainee):
        asked = 1

    config = toy_config(tmp_path / "run", max_steps=4)
    run_toy(config, host=ToyHost(Asked), steps=2)
    events, *_ = run_toy(config, host=ToyHost(Asked), run=Run.reopen(config))
    assert 0 not in [event.step for event in events if isinstance(event, Graded)]
