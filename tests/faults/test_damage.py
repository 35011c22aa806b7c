"""Files that were damaged in whatever way between two starts: what can be gone on from is gone on from, the rest is said."""

import json
import os
import random
import shutil

import pytest
import torch
import yaml
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Warned, read_events
from hotlora.engine.history import History
from hotlora.engine.job import Job
from hotlora.engine.recipe import read_options
from hotlora.engine.run import Run
from hotlora.engine.sealed import read_sealed, write_sealed
from safetensors.torch import load_file
from tally import counting, scaled
from toy import ToyConfig, ToyHost, run_toy, toy_config
from worlds import SafeToy, check_no_leftovers

STATES = {  # kinds of runs, whose states hold different things
    "plain": {},
    "averaged and judged": {"ema_decay": 0.9, "validation_every_steps": 2},
    "prodigy": {"optimizer": "Prodigy", "learning_rate": 1.0},
    "schedule-free": {"optimizer": "AdamWScheduleFree"},
}
TEXTS = (
    b"",
    b"\0" * 4000,
    b"<html>not found</html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    b"PK\x03\x04",
    b"\x80\x02}q\x00.",
)


def options(folder, kind):
    return toy_config(folder, output_name="x", save_steps=2, epochs=2, **STATES[kind])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """kind -> (the folder of a whole run, that of one killed at step 7)."""
    made = {}
    for number, kind in enumerate(STATES):
        root = tmp_path_factory.mktemp(f"kind{number}")
        run_toy(options(root / "whole", kind), host=ToyHost(SafeToy))
        run_toy(options(root / "cut", kind), host=ToyHost(SafeToy), steps=7)
        made[kind] = root / "whole", root / "cut"
    return made


# -- ways to damage ----------------------------------------------------------------------------------------------------


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def flip(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def flip_many(data, rng):
    for _ in range(rng.randrange(2, 200)):
        data = flip(data, rng)
    return data


def zero_a_block(data, rng):
    start = rng.randrange(len(data)) & ~511
    return data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :]


def flip_the_head(data, rng):
    return flip(data[:300], rng) + data[300:]


def flip_the_end(data, rng):
    return data[:-300] + flip(data[-300:], rng)


def add(data, rng):
    return data + rng.randbytes(rng.randrange(1, 100))


def put_text(data, rng):
    return rng.choice(TEXTS)


def noise(data, rng):
    return rng.randbytes(len(data))


SEAL = 47  # bytes at the end of a state
RAW = (cut, flip, flip_many, zero_a_block, flip_the_head, flip_the_end, add, put_text, noise)


def leaves(state, path=()):
    """(path, value) of everything in it."""
    for key, value in state.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def inside(state, path):
    for key in path[:-1]:
        state = state[key]
    return state


def drop(state, rng):
    path, _ = rng.choice(list(leaves(state)))
    del inside(state, path)[path[-1]]


def put_nothing(state, rng):
    path, _ = rng.choice(list(leaves(state)))
    inside(state, path)[path[-1]] = rng.choice([None, "x", -1, [], {}, float("nan"), torch.zeros(3)])


def spoil_tensor(state, rng):
    path, tensor = rng.choice([leaf for leaf in leaves(state) if isinstance(leaf[1], torch.Tensor)])
    new = {
        "nan": lambda: torch.full_like(tensor.float(), float("nan")),
        "infinity": lambda: torch.full_like(tensor.float(), float("inf")),
        "whole numbers": lambda: tensor.to(torch.int32),
        "complex": lambda: tensor.to(torch.complex64),
        "another shape": lambda: torch.zeros(*tensor.shape, 2),
        "none of it": lambda: torch.zeros(0),
    }
    inside(state, path)[path[-1]] = rng.choice(list(new.values()))()


def rename(state, rng):
    path, value = rng.choice(list(leaves(state)))
    del inside(state, path)[path[-1]]
    inside(state, path)["other"] = value


INSIDE = (drop, put_nothing, spoil_tensor, rename)


