"""What a training step on text costs here, against transformers' Trainer with peft: ``python tools/bench_text.py``.

Both train the same LoRA (rank 8 on queries and values) on a model of SmolLM2-135M's shape with random weights (or on --model), on pairs of
80 tokens on average of which 44 are learned, four at a time, fp32, AdamW. The plain one is set up as
text-generation-webui's Training tab does it: padded rows, logits of all tokens, and gradient checkpointing, which that tab has on by
default; once more without it. Each runs in a process of its own, in turns; printed are the means over all pairs, in seconds of the clock
and of the processor, and their ratios.
"""

import argparse
import functools
import itertools
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "extension"), str(ROOT / "tools")]

from bench import Cost, now, since  # noqa: E402

RANK, BATCH, PAIRS, UNCOUNTED = 8, 4, 100, 2
WORDS = 49_000
OURS, PLAIN = "HotLoRA", ("plain, checkpointing", "plain")
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def make_model(folder: Path) -> None:
    """A Llama of SmolLM2-135M's shape, and a tokenizer to which each word is a token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = ["<unk>", "<|im_start|>", "<|im_end|>", "user", "assistant", *(f"w{number}" for number in range(WORDS))]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def write_pairs(path: Path) -> None:
    """Pairs of 80 tokens on average, template and all."""
    rng = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(f"w{rng.randrange(WORDS)}" for _ in range(rng.randint(low, high)))

    rows = [{"question": words(22, 38), "answer": words(35, 51)} for _ in range(PAIRS)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def run_plain(model: Path, pairs: Path, steps: int, *, checkpointing: bool) -> list[Cost]:
    """transformers' Trainer, as the built-in tab sets it up."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    def collate(batch: list) -> dict[str, torch.Tensor]:
        width = max(len(row.tokens) for row in batch)
        ids, mask, labels = torch.zeros(3, len(batch), width, dtype=torch.long)
        labels -= 100
        for place, row in enumerate(batch):
            ids[place, : len(row.tokens)], mask[place, : len(row.tokens)] = torch.tensor(row.tokens), 1
            labels[place, : len(row.tokens)] = torch.tensor([t if x else -100 for t, x in zip(row.tokens, row.trained, strict=True)])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    class Clock(TrainerCallback):
        ends: list[Cost] = []

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.ends.append(now())

        on_step_end = on_train_begin

    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    net = get_peft_model(net, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    net.config.use_cache = False
    with tempfile.TemporaryDirectory() as output:
        options = TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=BATCH,
            learning_rate=2e-4,
            max_steps=steps,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            gradient_checkpointing=checkpointing,
            use_cpu=True,
            remove_unused_columns=False,
            disable_tqdm=True,
        )
        Trainer(net, options, data_collator=collate, train_dataset=read_examples(model, pairs), callbacks=[Clock()]).train()
    return [(end[0] - begin[0], end[1] - begin[1]) for begin, end in itertools.pairwise(Clock.ends)]


def read_examples(model: Path, pairs: Path) -> list:
    """The same tokens and labels for both sides."""
    from hotlora.engine.options import build
    from hotlora.hosts.standalone.texts import load_tokenizer
    from hotlora.llm.config import TextConfig
    from hotlora.llm.dataset import build_dataset
    from hotlora.llm.rendering import Renderer

    config = build(TextConfig, {"train_data_dir": str(pairs), "output_name": "bench"})
    work = build_dataset(config, Renderer(load_tokenizer(model), config))
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value.train


def run_ours(model: Path, pairs: Path, steps: int) -> list[Cost]:
    """A real run through the public pieces: host, trainee, loop."""
    from hotlora.engine.control import Control
    from hotlora.engine.events import Step
    from hotlora.engine.loop import train
    from hotlora.engine.options import build
    from hotlora.engine.run import Run
    from hotlora.hosts.standalone.texts import TransformersHost
    from hotlora.llm.config import TextConfig

    with tempfile.TemporaryDirectory() as output:
        values = {"base_model": str(model), "train_data_dir": str(pairs), "output_dir": f"{output}/run", "test_answers": 0}
        values |= {
            "lora_rank": RANK,
            "lora_alpha": 2 * RANK,
            "target_modules": "q_proj, v_proj",
            "batch_size": BATCH,
            "max_steps": steps + 1,
        }
        config = build(TextConfig, {**values, "scheduler": "constant"})
        host = TransformersHost()
        control = Control(host, Run.start(config), config.slice_seconds)
        at, costs = now(), []
        for event in train(host.borrow(config), config, control):
            if isinstance(event, Step):  # from event to event, so that everything around a step counts too
                costs.append(since(at))
                if len(costs) == steps:
                    break
            at = now()
        return costs


WORKERS = {
    OURS: run_ours,
    PLAIN[0]: functools.partial(run_plain, checkpointing=True),
    PLAIN[1]: functools.partial(run_plain, checkpointing=False),
}


def measure(which: str, model: Path, pairs: Path, steps: int) -> dict:
    """Cost of each step and peak memory of one run in a process of its own."""
    command = [sys.executable, __file__, "--worker", which, "--model", str(model), "--pairs", str(pairs), "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print the means and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a Hugging Face folder instead of random weights")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each, in turns")
    parser.add_argument(
        "--steps", type=int, default=PAIRS // BATCH + UNCOUNTED, help=f"steps in each process; the first {UNCOUNTED} are not counted"
    )
    parser.add_argument("--worker", choices=tuple(WORKERS), help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        costs = WORKERS[options.worker](options.model, options.pairs, options.steps)
        print(json.dumps({"costs": costs[UNCOUNTED:], "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
        return
    with tempfile.TemporaryDirectory() as name:
        model, pairs = options.model or Path(name) / "model", Path(name) / "pairs.jsonl"
        write_pairs(pairs)
        if not options.model:  # in a process of its own, so that it counts for nobody's memory
            command = "import runpy, pathlib, sys; runpy.run_path(sys.argv[1])['make_model'](pathlib.Path(sys.argv[2]))"
            subprocess.run([sys.executable, "-c", command, __file__, str(model)], check=True)
        results: dict[str, list[dict]] = {which: [] for which in WORKERS}
        for number in range(options.rounds):
            for which, runs in results.items():
                runs.append(measure(which, model, pairs, options.steps))
                print(f"round {number + 1}, {which}: {mean(runs[-1:], 1):.2f} processor s/step", flush=True)
    report(results)


def mean(runs: list[dict], clock: int) -> float:
    """Of all steps; ``clock``: 0 for the wall's, 1 for the processor's."""
    return statistics.mean(cost[clock] for run in runs for cost in run["costs"])


def report(results: dict[str, list[dict]]) -> None:
    """The table."""
    peak = {which: max(run["peak_kib"] for run in runs) / 2**20 for which, runs in results.items()}
    print(f"{'text':22}{'s/step':>8}{'CPU s/step':>12}{'ours of it':>12}{'peak GB':>10}")
    for which, runs in results.items():
        cpu = mean(runs, 1)
        print(f"{which:22}{mean(runs, 0):8.2f}{cpu:12.2f}{mean(results[OURS], 1) / cpu:12.3f}{peak[which]:10.2f}")


if __name__ == "__main__":
    main()
