"""Everything that reads a run's events: the log itself, curves, console, TensorBoard."""

import io

import pytest
from hotlora.engine.console import Console
from hotlora.engine.curves import plot_loss
from hotlora.engine.events import EventLog, Finished, Previewed, Started, Step, Validated, Warned, read_events
from hotlora.engine.history import History
from hotlora.engine.tensorboard import TensorBoard
from PIL import Image


def step(number, loss=1.0, **fields):
    values = {"epoch": 0.5, "average": loss, "learning_rate": 1e-4, "gradient_norm": 0.1, "seconds": 0.5, "memory_bytes": 2**31}
    return Step(step=number, loss=loss, **{**values, **fields})


def started(at=0):
    return Started(name="x", step=at, total_steps=4, steps_per_epoch=2, trainable_parameters=1234, summary={"pictures": 3})


def test_events_come_back_as_they_were_written_from_any_index(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    events = [started(), step(1), Warned("schön, 「はい」"), Finished(step=1, reason="done", files={"lora": "a"})]
    for event in events:
        log.append(event)
    assert list(log.read()) == events
    assert list(log.read(since=2)) == events[2:]
    assert list(read_events(tmp_path / "none.jsonl")) == []


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.append(step(1))
    with open(log.path, "a", encoding="utf-8") as file:
        file.write('{"type": "Step", "step": 2, "lo')
    assert [e.step for e in read_events(log.path)] == [1]
    log = EventLog(log.path)
    log.append(step(2))
    assert [e.step for e in log.read()] == [1, 2]


def test_curve_forgets_what_a_resume_or_a_rewind_went_back_over():
    events = [started(), step(1), step(2), step(3), started(at=2), step(3, loss=9.0), step(4), step(3, loss=7.0)]
    assert [(e.step, e.loss) for e in History(events).steps] == [(1, 1.0), (2, 1.0), (3, 7.0)]


def test_plot_is_a_picture(tmp_path):
    events = [started(), *[step(i, loss=1 / i) for i in range(1, 20)], Validated(step=10, loss=0.3, best=True)]
    with Image.open(plot_loss(events, tmp_path / "loss.png")) as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 24)) > 10
    assert plot_loss([started()], tmp_path / "none.png") is None


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_console_shows_step_epoch_loss_speed_time_left_and_memory(stream):
    out = stream()
    console = Console(out)
    for event in [
        started(),
        step(1),
        step(2),
        step(3),
        step(4, loss=0.125),
        Finished(step=4, reason="done", files={"lora": "a.safetensors"}),
    ]:
        console(event)
    text = out.getvalue()
    for shown in ("pictures 3", "4 steps", "4/4", "epoch 0.50", "loss 0.1250", "2.0 GB", "a.safetensors"):
        assert shown in text, shown
    if stream is Terminal:
        assert "it/s" in text or "s/it" in text
    else:
        assert "it/s" in text and "left" in text and "\r" not in text


def test_tensorboard_has_the_curves_and_the_samples(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sample = tmp_path / "sample.png"
    Image.new("RGB", (8, 8), "red").save(sample)
    board = TensorBoard(tmp_path / "logs")
    for event in [
        started(),
        step(1),
        step(2, loss=0.5),
        Validated(2, 0.4, True),
        Previewed(step=2, prompt="a cat", weight=1.0, seed=1, path=str(sample)),
    ]:
        board(event)
    board.close()
    read = EventAccumulator(str(tmp_path / "logs"))
    read.Reload()
    assert [s.value for s in read.Scalars("train/loss")] == [1.0, 0.5]
    assert read.Scalars("validation/loss")[0].step == 2
    assert read.Tags()["images"] == ["a cat"]