# -- states ------------------------------------------------------------------------------------------------------------


def go_on(folder, kind):
    config = options(folder, kind)
    outcome = Job(ToyHost(SafeToy), config, Run.reopen(config)).work()
    return outcome


def check_ends_as(folder, whole):
    first, second = load_file(folder / "x.safetensors"), load_file(whole / "x.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in second), "other numbers"
    steps = [[(s.step, s.loss) for s in History(read_events(f / "events.jsonl")).steps] for f in (folder, whole)]
    assert steps[0] == steps[1], "other steps"
    check_no_leftovers(folder)


def said(folder):
    return " ".join(e.message for e in read_events(folder / "events.jsonl") if isinstance(e, Warned))


def test_damaged_states(runs, tmp_path):
    rng = random.Random(3)
    with counting("saved states damaged from outside", "the one before is taken, said, and comes to the same end") as tally:
        for number in range(scaled(27, 450)):
            kind, damage = rng.choice(list(STATES)), RAW[number % len(RAW)]
            whole, killed = runs[kind]
            folder = shutil.copytree(killed, tmp_path / str(number))
            newest = max((folder / "state").iterdir())
            data = newest.read_bytes()
            damaged = damage(data, rng)
            newest.write_bytes(damaged)
            with tally.trial(f"{number} {kind}, {damage.__name__}"):
                outcome = go_on(folder, kind)
                assert isinstance(outcome, Finished), outcome.message
                check_ends_as(folder, whole)
                whole_still = damaged[: len(data) - SEAL] == data[:-SEAL]  # without its seal, as before there were seals
                assert whole_still or f"{newest.name} is damaged" in said(folder), "not said"
            shutil.rmtree(folder)


def test_states_that_hold_something_else(runs, tmp_path):
    rng = random.Random(4)
    holds = "it goes on from this one or the one before, or says why not; never a bug, and no number that is none"
    with counting("saved states whose checksum fits and whose content does not", holds) as tally:
        for number in range(scaled(16, 300)):
            kind, damage = rng.choice(list(STATES)), INSIDE[number % len(INSIDE)]
            folder = shutil.copytree(runs[kind][1], tmp_path / str(number))
            newest = max((folder / "state").iterdir())
            state = read_sealed(newest)
            damage(state, rng)
            write_sealed(newest, state)
            with tally.trial(f"{number} {kind}, {damage.__name__}"):
                outcome = go_on(folder, kind)
                assert not getattr(outcome, "bug", False), outcome.message
                for path in folder.rglob("*.safetensors"):
                    assert all(torch.isfinite(t).all() for t in load_file(path).values())
            shutil.rmtree(folder)


def test_no_state_is_left(runs, tmp_path):
    rng = random.Random(5)
    with counting("runs none of whose states can be read", "a sentence that says what to do; the finished files stay") as tally:
        for number in range(scaled(4, 60)):
            kind = rng.choice(list(STATES))
            folder = shutil.copytree(runs[kind][rng.randrange(2)], tmp_path / str(number))
            for path in (folder / "state").iterdir():
                data = path.read_bytes()
                path.write_bytes(rng.choice(RAW)(data[:-SEAL], rng) + data[-SEAL:])
            kept = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
            with tally.trial(f"{number} {kind}"):
                outcome = go_on(folder, kind)
                assert not getattr(outcome, "bug", True) and "none of its saved states can be read" in outcome.message, outcome
                assert all(path.read_bytes() == data for path, data in kept.items())


def test_states_that_were_swapped(runs, tmp_path):
    with counting("saved states in each other's place, or another run's", "it goes on from where that state is, or says why not") as tally:
        for number, (kind, (whole, killed)) in enumerate(runs.items()):
            folder = shutil.copytree(killed, tmp_path / str(number))
            first, second = sorted((folder / "state").iterdir())
            data = first.read_bytes(), second.read_bytes()
            first.write_bytes(data[1])
            second.write_bytes(data[0])
            with tally.trial(f"{kind}, in each other's place"):
                outcome = go_on(folder, kind)
                assert isinstance(outcome, Finished), outcome.message
                check_ends_as(folder, whole)
            for other, (_, stranger) in runs.items():
                folder = shutil.copytree(killed, tmp_path / f"{number} {list(runs).index(other)}")
                newest = max((folder / "state").iterdir())
                newest.write_bytes(max((stranger / "state").iterdir()).read_bytes())
                with tally.trial(f"{kind}, that of {other}"):
                    assert not getattr(go_on(folder, kind), "bug", False)


# -- what lies beside --------------------------------------------------------------------------------------------------


def test_damaged_events(runs, tmp_path):
    rng = random.Random(6)
    ways = (cut, flip, flip_many, zero_a_block, add, put_text, noise)
    with counting("damaged event files", "they cost only their own lines; the run comes to the same numbers") as tally:
        for number in range(scaled(14, 210)):
            whole, killed = runs["plain"]
            folder = shutil.copytree(killed, tmp_path / str(number))
            events = folder / "events.jsonl"
            events.write_bytes(ways[number % len(ways)](events.read_bytes(), rng))
            with tally.trial(f"{number} {ways[number % len(ways)].__name__}"):
                History(is_outline=True).read_on(events)
                outcome = go_on(folder, "plain")
                assert isinstance(outcome, Finished), outcome.message
                first, second = load_file(folder / "x.safetensors"), load_file(whole / "x.safetensors")
                assert all(torch.equal(first[key], second[key]) for key in second)
                History().read_on(events)
                outline = History(is_outline=True).read_on(events)
                assert outline.outcome == outcome
            shutil.rmtree(folder)


def test_damaged_options(runs, tmp_path):
    rng = random.Random(7)
    with counting("damaged config.yaml files", "a sentence, or options that can be used") as tally:
        for number in range(scaled(40, 600)):
            folder = tmp_path / str(number)
            folder.mkdir()
            text = yaml.safe_dump(
                {"output_name": "x", "save_steps": 2, "lora_rank": 2, "sample_prompts": ["a b", "c"], "output_dir": str(folder)}
            )
            damage = rng.choice(RAW)
            (folder / "config.yaml").write_bytes(damage(text.encode(), rng))
            with tally.trial(f"{number} {damage.__name__}"):
                try:
                    read_options({"toy": ToyConfig}, resume=folder)
                except UserError as error:
                    assert str(error).startswith("cannot"), error


def test_damaged_caches(tmp_path):
    from hotlora.pictures.index import PictureIndex
    from pictures import make_pictures

    rng = random.Random(8)
    data = make_pictures(tmp_path / "data", 3)
    paths = sorted(data.glob("*.png"))
    for path in paths:
        os.utime(path, (1e9, 1e9))
    index = PictureIndex(tmp_path)
    wanted = [found for _, found in index.inspect(paths)]
    good = (tmp_path / "index.json").read_text(encoding="utf-8")
    values = (None, 1, "x", [], [1], {}, [1, 2, 3, 4, 5], [None] * 5, {"a": 1}, float("nan"))
    with counting("damaged indexes of picture files", "they only save time: the same pictures are found") as tally:
        for number in range(scaled(30, 400)):
            if number % 2:
                content = json.loads(good)
                name = rng.choice(list(content["pictures"]))
                entry = content["pictures"][name]
                if rng.random() < 0.5:
                    entry[rng.randrange(len(entry))] = rng.choice(values)
                else:
                    content["pictures"][name] = rng.choice(values)
                text = json.dumps(rng.choice([content, content, content["pictures"], {"pictures": list(content["pictures"])}]))
                (tmp_path / "index.json").write_text(text, encoding="utf-8")
            else:
                (tmp_path / "index.json").write_bytes(rng.choice(RAW)(good.encode(), rng))
            with tally.trial(number):
                found = [found for _, found in PictureIndex(tmp_path).inspect(paths)]
                assert all(seen.size == (64, 64) for part in found for seen in part.values())
                assert number % 2 or [list(part) for part in found] == [list(part) for part in wanted]
