"""A device that is full and suddenly slow uses memory that is not its own. Its memory is pretended here: no test has such a device."""

import time

import pytest
import torch
from hotlora.engine import memory, pace
from hotlora.engine.events import Step, Warned
from hotlora.engine.pace import Pace
from toy import ToyHost, ToyTrainee, run_toy, toy_config

CARD = torch.device("cuda", 0)


@pytest.fixture
def card(monkeypatch):
    """8 GB, of which so much is free."""
    free = [0.1]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free[0] * 2**30), 8 * 2**30))
    return free


def told(steps, device=CARD):
    noted = Pace(device)
    return [(number, said) for number, seconds in enumerate(steps, 1) if (said := noted.note(seconds))]


def test_it_is_told_once_at_the_third_slow_step_with_what_to_do(card):
    ((number, said),) = told([0.3] * 40 + [1.5] * 60)
    assert number == 43
    assert said.startswith("Steps take 5.0 times as long as before (1.50 s, 0.30 s before), and the GPU's memory is nearly full")
    assert "gradient_checkpointing: true" in said


@pytest.mark.parametrize(
    "steps",
    [[0.3] * 100, [0.3] * 40 + [0.8] * 60, ([0.3] * 9 + [5.0]) * 10, [0.3] * 10 + [1.5] * 60, [0.3 * 1.02**n for n in range(100)]],
    ids=["steady", "not several times slower", "single steps", "too early to tell", "little by little"],
)
def test_what_is_no_sudden_slowness_is_not_told(card, steps):
    assert told(steps) == []


def test_a_card_with_room_is_slow_for_another_reason(card):
    card[0] = 2.0
    assert told([0.3] * 40 + [1.5] * 20) == []
    assert told([0.3] * 40 + [1.5] * 20, torch.device("cpu")) == []
    card[0] = 0.2
    assert memory.is_nearly_full(CARD)


def test_a_run_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "is_nearly_full", lambda device: True)

    class Spilling(ToyTrainee):
        def loss(self, batch, draws):
            time.sleep(0.4 if draws.step >= 30 else 0.01)
            return super().loss(batch, draws)

    events, *_ = run_toy(toy_config(tmp_path / "run", max_steps=36, sheet_weights=[]), host=ToyHost(Spilling))
    (at,) = [place for place, event in enumerate(events) if isinstance(event, Warned) and "times as long as before" in event.message]
    assert 30 < events[at - 1].step <= 34
    assert max(event.step for event in events if isinstance(event, Step)) == 36
