"""The language loss: packed == padded == alone == plain cross-entropy, values and gradients; what a model cannot do is found out."""

import copy

import pytest
import torch
import torch.nn.functional as F
import zoo
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import Draws
from hotlora.engine.options import build
from hotlora.hosts.shared.causal_model import CausalModel
from hotlora.llm.config import TextConfig
from hotlora.llm.conversation import TokenizedExample
from hotlora.llm.forward import LanguageLoss
from hotlora.llm.losses import sum_cross_entropy
from small_llama import make_llama


def small(kind):
    import transformers

    torch.manual_seed(1)
    common = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {"intermediate_size": 64, "num_key_value_heads": 2}
    if kind == "llama":
        return make_llama()
    if kind == "eager llama":
        return make_llama(attn_implementation="eager")
    if kind == "qwen":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**common, **wide, head_dim=8)).eval()
    if kind == "mistral":
        return transformers.MistralForCausalLM(transformers.MistralConfig(**common, **wide, sliding_window=64)).eval()
    if kind == "capped gemma":
        config = transformers.Gemma2Config(**common, **wide, head_dim=8, final_logit_softcapping=1.0)
        return transformers.Gemma2ForCausalLM(config).eval()
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=4)).eval()
    if kind == "mamba":
        return transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=128, hidden_size=32, num_hidden_layers=2)).eval()
    raise AssertionError(kind)


def loss_of(net, **options):
    model = CausalModel(net, None, name="small", path=None, compute_dtype=torch.float32)
    return LanguageLoss(model, build(TextConfig, {"output_name": "x", **options}))


def examples(seed=0, count=4):
    rng = torch.Generator().manual_seed(seed)
    out = []
    for number in range(count):
        length = int(torch.randint(6, 20, (1,), generator=rng))
        tokens = torch.randint(0, 128, (length,), generator=rng).tolist()
        trained = [place > 2 and (place + number) % 3 > 0 for place in range(length)]
        trained[-1] = number % 2 == 0  # some end with tokens that nobody learns
        out.append(TokenizedExample(tuple(tokens), tuple(trained), f"row {number}"))
    return out


def plain_total(net, example):
    """By the definition: the whole example alone, full logits, F.cross_entropy over labels shifted by one."""
    logits = net(input_ids=torch.tensor([example.tokens])).logits[0, :-1]
    labels = torch.tensor([token if learned else -100 for token, learned in zip(example.tokens, example.trained, strict=True)])[1:]
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def gradients(net, total):
    net.zero_grad()
    total.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "eager llama", "qwen", "mistral", "capped gemma", "gpt2", "mamba"])
@pytest.mark.parametrize("packing", ["auto", "off"])
def test_a_batch_is_the_sum_of_its_examples_alone(kind, packing):
    net, batch = small(kind), examples()
    net.requires_grad_(True)
    wanted = sum(plain_total(net, example) for example in batch)
    wanted_gradients = gradients(net, wanted)
    loss = loss_of(net, packing=packing)
    total = loss.total(batch)
    torch.testing.assert_close(total, wanted, rtol=1e-5, atol=1e-4)
    for name, gradient in gradients(net, total).items():
        torch.testing.assert_close(gradient, wanted_gradients[name], rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(("kind", "packs"), [("llama", True), ("eager llama", True), ("qwen", True), ("mistral", True), ("mamba", False)])
def test_a_model_that_would_mix_up_packed_texts_is_found_out(kind, packs):
    loss = loss_of(small(kind))
    assert loss.packs is packs
    assert bool(loss.warnings) is not packs
    if not packs:
        with pytest.raises(UserError, match="cannot pack"):
            loss_of(small(kind), packing="on")


def test_the_probe_sees_a_leak(monkeypatch):
    net = small("llama")
    forward = type(net).forward

    def with_a_mask(self, **inputs):  # the mask switches the detection of packed rows off, in transformers itself
        return forward(self, attention_mask=torch.ones_like(inputs["input_ids"]), **inputs)

    monkeypatch.setattr(type(net), "forward", with_a_mask)
    assert not loss_of(net).packs


@pytest.mark.parametrize("kind", ["lfm2", "falcon h1", "jamba", "zamba2", "bamba", "qwen3 next", "mixtral", "gemma3 with eyes"])
def test_hybrids_that_carry_over_a_little_are_found_out(kind):
    """Whatever the probe says, a batch is the sum of its examples; and what it takes for untouched is so."""
    net = zoo.make(kind).requires_grad_(False)
    batch = [TokenizedExample(tuple(token % zoo.WORDS for token in e.tokens), e.trained, e.source) for e in examples()]
    loss = loss_of(net)
    assert loss.packs is (kind in ("mixtral", "gemma3 with eyes"))
    torch.testing.assert_close(loss.total(batch), sum(plain_total(net, one) for one in batch), rtol=1e-5, atol=1e-4)


def test_the_base_s_own_dropout_is_for_training_alone():
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.5, embd_pdrop=0.5)
    net = transformers.GPT2LMHeadModel(config).train()
    loss, batch = loss_of(net), examples(count=2)
    judged = loss.total(batch)
    assert torch.equal(judged, loss.total(batch)) and net.training
    torch.testing.assert_close(judged, sum(plain_total(net.eval(), one) for one in batch))
    net.train()
    assert not torch.equal(loss.total(batch, Draws(1, 1)), loss.total(batch, Draws(1, 1)))


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_add_up_to_cross_entropy(chunk):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    hidden, labels = torch.randn(7, 8, requires_grad=True), torch.randint(0, 50, (7,))
    wanted = F.cross_entropy(head(hidden), labels, reduction="sum")
    (wanted_gradient,) = torch.autograd.grad(wanted, hidden)
    total = sum_cross_entropy(hidden, head, labels, chunk)
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(torch.autograd.grad(total, hidden)[0], wanted_gradient)
    assert head.weight.grad is None


