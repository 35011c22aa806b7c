"""Where memory does not suffice, the look ahead tries what makes it suffice, and says so."""

import gc
import time
import weakref
from dataclasses import dataclass

import pytest
from hotlora.engine.config import RunConfig
from hotlora.engine.options import build, option
from hotlora.engine.probe import NoRoom, look_ahead
from hotlora.engine.proposals import change_batch
from toy import ToyHost, ToyTrainee, toy_config


class Tight(ToyTrainee):
    """Holds ``room`` examples at once; with checkpointing more, and each batch takes its time."""

    room, room_with, seconds, slower = 2, 4, 0.2, 1.2

    def loss(self, batch, draws):
        self.memory_limit = self.room_with if self.config.gradient_checkpointing else self.room
        time.sleep(self.seconds * (self.slower if self.config.gradient_checkpointing else 1.0))
        return super().loss(batch, draws)


def look(tmp_path, **options):
    kept = {name: options.pop(name) for name in ("room", "room_with", "slower") if name in options}
    config = toy_config(tmp_path / "run", **options)
    host = ToyHost(lambda config: type("Kind", (Tight,), kept)(config))
    before = vars(config).copy()
    *_, estimate = look_ahead(host, config)
    assert vars(config) == before and not (tmp_path / "run").exists()
    return estimate


def changes_of(estimate):
    return [dict(made.changes) for made in estimate.proposals]


SMALLER = {"batch_size": 2, "gradient_accumulation_steps": 2}


def test_what_makes_whole_batches_fit_is_tried_and_told_the_fastest_first(tmp_path):
    estimate = look(tmp_path)
    assert any("Out of memory: batches are cut to 2" in note for note in estimate.notes)
    assert changes_of(estimate) == [{"gradient_checkpointing": True}, SMALLER]
    faster, smaller = estimate.proposals
    assert faster.seconds_per_step < smaller.seconds_per_step == estimate.seconds_per_step
    told = faster.tell()
    assert told.startswith("With gradient_checkpointing: true whole batches fit (tried: ")
    assert "GB in use" in told and f"{estimate.seconds_per_step:.2f} s as it is" in told
    assert smaller.name() == "batch_size: 2, gradient_accumulation_steps: 2"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"room": 4}, []),
        ({"room_with": 2}, [SMALLER]),
        ({"slower": 5.0}, [SMALLER]),
        ({"gradient_checkpointing": True, "room_with": 2}, [SMALLER]),
    ],
    ids=["it fits", "it does not help", "it is slower than cutting", "it is on"],
)
def test_only_what_helps_is_proposed(tmp_path, options, wanted):
    assert changes_of(look(tmp_path, **options)) == wanted


def test_where_not_one_example_fits_the_refusal_says_what_was_tried(tmp_path):
    with pytest.raises(NoRoom, match="does not hold one example. Switch .* With gradient_checkpointing: true whole batches fit") as refused:
        look(tmp_path, room=0.5)
    assert "as it is" not in str(refused.value) and [dict(p.changes) for p in refused.value.proposals] == [{"gradient_checkpointing": True}]
    with pytest.raises(NoRoom, match=r"or lower the resolution or the rank\.$"):
        look(tmp_path, room=0.5, room_with=0.5)


def test_what_makes_one_example_fit_has_the_batch_that_fits_too(tmp_path):
    with pytest.raises(NoRoom) as refused:
        look(tmp_path, room=0.5, room_with=1)
    (made,) = refused.value.proposals
    assert made.changes == {"gradient_checkpointing": True, "batch_size": 1, "gradient_accumulation_steps": 4}


