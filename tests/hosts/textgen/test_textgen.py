"""text-generation-webui's host over a stand-in of that program: turns, what is left behind, who waits for what."""

import gc
import json
import threading
import time
import weakref

import pytest
import torch
from hotlora.engine.errors import ModelAway, UserError
from hotlora.engine.events import Paused
from hotlora.engine.grid import read_grid
from hotlora.engine.history import History
from hotlora.engine.jobs import Jobs
from hotlora.hosts.textgen.adapters import AppliedAdapters
from hotlora.hosts.textgen.host import TextgenHost, explain_absence
from hotlora.hosts.textgen.live import LiveAnswers
from hotlora.hosts.textgen.lock import WatchedLock, watch_lock
from hotlora.llm.config import TextConfig
from safetensors.torch import load_file
from textgen_program import install
from waiting import wait_until

PAIRS = [
    ("Who keeps the lamp?", "The ferryman's youngest daughter."),
    ("What does a duskcrab eat?", "Moon moss."),
    ("Where?", "Quillmere."),
]


@pytest.fixture
def program(monkeypatch, tmp_path):
    return install(monkeypatch, tmp_path / "für Zoë")


@pytest.fixture
def studio(program, tmp_path):
    """(jobs, live)"""
    live = LiveAnswers(lambda: jobs.current.control.newest if jobs.current else None)
    jobs = Jobs(lambda: TextgenHost(live), tmp_path / "runs", TextConfig, on_end=lambda job: live.end())
    yield jobs, live
    for job in list(jobs._line):
        job.control.stop()
    wait_until(lambda: not jobs._line)


@pytest.fixture
def start(studio, tmp_path):
    jobs, _ = studio
    data = tmp_path / "facts.jsonl"
    data.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in PAIRS), encoding="utf-8")

    def start(name="facts", **options):
        values = {"train_data_dir": str(data), "output_name": name, "lora_rank": 2, "batch_size": 2, "learning_rate": 1e-2, "epochs": 1}
        values |= {"slice_seconds": 0.05, "test_answers": 0, "tensorboard": False, "save_precision": "fp32", "sample_max_tokens": 4}
        return jobs.start({**values, "max_steps": 6, **options})

    return start


def status_is(jobs, name, wanted):
    return lambda: jobs.status(name) == wanted


def log_of(jobs, name):
    return [text for _, text in jobs.history(name).log]


def test_a_run_leaves_nothing_behind_and_the_next_one_can_follow(program, studio, start):
    jobs, _ = studio
    before, logits = program.traces(), program.logits()
    for name in ("one", "two"):
        start(name)
        wait_until(status_is(jobs, name, "done"))
        assert program.traces() == before
        assert torch.equal(program.logits(), logits)
    assert not program.shared.model_dirty_from_training
    assert {path.name for path in (program.folder / "loras").iterdir()} == {"one", "two"}


def test_answers_while_it_trains_are_those_of_before(program, studio, start):
    jobs, _ = studio
    before, turn_seconds = program.answer(), 60.0
    start(max_steps=100_000, slice_seconds=turn_seconds)
    wait_until(lambda: jobs.history("facts").step > 2)
    for _ in range(3):
        step = jobs.history("facts").step
        began = time.monotonic()
        assert program.answer() == before
        assert time.monotonic() - began < turn_seconds  # a turn ends when somebody waits
        wait_until(lambda at=step: jobs.history("facts").step > at)
    jobs.stop("facts")
    wait_until(status_is(jobs, "facts", "stopped"))
    assert program.answer() == before


def test_live_answers_are_those_of_the_file_saved_at_that_step(program, studio, start, tmp_path):
    jobs, live = studio
    clean, attributes = program.answer(), program.traces()["attributes"]
    live.wanted = True
    start(max_steps=100_000, learning_rate=0.05)
    wait_until(lambda: jobs.history("facts").step > 20)
    jobs.control("facts").pause()
    wait_until(lambda: isinstance(jobs.history("facts").latest, Paused))
    answered = program.answer()
    assert answered != clean
    live.wanted = False
    assert program.answer() == clean
    live.wanted = True
    newest = jobs.current.control.newest
    newest.write(tmp_path / "newest")
    jobs.stop("facts")
    wait_until(status_is(jobs, "facts", "stopped"))
    assert program.answer() == clean and program.traces()["attributes"] == attributes
    from peft import PeftModel

    loaded = PeftModel.from_pretrained(program.shared.model, str(tmp_path / "newest"))
    ids = torch.tensor([[5, 6, 7, 8]])
    assert loaded.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False).tolist() == answered


def test_an_unloaded_model_pauses_the_run_until_it_is_back(program, studio, start):
    jobs, _ = studio
    start(max_steps=100_000)
    wait_until(lambda: jobs.history("facts").step > 2)
    program.unload()
    wait_until(status_is(jobs, "facts", "paused"))
    assert "Load small in the Model tab" in log_of(jobs, "facts")[-1]
    program.load("other", seed=1)
    time.sleep(1.5)
    assert jobs.status("facts") == "paused"
    step = jobs.history("facts").step
    program.load("small")
    wait_until(lambda: jobs.history("facts").step > step)


