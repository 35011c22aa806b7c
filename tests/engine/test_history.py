"""What people are told of a run is what its events say, whenever and in how many pieces they are read."""

import time

import pytest
from hotlora.engine.events import (
    EventLog,
    Failed,
    Finished,
    Paused,
    Preparing,
    Previewed,
    Saved,
    Started,
    Step,
    Validated,
    Warned,
    read_events,
)
from hotlora.engine.history import History, clock


def step(number, at=0.0, loss=1.0, seconds=0.5):
    return Step(
        step=number,
        epoch=0.5,
        loss=loss,
        average=loss,
        learning_rate=1e-4,
        gradient_norm=0.1,
        seconds=seconds,
        memory_bytes=1,
        time=at,
    )


def started(at_step=0, at=0.0, total=100):
    return Started(name="x", step=at_step, total_steps=total, steps_per_epoch=2, trainable_parameters=1, summary={}, time=at)


def test_nothing_has_happened_yet(tmp_path):
    history = History().read_on(tmp_path / "events.jsonl")
    assert (history.count, history.step, history.latest, history.outcome) == (0, 0, None, None)
    assert history.seconds_left is None and history.seconds_per_step is None


def test_read_piece_by_piece_equals_read_at_once(tmp_path):
    log, history = EventLog(tmp_path / "events.jsonl"), History()
    events = [Preparing("x", 1, 2), started(), step(1), Warned("schön 「はい」"), step(2), Saved(2, "final", "a"), Finished(2, "done", {})]
    for event in events:
        log.append(event)
        history.read_on(log.path)
        history.read_on(log.path)
    whole = History(events)
    names = ("count", "started", "latest", "steps", "validations", "samples", "files", "log")
    assert [getattr(history, name) for name in names] == [getattr(whole, name) for name in names]
    assert history.count == 7


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Warned("「はい」"))
    data = log.path.read_bytes()
    for length in range(len(data)):  # also in the middle of a character
        log.path.write_bytes(data + data[:length])
        history = History().read_on(log.path)
        assert history.count == 1 and len(list(read_events(log.path))) == 1
        log.path.write_bytes(data + data)
        assert history.read_on(log.path).count == 2


def test_curves_go_back_where_a_resume_or_a_rewind_did():
    history = History(
        [started(), step(1), step(2), Validated(2, 0.5, True), step(3), Validated(3, 0.4, True), started(2), step(3, loss=9.0)]
    )
    assert [(s.step, s.loss) for s in history.steps] == [(1, 1.0), (2, 1.0), (3, 9.0)]
    assert [v.step for v in history.validations] == [2] and history.step == 3
    history.add(step(2, loss=7.0))  # a rewind announces nothing but its next step
    assert [(s.step, s.loss) for s in history.steps] == [(1, 1.0), (2, 7.0)]
    assert History([started(), step(1), started(0)]).step == 0


def test_a_resume_shows_its_step_before_it_has_made_one():
    assert History([started(40)]).step == 40


def test_a_file_or_sample_that_is_written_again_is_shown_once():
    def sample(at, path):
        return Previewed(step=at, prompt="x", weight=1.0, seed=1, path=path)

    history = History(
        [Saved(1, "best", "b"), Saved(2, "final", "f"), Saved(3, "best", "b"), sample(1, "s1"), sample(2, "s2"), sample(1, "s1")]
    )
    assert [(f.step, f.path) for f in history.files] == [(2, "f"), (3, "b")]
    assert [s.path for s in history.samples] == ["s2", "s1"]


def test_how_a_run_ended_is_forgotten_when_it_goes_on():
    finished, failed = Finished(3, "stopped", {}), Failed("no", bug=False)
    history = History([started(), step(1), finished, Warned("later")])
    assert history.outcome is finished
    history.add(Preparing("x", 1, 1))
    assert history.outcome is None
    history.add(failed)
    assert history.outcome is failed and history.latest is failed


def test_speed_is_that_of_the_last_steps():
    slow = [step(i, seconds=100.0) for i in range(1, 20)]
    fast = [step(i, seconds=0.25) for i in range(20, 50)]
    assert History([started(), *slow, *fast]).seconds_per_step == pytest.approx(0.25)


def test_time_left_is_by_the_clock_and_of_this_sitting_only():
    history = History([started(at=0.0), step(1, at=2.0)])
    assert history.seconds_left is None
    history.add(step(2, at=4.0))  # 0.5 s each by the step's own time: the rest was samples and other people's pictures
    assert history.seconds_left == pytest.approx(2.0 * 98)
    history.add(started(2, at=10_000.0))  # the next day
    history.add(step(3, at=10_001.0))
    assert history.seconds_left is None
    history.add(step(4, at=10_002.0))
    assert history.seconds_left == pytest.approx(96)


def test_a_pause_does_not_count_into_the_time_left():
    history = History([started(at=0.0), step(1, at=1.0), step(2, at=2.0), Paused(time=2.5), step(3, at=5_000.0)])
    assert history.seconds_left is None
    history.add(step(4, at=5_001.0))
    assert history.seconds_left == pytest.approx(96)


def test_the_log_says_in_sentences_what_a_person_should_know():
    events = [
        Preparing("checking pictures", 1, 9),
        started(),
        *[step(i) for i in range(1, 9)],
        Validated(8, 0.25, best=True),
        Saved(8, "checkpoint", "/somewhere/cat-step8.safetensors"),
        Paused(),
        Paused("Load the other checkpoint."),
        started(8),
        Warned("Beware."),
        Finished(9, "stopped", {}),
        Finished(9, "early stopping", {}),
        Failed("It broke.", bug=True),
    ]
    told = "\n".join(text for _, text in History(events).log).splitlines()
    assert told == [
        "Training 100 steps.",
        "Validation loss 0.2500 at step 8, the best so far.",
        "Saved cat-step8.safetensors (checkpoint, step 8).",
        "Paused.",
        "Load the other checkpoint.",
        "Going on at step 8 of 100.",
        "Beware.",
        "Stopped; the state is saved.",
        "Finished: early stopping.",
        "It broke.",
    ]


def test_the_clock_is_the_walls():
    now = time.time()
    assert clock(now) == time.strftime("%H:%M:%S", time.localtime(now))
