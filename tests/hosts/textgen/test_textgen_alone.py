"""What reads text-generation-webui's model without its lock, while a run trains: the page, log-probabilities, perplexity."""

import threading

import pytest
import torch
from hotlora.engine.control import Newest
from hotlora.hosts.textgen import host as textgen_host
from hotlora.hosts.textgen.adapters import AppliedAdapters
from hotlora.hosts.textgen.alone import alone_with
from hotlora.hosts.textgen.host import TextgenHost, explain_now, explain_wait
from hotlora.hosts.textgen.live import LiveAnswers
from hotlora.hosts.textgen.lock import watch_lock
from hotlora.llm.config import TextConfig
from peft import LoraConfig, get_peft_model
from textgen_program import install
from torch import nn
from waiting import wait_until


@pytest.fixture
def program(monkeypatch, tmp_path):
    textgen_host._seen.clear()
    return install(monkeypatch, tmp_path / "für Zoë")


@pytest.fixture
def host(program):
    made = TextgenHost()
    made.borrow(TextConfig())
    return made


class Doubled(nn.Module):
    """An adapter, for whoever looks at it."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer

    def forward(self, x):
        return self.base_layer(x) * 2


def put_in(net):
    net.lm_head = Doubled(net.lm_head)


def take_out(net):
    net.lm_head = net.lm_head.base_layer


def in_thread(work):
    done = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    return thread, done


# -- calls of the model that take no lock -------------------------------------------------------------------------------


def test_a_call_in_the_middle_of_a_turn_waits_for_the_clean_model_and_ends_the_turn(program, host):
    net, clean, before = program.shared.model, program.logits(), program.traces()
    with host.turn():
        put_in(net)
        callers = [in_thread(program.logits) for _ in range(3)]
        wait_until(host.wanted)
        wait_until(lambda: len(host._waiting) == 3)
        assert torch.equal(program.logits(), 2 * clean)  # the run's own
        take_out(net)
    for thread, done in callers:
        thread.join(30)
        assert torch.equal(done[0], clean)
    assert program.traces() == before


def test_a_turn_waits_for_a_call_that_is_under_way(program, host):
    net, clean = program.shared.model, program.logits()
    inside, go_on = threading.Event(), threading.Event()

    def stop_here(module, arguments):
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(30)

    middle = net.model.layers[0]
    middle.register_forward_pre_hook(stop_here)
    caller, done = in_thread(program.logits)
    inside.wait(30)

    def turn():
        with host.turn():
            put_in(net)
            take_out(net)

    turner, _ = in_thread(turn)
    turner.join(0.3)
    assert turner.is_alive()
    go_on.set()
    caller.join(30)
    turner.join(30)
    assert not turner.is_alive() and torch.equal(done[0], clean)


def test_those_who_waited_are_let_through_before_the_next_turn(program, host):
    clean, net = program.logits(), program.shared.model
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(torch.equal(program.logits(), clean))

    asker, _ = in_thread(ask)
    for _ in range(20):
        with host.turn():
            put_in(net)
            net(input_ids=torch.arange(3, 23)[None])
            take_out(net)
    stop.set()
    asker.join(30)
    assert not asker.is_alive() and answers and all(answers)


def test_a_call_that_fails_lets_go_of_the_next_turn(program, host):
    with pytest.raises(IndexError):
        program.shared.model(input_ids=torch.tensor([[10**6]]))
    with host.turn():
        pass


def test_an_answer_with_the_run_in_training_is_alone_too(program):
    net, clean = program.shared.model, program.logits()
    entered, go_on = threading.Event(), threading.Event()

    class Attached:
        def __enter__(self):
            put_in(net)
            entered.set()
            go_on.wait(30)

        def __exit__(self, *error):
            take_out(net)

    newest = Newest(lambda: 1, lambda path: path, Attached)
    live = LiveAnswers(lambda: newest)
    live.wanted = True
    with watch_lock(), live.put_aside(net):
        pass
    answer, _ = in_thread(program.answer)
    entered.wait(30)
    caller, done = in_thread(program.logits)
    caller.join(0.2)
    assert caller.is_alive()
    go_on.set()
    answer.join(30)
    caller.join(30)
    live.end()
    assert torch.equal(done[0], clean)


def test_nothing_stays_on_the_model_where_the_turn_fails(program):
    before = program.traces()
    with pytest.raises(ZeroDivisionError), alone_with(program.shared.model):
        1 / 0  # noqa: B018
    assert program.traces() == before


# -- what the page says -------------------------------------------------------------------------------------------------


def test_the_page_takes_the_runs_own_adapter_for_nobody_elses(program, host):
    assert explain_now() is None
    with host.turn():
        put_in(program.shared.model)
        thread, said = in_thread(explain_now)
        thread.join(30)
        assert said == [None] and not host.wanted()
        take_out(program.shared.model)


def test_the_page_sees_what_others_leave_in_the_model(program):
    net = program.shared.model
    adapted = get_peft_model(net, LoraConfig(r=2, target_modules=["lm_head"]))
    assert "while an adapter is applied" in explain_now()
    with watch_lock():
        assert "while an adapter is applied" in explain_now()  # as it was seen
        adapted.unload()
    assert explain_now() is None


def test_a_page_that_looks_at_a_new_model_in_use_has_no_old_answer(program):
    program.shared.model.model.layers[1].to("meta")
    assert "offloaded" in explain_now()
    program.load("other", seed=1)
    with watch_lock():
        assert explain_now() is None


def test_an_adapter_in_use_is_no_fault_but_a_run_waits(program, tmp_path):
    adapted = get_peft_model(program.shared.model, LoraConfig(r=2, target_modules=["lm_head"]))
    adapted.save_pretrained(program.folder / "loras" / "legal")
    program.shared.model = adapted.unload()
    assert explain_wait() == ""
    shelf = AppliedAdapters()
    shelf.apply({"legal": 1.0})
    assert explain_now(applied=False) is None
    assert explain_wait() == "Answers come with legal now. A run waits until that is taken off."
    assert "while legal is applied" in explain_now()
    shelf.apply({})
    assert explain_now() is None and explain_wait() == ""
