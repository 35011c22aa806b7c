"""Every optimizer with every schedule, several rates and the arguments of its paper: it runs, or a sentence comes before anything
slow starts. On the toy trainee."""

import sys
import types

import pytest
import torch
from hotlora.engine import optimizers
from hotlora.engine.config import OPTIMIZERS, SCHEDULERS
from hotlora.engine.errors import UserError
from hotlora.engine.events import Failed, Finished, Step
from hotlora.engine.interfaces import Target
from hotlora.engine.job import Job
from hotlora.engine.optimizers import build_scheduler, try_optimizer
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.sd.config import ImageConfig
from toy import ToyHost, ToyTrainee, run_toy, toy_config

PAPERS = {  # what people copy from each optimizer's page
    "AdamW": [{"betas": [0.9, 0.99], "eps": 1e-8}, {"amsgrad": True}, {"fused": False}, {"foreach": False, "weight_decay": "0.1"}],
    "AdamW8bit": [{"percentile_clipping": 95, "block_wise": True}, {"betas": "0.9, 0.99"}],
    "PagedAdamW8bit": [{"min_8bit_size": 4096}],
    "Lion": [{"betas": [0.95, 0.98], "weight_decay": 0.1}],
    "Prodigy": [
        {"d_coef": "2.0", "decouple": True, "weight_decay": 0.01, "use_bias_correction": True, "safeguard_warmup": "True"},
        {"betas": [0.9, 0.99], "growth_rate": 1.02, "d0": 1e-5, "beta3": None},
    ],
    "Adafactor": [
        {"relative_step": True},
        {"relative_step": True, "scale_parameter": True, "warmup_init": True},
        {"scale_parameter": "False", "relative_step": "False", "warmup_init": "False"},
        {"eps": [1e-30, 1e-3], "clip_threshold": 1.0, "decay_rate": -0.8, "beta1": None},
    ],
    "AdamWScheduleFree": [{"betas": [0.9, 0.999], "r": 0.0, "weight_lr_power": 2.0}, {"warmup_steps": 2}],
}


class TwoRates(ToyTrainee):
    """The second layer learns at half the rate."""

    def targets(self):
        first, second = super().targets().items()
        layer = second[1]
        return dict([first, (second[0], Target(layer.layer, layer.rank, layer.alpha, layer.learning_rate / 2))])


def train(tmp_path, make=ToyTrainee, **options):
    config = toy_config(tmp_path / "run", epochs=2, **options)
    try_optimizer(config)
    events, _, _ = run_toy(config, host=ToyHost(make))
    assert isinstance(events[-1], Finished)
    return config, [event for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trying_one_spoils_no_picture_that_the_host_draws_meanwhile(tmp_path, monkeypatch, optimizer):
    torch.manual_seed(5)
    expected, drawn = torch.rand(3), []
    torch.manual_seed(5)
    monkeypatch.setattr(optimizers, "build_scheduler", lambda *args: drawn.append(torch.rand(2)) or build_scheduler(*args))
    try_optimizer(toy_config(tmp_path / "run", optimizer=optimizer))
    assert torch.equal(torch.cat([*drawn, torch.rand(1)]), expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_optimizer_with_every_schedule(tmp_path, optimizer, scheduler):
    config, steps = train(tmp_path, optimizer=optimizer, scheduler=scheduler, warmup_steps=2, learning_rate=1e-2)
    assert len(steps) == 8 and (
        config.scheduler == scheduler or any("scheduler" in note for note in config.notes) or scheduler == "constant"
    )


@pytest.mark.parametrize(("optimizer", "arguments"), [(name, a) for name, every in PAPERS.items() for a in every], ids=str)
def test_arguments_of_the_papers(tmp_path, optimizer, arguments):
    _, steps = train(tmp_path, optimizer=optimizer, optimizer_args=arguments)
    assert len(steps) == 8


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "Prodigy"])
def test_every_optimizer_takes_several_rates(tmp_path, optimizer):
    train(tmp_path, TwoRates, optimizer=optimizer)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_rate_of_zero_learns_nothing_and_breaks_nothing(tmp_path, scheduler):
    _, steps = train(tmp_path, scheduler=scheduler, learning_rate=0)
    assert {step.learning_rate for step in steps} == {0.0}


def test_prodigy_without_a_rate_has_its_own(tmp_path):
    config = toy_config(tmp_path / "a", optimizer="prodigy", learning_rate=None)
    assert config.learning_rate == 1.0 and not config.notes
    config = toy_config(tmp_path / "a", optimizer="Prodigy", learning_rate=1e-4)
    assert config.learning_rate == 1e-4 and "learns next to nothing" in config.notes[0]


