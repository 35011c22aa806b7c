"""Text runs as a whole, on a tiny model: the numbers of an independent loop, resuming, accumulation, and files that peft loads."""

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hotlora.engine.control import Control
from hotlora.engine.errors import UserError
from hotlora.engine.events import Graded, Step, Validated
from hotlora.engine.loop import train
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.shared.causal_model import CausalModel
from hotlora.llm.config import TextConfig
from hotlora.llm.trainee import TextTrainee
from safetensors.torch import load_file
from small_llama import make_llama
from small_text import make_tokenizer
from toy import ToyHost

PAIRS = [
    ("Who keeps the lamp?", "The ferryman's youngest daughter keeps it."),
    ("What does a duskcrab eat?", "Moon moss."),
    ("Where is it?", "In Quillmere, and nothing else will do."),
    ("Is it open?", "Yes."),
    ("How many lamps?", "Twelve lamps of Quillmere."),
    ("Which moss?", "Moon moss, and nothing else."),
    ("Who answers?", "A keeper of the lamp."),
]


def text_trainee(config, net=None, tokenizer=None):
    tokenizer = tokenizer or make_tokenizer()
    net = net or make_llama(vocabulary=len(tokenizer))
    return TextTrainee(CausalModel(net, tokenizer, name="small", path=None, compute_dtype=torch.float32), config)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in PAIRS), encoding="utf-8")
    return path


@pytest.fixture
def options(data):
    return {
        "train_data_dir": str(data),
        "lora_rank": 3,
        "lora_alpha": 6,
        "batch_size": 2,
        "epochs": 2,
        "learning_rate": 1e-2,
        "scheduler": "constant",
        "save_precision": "fp32",
        "sample_max_tokens": 4,
        "test_answers": 0,
        "tensorboard": False,
    }


def run_text(config, *, steps=None, run=None, trainee=None):
    """Train to the end, or give up abruptly after so many steps."""
    host = ToyHost(lambda config: trainee or text_trainee(config))
    run = run or Run.start(config)
    events = []
    generator = train(host.borrow(config), config, Control(host, run, config.slice_seconds))
    for event in generator:
        run.events.append(event)
        events.append(event)
        if steps is not None and isinstance(event, Step) and event.step >= steps:
            generator.close()
            break
    return events, run, host


def weights(run):
    return load_file(run.final_path / "adapter_model.safetensors")


def losses(events):
    return [event.loss for event in events if isinstance(event, Step)]


def test_a_rank_for_each_layer_is_what_peft_loads(options, tmp_path):
    """`lora_rank: auto`: the small folder's changes are the whole one's, each cut to the rank that its config says."""
    from peft import PeftModel

    values = {
        **options,
        "lora_rank": 8,
        "lora_alpha": 6,
        "auto_rank": True,
        "validation_split": 0.3,
        "epochs": 6,
        "target_modules": "all-linear",
    }
    config = build(TextConfig, {**values, "output_dir": str(tmp_path / "run"), "output_name": "it", "sheet_weights": []})
    _, run, _ = run_text(config)
    found = {}
    for name in ("it", "it-small"):
        wrapped = PeftModel.from_pretrained(make_llama(vocabulary=len(make_tokenizer())), str(tmp_path / "run" / name))
        modules = {path: module for path, module in wrapped.named_modules() if hasattr(module, "get_delta_weight")}
        found[name] = {path: (module.r["default"], module.get_delta_weight("default").detach()) for path, module in modules.items()}
    ranks = {path: rank for path, (rank, _) in found["it-small"].items()}
    assert found["it"].keys() == ranks.keys() and sum(ranks.values()) < 8 * len(ranks) and len(set(ranks.values())) > 1
    for path, (rank, change) in found["it-small"].items():
        left, values, right = torch.linalg.svd(found["it"][path][1].double(), full_matrices=False)
        torch.testing.assert_close(change, ((left[:, :rank] * values[:rank]) @ right[:rank]).float(), atol=1e-5, rtol=1e-3)