@pytest.mark.parametrize(("size", "largest", "wanted"), [(4, 2, 2), (6, 3, 3), (6, 4, 3), (5, 2, 1), (4, 4, None), (8, 1, 1)])
def test_a_smaller_batch_divides_what_a_step_learns_from(tmp_path, size, largest, wanted):
    changes = change_batch(toy_config(tmp_path, batch_size=size, gradient_accumulation_steps=3), largest)
    assert changes == ({} if wanted is None else {"batch_size": wanted, "gradient_accumulation_steps": 3 * size // wanted})


# -- what needs the model or the data anew -------------------------------------------------------------------------------


@dataclass
class PackedConfig(RunConfig):
    OF_THE_MODEL = ("mixed_precision", "bits")
    bits: int = option(16, "Of a weight.")
    size: int = option(512, "Of an example.")

    def save_memory(self):
        return [*super().save_memory(), {"bits": 8}, {"bits": 4}, {"size": 256}]


class Packed(ToyTrainee):
    """A card of ``room``: the model takes as many as it has bits, an example as many as it has pixels; checkpointing saves half."""

    room = 0
    loaded: list = []

    def __init__(self, config):
        super().__init__(config)
        self.loaded.append((config.bits, config.size))
        self.bits, self.size = config.bits, config.size

    def loss(self, batch, draws):
        example = self.size / (2 if self.config.gradient_checkpointing else 1)
        self.memory_limit = (self.room - self.bits) / example + 1e-9
        return super().loss(batch, draws)


class Keeps(ToyHost):
    """Has its model loaded whatever a run asks for."""

    def unload(self, config): ...

    def load_again(self, config): ...


def refuse(tmp_path, host_class, room):
    kind = type("Kind", (Packed,), {"room": room, "loaded": []})
    values = {
        "output_dir": str(tmp_path / "run"),
        "lora_rank": 2,
        "batch_size": 2,
        "max_steps": 3,
        "tensorboard": False,
        "optimizer": "Lion",
    }
    host = host_class(kind)
    with pytest.raises(NoRoom) as refused:
        list(look_ahead(host, build(PackedConfig, values)))
    return [dict(made.changes) for made in refused.value.proposals], kind.loaded


@pytest.mark.parametrize(
    ("room", "wanted", "loads"),
    [
        (16 + 256, {"gradient_checkpointing": True, "batch_size": 1, "gradient_accumulation_steps": 2}, 1),
        (8 + 256, {"gradient_checkpointing": True, "bits": 8, "batch_size": 1, "gradient_accumulation_steps": 2}, 2),
        (4 + 256, {"gradient_checkpointing": True, "bits": 4, "batch_size": 1, "gradient_accumulation_steps": 2}, 3),
        (4 + 128, {"gradient_checkpointing": True, "bits": 4, "size": 256, "batch_size": 1, "gradient_accumulation_steps": 2}, 4),
        (4 + 127, None, 4),
    ],
)
def test_what_costs_least_is_tried_first_and_each_really(tmp_path, room, wanted, loads):
    found, loaded = refuse(tmp_path, ToyHost, room)
    assert found == ([wanted] if wanted else []) and len(loaded) == loads


def test_a_host_that_keeps_its_model_is_not_asked_for_another_one(tmp_path):
    found, loaded = refuse(tmp_path, Keeps, 16 + 128)
    assert found == [{"gradient_checkpointing": True, "size": 256, "batch_size": 1, "gradient_accumulation_steps": 2}]
    assert {bits for bits, _ in loaded} == {16}
    assert refuse(tmp_path, Keeps, 8 + 128) == ([], loaded)


def test_a_model_that_cannot_even_be_loaded_is_no_proposal(tmp_path):
    tried = []

    def run_out(self, config):
        if tried:
            raise RuntimeError("CUDA out of memory (pretended)")
        tried.append(config)
        return ToyHost.borrow(self, config)

    host_class = type("Full", (ToyHost,), {"borrow": run_out})
    assert refuse(tmp_path, host_class, 4 + 128)[0] == []


def test_the_first_model_is_let_go_of_before_another_is_loaded(tmp_path):
    alive = weakref.WeakSet()

    class Counted(Packed):
        room, loaded = 4 + 128, []

        def __init__(self, config):
            gc.collect()
            assert not alive
            super().__init__(config)
            alive.add(self.net)

    class Lets(ToyHost):
        def borrow(self, config):
            return self.make(config)

    values = {"output_dir": str(tmp_path / "run"), "lora_rank": 2, "max_steps": 3, "tensorboard": False, "optimizer": "Lion"}
    with pytest.raises(NoRoom, match="With gradient_checkpointing: true, bits: 4, size: 256 whole batches fit"):
        list(look_ahead(Lets(Counted), build(PackedConfig, values)))
    assert len(Counted.loaded) == 4