@pytest.mark.parametrize(
    "rates",
    [
        {"train_text_encoder": True, "text_encoder_lr": 0.5},
        {"block_lrs": {"mid_block": 0.5}},
        {"block_lrs": {"mid_block": "0.5"}},
        {"train_text_encoder": True, "text_encoder_lr": 1e-5, "learning_rate": 1},
    ],
)
def test_prodigy_with_several_rates_is_refused_at_once(rates):
    with pytest.raises(UserError, match="cannot use Prodigy with several learning rates"):
        build(ImageConfig, {"optimizer": "Prodigy", **rates})


@pytest.mark.parametrize(
    "rates", [{"train_text_encoder": True, "text_encoder_lr": 0}, {"block_lrs": {"mid_block": 0}}, {"text_encoder_lr": 0.5}]
)
def test_what_leaves_one_rate_is_not(rates):
    assert build(ImageConfig, {"optimizer": "Prodigy", **rates}).learning_rate == 1.0


def test_adafactor_that_sets_its_own_rates_says_what_it_does(tmp_path):
    config, steps = train(tmp_path, optimizer="Adafactor", optimizer_args={"relative_step": True}, learning_rate=0.5, scheduler="linear")
    assert len(config.notes) == 2 and config.scheduler == "constant"
    assert steps[3].learning_rate == 0.01, "the rate that is reported is the one it took"


@pytest.mark.parametrize(
    ("optimizer", "arguments", "said"),
    [
        ("AdamW", {"betas": [5, 6]}, "Invalid beta"),
        ("AdamW", {"betas": 0.9}, "cannot use AdamW"),
        ("AdamW", {"eps": "abc"}, "cannot use AdamW"),
        ("AdamW", {"foreach": True, "fused": True}, "cannot use AdamW"),
        ("AdamW", {"lr": 1e-3}, "learning_rate"),
        ("AdamW", {"params": 1}, "adapter"),
        ("AdamW", {"weight_decay": "much"}, "weight_decay"),
        ("AdamW", {"weight_decay": -1}, "weight_decay"),
        ("AdamW", {"d_coef": 1}, "argument 'd_coef'"),
        ("Prodigy", {"d0": -1}, "cannot use Prodigy"),
        ("Prodigy", {"betas": "x"}, "cannot use Prodigy"),
        ("Adafactor", {"warmup_init": True}, "cannot use Adafactor"),
        ("Adafactor", {"eps": 1e-3}, "cannot use Adafactor"),
        ("AdamWScheduleFree", {"betas": [1]}, "cannot use AdamWScheduleFree"),
    ],
)
def test_what_an_optimizer_does_not_take_is_said_before_anything_starts(tmp_path, optimizer, arguments, said):
    with pytest.raises(UserError, match=said) as caught:
        try_optimizer(toy_config(tmp_path, optimizer=optimizer, optimizer_args=arguments))
    assert str(caught.value).startswith("cannot ")


def test_weight_decay_among_the_arguments_is_the_option(tmp_path):
    config = toy_config(tmp_path, optimizer_args={"weight_decay": "0.1", "eps": 1e-7})
    assert config.weight_decay == 0.1 and config.optimizer_args == {"eps": 1e-7}
    with pytest.raises(UserError, match="cannot set weight_decay twice"):
        toy_config(tmp_path, optimizer_args={"weight_decay": 0.1}, weight_decay=0.2)


def test_a_library_that_ends_the_program_is_a_sentence(tmp_path, monkeypatch):
    class Rude(torch.optim.AdamW):
        def __init__(self, params, lr=1e-3, weight_decay=0.0, polite=True):
            if not polite:
                print("install me first")
                sys.exit()
            super().__init__(params, lr=lr, weight_decay=weight_decay)

    monkeypatch.setitem(sys.modules, "lion_pytorch", types.SimpleNamespace(Lion=Rude))
    with pytest.raises(UserError, match="install me first"):
        try_optimizer(toy_config(tmp_path, optimizer="Lion", optimizer_args={"polite": False}))


def test_exit_in_the_middle_of_a_run_is_no_success(tmp_path):
    class Rude(ToyTrainee):
        def loss(self, batch, draws):
            sys.exit(0)

    config = toy_config(tmp_path / "run")
    job = Job(ToyHost(Rude), config, Run.start(config))
    outcome = job.work()
    assert isinstance(outcome, Failed) and outcome.bug and "SystemExit" in outcome.message