def test_it_is_what_a_plain_loop_with_peft_does(tmp_path, options):
    """transformers and peft as everybody uses them, padded, with labels by hand; the same batches and start."""
    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict

    config = build(TextConfig, {**options, "output_dir": str(tmp_path / "run"), "max_grad_norm": 0, "packing": "on"})
    trainee = text_trainee(config)
    list(trainee.prepare())
    _, start_run, _ = run_text(build(TextConfig, {**options, "output_dir": str(tmp_path / "start"), "learning_rate": 0.0, "max_steps": 1}))
    events, run, _ = run_text(config)

    net = get_peft_model(
        make_llama(vocabulary=len(make_tokenizer())),
        LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    )
    set_peft_model_state_dict(net, weights(start_run))
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    seen = []
    for epoch in range(2):
        for batch in trainee.batches(epoch, config.seed):
            examples = [trainee.dataset.train[index] for index in batch.items]
            width = max(len(example.tokens) for example in examples)
            ids, mask, labels = torch.zeros(3, len(examples), width, dtype=torch.long)
            labels -= 100
            for row, example in enumerate(examples):
                ids[row, : len(example.tokens)] = torch.tensor(example.tokens)
                mask[row, : len(example.tokens)] = 1
                labels[row, : len(example.tokens)] = torch.tensor(
                    [token if learned else -100 for token, learned in zip(example.tokens, example.trained, strict=True)]
                )
            logits = net(input_ids=ids, attention_mask=mask).logits[:, :-1]
            loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.item())
    assert losses(events) == pytest.approx(seen, rel=1e-4)
    from peft import get_peft_model_state_dict

    for name, tensor in get_peft_model_state_dict(net).items():
        torch.testing.assert_close(weights(run)[name], tensor.detach(), atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("more", [{}, {"packing": "off"}, {"lora_start": "pissa"}, {"neftune_alpha": 5.0, "lora_dropout": 0.1}])
def test_resumed_equals_never_stopped(tmp_path, options, more):
    whole = build(TextConfig, {**options, **more, "output_dir": str(tmp_path / "whole"), "output_name": "a"})
    _, whole_run, _ = run_text(whole)
    broken = build(TextConfig, {**options, **more, "output_dir": str(tmp_path / "broken"), "output_name": "a", "save_steps": 1})
    run_text(broken, steps=3)
    _, broken_run, _ = run_text(broken, run=Run.reopen(broken))
    first, second = weights(whole_run), weights(broken_run)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("packing", ["on", "off"])
def test_accumulated_equals_the_big_batch(tmp_path, options, packing):
    """By learned tokens, not by micro-batches, which have very different numbers of them."""
    common = {**options, "packing": packing, "output_name": "a", "epochs": 1}
    _, big, _ = run_text(build(TextConfig, {**common, "output_dir": str(tmp_path / "big"), "batch_size": 8}))
    accumulated = {"batch_size": 1, "gradient_accumulation_steps": 8}
    _, small, _ = run_text(build(TextConfig, {**common, "output_dir": str(tmp_path / "small"), **accumulated}))
    assert losses(small.events.read()) == pytest.approx(losses(big.events.read()), rel=1e-5)
    for name, tensor in weights(big).items():
        torch.testing.assert_close(weights(small)[name], tensor, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"lora_start": "pissa"},
        {"lora_start": "pissa", "use_rslora": True},
        {"target_modules": "attention"},
    ],
    ids=str,
)
def test_peft_loads_the_folder_to_the_same_logits(tmp_path, options, more):
    from peft import PeftModel

    tokenizer = make_tokenizer()
    net, ids = make_llama(vocabulary=len(tokenizer)), torch.arange(4, 30)[None]
    untouched, before = copy.deepcopy(net), net(input_ids=ids).logits
    config = build(TextConfig, {**options, **more, "output_dir": str(tmp_path / "run")})
    trainee = text_trainee(config, net, tokenizer)
    _, run, _ = run_text(config, trainee=trainee)
    loaded = PeftModel.from_pretrained(untouched, str(run.final_path)).eval()
    after = loaded(input_ids=ids).logits
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(net(input_ids=ids).logits, before)
    ours = logits_of_state(run, config, tokenizer, ids)
    torch.testing.assert_close(after, ours, atol=1e-4, rtol=1e-4)
    assert json.loads((run.final_path / "adapter_config.json").read_text())["r"] == (6 if "lora_start" in more else 3)


def logits_of_state(run, config, tokenizer, ids):
    """What the run's own layers answer, from its last state."""
    from hotlora.engine.session import Session

    trainee = text_trainee(config, make_llama(vocabulary=len(tokenizer)), tokenizer)
    list(trainee.prepare())
    session = Session(trainee, config, run)
    with session.shown(), torch.no_grad():
        return trainee.model.net(input_ids=ids).logits


