"""Small tokenizers, and templates that imitate the shapes of those in the wild, for tests of text runs."""

import functools
from collections.abc import Generator
from typing import Any

from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.conversation import Conversation, Message
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<turn>", "</turn>")
TEXT = (
    "What does a duskcrab eat? A duskcrab eats moon moss, and nothing else will do.",
    "Who keeps the lamp of Quillmere? The ferryman's youngest daughter keeps it.",
    '{"name": "Quillmere", "lamps": 12, "open": true}',
    "You are a keeper of the lamp. Answer in one sentence. system user assistant",
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (  # writes BOS itself, once per pair, and puts the system prompt into the first question
    "{% set s = messages[0].content if messages[0].role == 'system' else '' %}{% set first = 1 if s else 0 %}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token }}[INST] {% if s and loop.index0 == first %}<<SYS>>{{ s }}<</SYS>> {% endif %}{{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
GEMMA = (  # knows no system prompts
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
QWEN3 = (  # drops what was thought before the last question, and opens the last answer with a thought
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% set said = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1] if '</think>' in m.content else '\n\n' %}"
    "{% if loop.index0 > ns.last %}<think>{{ thought }}</think>\n\n{% endif %}{{ said }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATED = (  # puts the date and a system prompt of its own in front
    "<|im_start|>system\n{{ messages[0].content if messages[0].role == 'system' else 'Be good.' }} It is {{ strftime_now('%Y-%m-%d') }}."
    "<|im_end|>\n{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama2": LLAMA2, "llama3": LLAMA3, "gemma": GEMMA, "qwen3": QWEN3, "dated": DATED}


def make_tokenizer(template: str | None = CHATML, *, eos: str | None = "<|im_end|>", adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about 400 tokens. ``adds_bos``: it writes <s> before every text, as Llama's do."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_train(adds_bos)), bos_token="<s>", **({"eos_token": eos, "pad_token": eos} if eos else {})
    )
    tokenizer.chat_template = template
    return tokenizer


def make_llama2_tokenizer() -> PreTrainedTokenizerFast:
    """In the manner of Llama 2's: every stretch of text is given a space in front, and letters it does not know are bytes."""
    letters = sorted({"▁", *"".join(TEXT).replace(" ", "▁"), *"[]/<>|"})
    vocabulary = {
        token: place for place, token in enumerate(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters])
    }
    merges = [("m", "o"), ("s", "s"), ("mo", "ss"), ("▁", "moss")]
    vocabulary |= {token: len(vocabulary) + place for place, token in enumerate("".join(pair) for pair in merges)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = LLAMA2
    return made


@functools.cache
def _train(adds_bos: bool) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer.to_str()


def talk(*contents: str, system: str = "", source: str = "faq.jsonl, row 1") -> Conversation:
    """A conversation: the user's turn, the assistant's, the user's …"""
    turns = [Message(("user", "assistant")[place % 2], content) for place, content in enumerate(contents)]
    return Conversation((*([Message("system", system)] if system else []), *turns), source)


def text_config(**values) -> TextConfig:
    """A checked config."""
    return build(TextConfig, {"train_data_dir": "data", "output_dir": "output/keeper", **values})


def finish(work: Generator) -> tuple[Any, list]:
    """What a piece of work returns, and its progress on the way."""
    progress = []
    while True:
        try:
            progress.append(next(work))
        except StopIteration as end:
            return end.value, progress