def test_a_head_that_learns_gets_its_gradient_too():
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False)
    hidden, labels = torch.randn(7, 8, requires_grad=True), torch.randint(0, 50, (7,))
    wanted = torch.autograd.grad(F.cross_entropy(head(hidden), labels, reduction="sum"), [hidden, head.weight])
    torch.testing.assert_close(torch.autograd.grad(sum_cross_entropy(hidden, head, labels, 3), [hidden, head.weight]), wanted)


def test_small_gradients_live_through_half_precision():
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    head.weight /= 1000
    head.weight[0] = 0.001
    hidden = torch.full((1, 8), 2000.0)  # the first word is all but certain
    labels = torch.zeros(1, dtype=torch.long)
    wanted, got = [
        torch.autograd.grad(sum_cross_entropy(x, net, labels) * 2**16, x)[0].float()
        for x, net in ((hidden.clone().requires_grad_(), head), (hidden.half().requires_grad_(), copy.deepcopy(head).half()))
    ]
    assert 1e-10 < wanted.abs().max() / 2**16 < torch.finfo(torch.half).smallest_normal / 2**11  # not a half-precision number
    torch.testing.assert_close(got, wanted, rtol=0.1, atol=wanted.abs().max().item() * 0.1)


def test_no_learned_token_is_no_loss():
    hidden = torch.randn(0, 8, requires_grad=True)
    assert sum_cross_entropy(hidden, torch.nn.Linear(8, 5), torch.empty(0, dtype=torch.long)).item() == 0


@pytest.mark.parametrize("packing", ["on", "off"])
def test_neftune_adds_the_paper_s_noise_in_training_only(packing):
    net, batch = small("llama"), examples(count=2)
    loss = loss_of(net, packing=packing, neftune_alpha=5.0)
    plain = loss_of(net, packing=packing)
    assert torch.equal(loss.total(batch), plain.total(batch))
    noisy = loss.total(batch, Draws(42, 3))
    assert torch.equal(noisy, loss.total(batch, Draws(42, 3))) and not torch.equal(noisy, plain.total(batch))
    by_hand = 0.0
    for place, example in enumerate(batch):
        last = max(p for p, trained in enumerate(example.trained) if trained)
        embedded = net.get_input_embeddings()(torch.tensor([example.tokens[:last]]))
        noise = torch.rand(last, 32, generator=Draws(42, 3).generator(place)) * 2 - 1
        logits = net(inputs_embeds=embedded + noise * 5.0 / (last * 32) ** 0.5).logits[0]
        labels = torch.tensor([t if x else -100 for t, x in zip(example.tokens, example.trained, strict=True)])[1 : last + 1]
        by_hand = by_hand + F.cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(noisy, by_hand, rtol=1e-5, atol=1e-4)
    assert not net.get_input_embeddings()._forward_hooks


def test_the_model_is_left_as_found():
    net = small("llama").train()
    before = {name: p.clone() for name, p in net.named_parameters()}
    loss_of(net).total(examples())
    assert net.training and all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert not [module for module in net.modules() if module._forward_hooks]