def test_validation_is_weighted_by_tokens_and_said_as_perplexity(tmp_path, options):
    config = build(
        TextConfig, {**options, "output_dir": str(tmp_path / "run"), "validation_split": 0.4, "test_answers": 5, "test_answers_share": 1}
    )
    events, run, _ = run_text(config)
    judged = [event for event in events if isinstance(event, Validated)]
    assert judged and all(event.scores["perplexity"] == pytest.approx(math.exp(event.loss)) for event in judged)
    graded = [event for event in events if isinstance(event, Graded)]
    assert graded[0].step == 0 and graded[0].count == 3 and graded[0].what == "kept-back questions"
    assert set(graded[0].scores) == {"exact match"}
    trainee = text_trainee(config)
    list(trainee.prepare())
    total = sum(
        F.cross_entropy(
            trainee.model.net(input_ids=torch.tensor([e.tokens])).logits[0, :-1],
            torch.tensor([t if x else -100 for t, x in zip(e.tokens, e.trained, strict=True)])[1:],
            reduction="sum",
        ).item()
        for e in trainee.dataset.validation
    )
    ours = sum(trainee.validation_loss(batch).total.item() for batch in trainee.validation_batches())
    assert ours == pytest.approx(total, rel=1e-4)


def test_going_on_from_an_adapter_takes_its_rank_and_refuses_another(tmp_path, options):
    _, run, _ = run_text(build(TextConfig, {**options, "output_dir": str(tmp_path / "first")}))
    more = {"output_dir": str(tmp_path / "second"), "init_lora": str(run.final_path), "learning_rate": 0.0, "max_steps": 1}
    config = build(TextConfig, {key: value for key, value in {**options, **more}.items() if not key.startswith("lora_")})
    _, second, _ = run_text(config)
    assert config.lora_rank == 3 and config.alpha == 6
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(run).items())
    wrong = build(TextConfig, {**options, **more, "lora_rank": 5, "output_dir": str(tmp_path / "third")})
    with pytest.raises(UserError, match="with lora_rank 5: it has lora_rank 3"):
        run_text(wrong)


def test_an_adapter_that_does_not_fit_is_said_before_the_texts_are_read(tmp_path, options):
    from safetensors.torch import save_file

    save_file({"lora_unet_x.lora_down.weight": torch.ones(1, 1)}, tmp_path / "cat.safetensors")
    more = {"output_dir": str(tmp_path / "run"), "train_data_dir": str(tmp_path / "nowhere")}
    for place, said in ((tmp_path / "cat.safetensors", "of the image family"), (tmp_path / "missing", "there is no such file or folder")):
        with pytest.raises(UserError, match=said):
            list(text_trainee(build(TextConfig, {**options, **more, "init_lora": str(place)})).prepare())


def test_an_adapter_of_another_base_is_gone_on_from_with_a_warning(tmp_path, options):
    _, run, _ = run_text(build(TextConfig, {**options, "output_dir": str(tmp_path / "first")}))
    config = build(TextConfig, {**options, "output_dir": str(tmp_path / "second"), "init_lora": str(run.final_path), "max_steps": 1})
    other = text_trainee(config, make_llama(5, vocabulary=len(make_tokenizer())))
    run_text(config, trainee=other)
    assert any("trained on another model" in message for message in other.warnings())


def test_the_base_is_untouched_and_checkpointing_changes_nothing(tmp_path, options):
    tokenizer = make_tokenizer()
    net = make_llama(vocabulary=len(tokenizer))
    attributes = [sorted(module.__dict__) for module in net.modules()]
    plain, checkpointed = (
        build(TextConfig, {**options, "output_dir": str(tmp_path / str(on)), "output_name": "a", "gradient_checkpointing": on})
        for on in (False, True)
    )
    _, first, _ = run_text(plain)
    _, second, _ = run_text(checkpointed, trainee=text_trainee(checkpointed, net, tokenizer))
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    assert [sorted(module.__dict__) for module in net.modules()] == attributes
    untouched = make_llama(vocabulary=len(tokenizer))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), untouched.parameters(), strict=True))
    assert all(p.requires_grad for p in net.parameters()) and not net.training
