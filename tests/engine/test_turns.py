"""How long a run keeps the model: all the time while nobody asks, a share of it while others do."""

import contextlib
import time

import pytest
from hotlora.engine.control import Control
from toy import ToyHost

STEP = 0.02  # seconds


class Drawing(ToyHost):
    """Somebody uses the model for so many seconds before each turn, and asks for it again at once."""

    def __init__(self, seconds, again=True):
        super().__init__()
        self.seconds, self.waiting = seconds, again

    @contextlib.contextmanager
    def turn(self):
        time.sleep(self.seconds)
        yield


def steps_of_turn(control, most=1000):
    with control.turn():
        for count in range(1, most + 1):
            time.sleep(STEP)
            if control.turn_over():
                return count
    return most


def test_nobody_asks_and_the_model_is_kept():
    control = Control(Drawing(0.0, again=False), None, 60.0, 0.1)
    assert steps_of_turn(control, most=20) == 20
    assert control.share_of_time() == pytest.approx(1.0)


def test_a_turn_ends_although_nobody_asks_after_the_time_that_is_set():
    assert steps_of_turn(Control(Drawing(0.0, again=False), None, 3.5 * STEP, 0.1), most=20) in (3, 4)


def test_who_asks_has_it_after_a_step():
    assert steps_of_turn(Control(Drawing(0.0), None, 60.0, 0.1)) == 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_training_has_its_share_while_others_ask_without_a_pause(share):
    control = Control(Drawing(0.3), None, 60.0, share)
    steps = [steps_of_turn(control) for _ in range(3)]
    if share:
        wanted = 0.3 * share / (1 - share) / STEP
        assert all(1 <= count <= wanted + 1.5 for count in steps) and sum(steps) >= 3 * wanted * 0.5
    else:
        assert steps == [1, 1, 1]


def test_no_turn_is_longer_than_one_that_nobody_waits_for():
    assert steps_of_turn(Control(Drawing(0.4), None, 2.5 * STEP, 0.5)) in (2, 3, 4)


def test_the_share_is_what_is_told():
    control = Control(Drawing(0.1), None, 60.0, 0.5)
    for _ in range(4):
        steps_of_turn(control)
    assert 0.4 < control.share_of_time() < 0.75
    assert Control(ToyHost(), None, 60.0).share_of_time() is None