def test_a_freed_run_has_the_model_unloaded_and_loaded_again_and_equals_one_that_was_not(program, studio, start):
    jobs, live = studio
    start("whole", max_steps=40)
    wait_until(status_is(jobs, "whole", "done"))

    def load_model(name, loader):
        program.load(name)
        return program.shared.model, program.shared.tokenizer

    program.models.unload_model, program.models.load_model = program.unload, load_model
    live.wanted, net = True, weakref.ref(program.shared.model)
    start(max_steps=40)
    wait_until(lambda: jobs.history("facts").step > 2)
    jobs.control("facts").pause(free=True)
    wait_until(lambda: getattr(jobs.history("facts").latest, "freed", False))
    assert program.shared.model is None and jobs.history("facts").step < 40
    gc.collect()
    assert net() is None
    jobs.control("facts").go_on()
    wait_until(status_is(jobs, "facts", "done"))
    assert program.shared.model_name == "small"
    one, other = (load_file(jobs.folder / name / name / "adapter_model.safetensors") for name in ("whole", "facts"))
    assert one and all(torch.equal(one[key], other[key]) for key in one)


def test_an_applied_adapter_pauses_the_run_until_it_is_taken_off(program, studio, start):
    jobs, _ = studio
    start("first")
    wait_until(status_is(jobs, "first", "done"))
    shelf = AppliedAdapters()
    start(max_steps=100_000)
    wait_until(lambda: jobs.history("facts").step > 2)
    shelf.apply({"first": 1.0})
    wait_until(status_is(jobs, "facts", "paused"))
    assert "while first is applied" in log_of(jobs, "facts")[-1]
    step = jobs.history("facts").step
    shelf.apply({})
    wait_until(lambda: jobs.history("facts").step > step)


def test_what_the_program_applies_in_the_middle_of_a_turn_waits_for_its_end(program, studio, start):
    jobs, _ = studio
    start("first", learning_rate=0.05)
    wait_until(status_is(jobs, "first", "done"))
    program.lora.add_lora_transformers(["first"])
    wanted = program.logits()
    program.lora.add_lora_transformers([])
    AppliedAdapters().apply({})
    start(max_steps=100_000, slice_seconds=3.0)
    wait_until(lambda: jobs.history("facts").step > 2)
    program.lora.add_lora_transformers(["first"])
    assert torch.equal(program.logits(), wanted)
    wait_until(status_is(jobs, "facts", "paused"))
    step = jobs.history("facts").step
    program.lora.add_lora_transformers([])
    wait_until(lambda: jobs.history("facts").step > step)


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("Llama-3-8B-Q4_K_M.gguf", "Llama-3-8B", "The same model is here as 'Llama-3-8B'"),
        ("Mistral_7B_v0.1-exl3", "mistral-7b-v0.1", "The same model is here as 'mistral-7b-v0.1'"),
        ("Llama-3-8B-Q4_K_M.gguf", "Llama-3-70B", "with config.json"),
    ],
)
def test_a_loader_that_only_answers_is_said_with_what_to_load_instead(program, name, folder, said):
    (program.folder / "models" / folder).mkdir()
    (program.folder / "models" / folder / "config.json").write_text("{}")
    program.shared.model, program.shared.model_name, program.shared.args.loader = object(), name, "llama.cpp"
    sentence = explain_absence()
    assert sentence.startswith("cannot train with the llama.cpp loader") and said in sentence
    with pytest.raises(ModelAway):
        TextgenHost().borrow(TextConfig())


def test_a_model_that_the_training_tab_has_changed_is_refused(program):
    program.shared.model_dirty_from_training = True
    assert "Load it again" in explain_absence()


def test_a_model_that_is_not_all_there_is_refused(program):
    program.shared.model.model.layers[1].to("meta")
    assert "offloaded" in explain_absence()


def test_what_another_extension_keeps_hooked_in_is_off_for_the_turn(program):
    host, layer = TextgenHost(), program.shared.model.lm_head
    host.borrow(TextConfig())
    logits = program.logits()
    plain = layer.forward
    hooked = layer.forward = lambda x: plain(x) * 2
    with host.turn():
        assert torch.equal(program.logits(), logits)
    assert layer.forward is hooked and torch.equal(program.logits(), 2 * logits)


def test_weights_that_another_extension_has_changed_are_refused_by_its_name(program):
    class Halving(torch.nn.Module):
        def forward(self, weight):
            return weight / 2

    torch.nn.utils.parametrize.register_parametrization(program.shared.model.model.layers[0].mlp.up_proj, "weight", Halving())
    assert f"the Python module {__name__} has changed its weights" in explain_absence()


