"""Where memory does not suffice, the look ahead tries what makes it suffice, and says so."""

import time

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.probe import look_ahead
from toy import ToyHost, ToyTrainee, toy_config


class Tight(ToyTrainee):
    """Holds ``room`` examples at once; with checkpointing more, and each batch takes its time."""

    room, room_with, seconds = 2, 4, 0.02

    def loss(self, batch, draws):
        self.memory_limit = self.room_with if self.config.gradient_checkpointing else self.room
        time.sleep(self.seconds * (1.3 if self.config.gradient_checkpointing else 1.0))
        return super().loss(batch, draws)


def look(tmp_path, **options):
    kept = {name: options.pop(name) for name in ("room", "room_with") if name in options}
    config = toy_config(tmp_path / "run", **options)
    host = ToyHost(lambda config: type("Kind", (Tight,), kept)(config))
    *_, estimate = look_ahead(host.borrow(config), config, host)
    assert config.gradient_checkpointing == options.get("gradient_checkpointing", False) and not (tmp_path / "run").exists()
    return " ".join(estimate.notes)


def test_what_makes_whole_batches_fit_is_tried_and_told(tmp_path):
    told = look(tmp_path)
    assert "Out of memory: batches are cut to 2" in told
    assert "With gradient_checkpointing: true whole batches fit (tried: " in told and "s a step" in told and "without it" in told


@pytest.mark.parametrize(
    "options",
    [{"room": 4}, {"room_with": 2}, {"gradient_checkpointing": True, "room_with": 2}],
    ids=["it fits", "it does not help", "it is on"],
)
def test_where_it_does_not_help_nothing_is_told(tmp_path, options):
    assert "whole batches fit" not in look(tmp_path, **options)


def test_where_not_one_example_fits_the_refusal_says_what_was_tried(tmp_path):
    with pytest.raises(UserError, match="does not hold one example. Switch .* With gradient_checkpointing: true whole batches fit"):
        look(tmp_path, room=0.5)
    with pytest.raises(UserError, match=r"or lower the resolution or the rank\.$"):
        look(tmp_path, room=0.5, room_with=0.5)