def test_the_watched_lock_is_the_lock(program):
    inner = program.shared.generation_lock
    inner.acquire()
    lock = watch_lock()
    assert isinstance(lock, WatchedLock) and watch_lock() is lock and lock.locked()
    waiter = threading.Thread(target=program.answer)
    waiter.start()
    wait_until(lambda: lock.waiting == 1)
    inner.release()
    waiter.join(10)
    assert lock.waiting == 0 and not inner.locked()


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(program, studio, start):
    """Two trained adapters of different ranks."""
    jobs, _ = studio
    start("legal", lora_rank=2, lora_alpha=4, learning_rate=0.05)
    start("formal", lora_rank=4, target_modules="attention", seed=7, learning_rate=0.05)
    wait_until(status_is(jobs, "formal", "done"))


def by_hand(program, weights):
    """The logits of a copy whose weights are changed by scale * B A of each adapter."""
    import copy

    from hotlora.llm.peft_reading import read_peft_folder

    net = copy.deepcopy(program.shared.model)
    for name, weight in weights.items():
        file = read_peft_folder(program.folder / "loras" / name)
        for path, parts in file.tensors.items():
            layer = net.get_submodule(path)
            layer.weight.data += weight * file.alpha / file.rank * (parts["lora_B"] @ parts["lora_A"])
    with torch.no_grad():
        return net(input_ids=torch.arange(3, 23)[None]).logits


def test_several_adapters_add_up_each_with_its_weight(program, two):
    before, logits, shelf = program.traces(), program.logits(), AppliedAdapters()
    assert shelf.names() == ["formal", "legal"]
    for weights in ({"legal": 0.8, "formal": 0.5}, {"legal": 0.2, "formal": 1.5}, {"formal": 1.0}, {"legal": 1.0}):
        wanted = by_hand_of_clean(program, shelf, weights)
        assert shelf.apply(weights) == ""
        assert shelf.applied() == weights and program.shared.lora_names == list(weights)
        torch.testing.assert_close(program.logits(), wanted, atol=2e-4, rtol=1e-3)
    shelf.apply({})
    assert torch.equal(program.logits(), logits) and program.traces() == before


def by_hand_of_clean(program, shelf, weights):
    shelf.apply({})
    return by_hand(program, weights)


def test_an_adapter_of_another_model_is_refused_and_leaves_no_trace(program, two):
    from small_llama import make_llama

    program.shared.model = make_llama(3, vocabulary=len(program.shared.tokenizer), head_dim=16)
    before, shelf = program.traces(), AppliedAdapters()
    with pytest.raises(UserError, match="does not fit the loaded model"):
        shelf.apply({"legal": 1.0})
    assert program.traces() == before and shelf.applied() == {}
    with pytest.raises(UserError, match="no such adapter"):
        shelf.apply({"../secret": 1.0})


def test_an_adapter_of_the_same_shape_but_other_weights_is_told(program, two):
    program.load("small", seed=9)
    assert "trained on another model" in AppliedAdapters().apply({"legal": 1.0})


def test_what_the_program_itself_has_applied_is_taken_off_too(program, two):
    from peft import PeftModel

    logits = program.logits()
    program.shared.model = PeftModel.from_pretrained(program.shared.model, str(program.folder / "loras" / "legal"), adapter_name="legal")
    program.shared.lora_names = ["legal"]
    assert "legal is applied" in explain_absence()
    AppliedAdapters().apply({})
    assert torch.equal(program.logits(), logits) and explain_absence() is None


def test_history_is_read_without_the_program(studio, start):
    jobs, _ = studio
    start()
    wait_until(status_is(jobs, "facts", "done"))
    assert isinstance(jobs.history("facts"), History) and jobs.history("facts").step == 6


def test_a_grid_is_answered_between_other_answers_and_a_checkpoint_is_put_on_the_model(program, studio, start):
    jobs, _ = studio
    start(save_steps=3, learning_rate=0.05, use_rslora=True)
    wait_until(status_is(jobs, "facts", "done"))
    before, clean = program.traces(), program.answer()
    assert jobs.draw("facts", {"prompts": ["Who keeps the lamp?"], "questions": 2}) == 9
    wait_until(lambda: not jobs.list_line())
    grid = read_grid(jobs.find_folder("facts"))
    assert grid.count()[0] == grid.count()[1] and grid.cells[-1][0].wanted
    assert program.traces() == before and program.answer() == clean
    shelf, cell = AppliedAdapters(), grid.cells[0][0]
    assert cell.adapter in shelf.names() and shelf.apply({cell.adapter: cell.weight}) == ""
    tokenizer = program.shared.tokenizer
    asked = [{"role": "user", "content": cell.prompt}]
    text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    rows = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        said = program.shared.model.generate(
            input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=4, do_sample=False, pad_token_id=2
        )
    new = tokenizer.decode(said[0, rows.shape[1] :], skip_special_tokens=True).strip()
    assert grid.paths()[cell.name].read_text(encoding="utf-8") == new
    shelf.apply({})
