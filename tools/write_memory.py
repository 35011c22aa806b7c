"""Write docs/memory.md: what fits into a card's memory, by arithmetic that is held against what was measured on one.

    python tools/write_memory.py

Models of full shape are made of tensors that have a shape and no numbers (torch's FakeTensorMode), and one training step is gone through
with them: every tensor that would be made is counted, and forgotten when it would be. So it takes a minute, no card, and no memory. Norms
are computed in fp32, as autocast does on CUDA. What a card's libraries take for themselves is not in it: that is the reserve.
"""

import contextlib
import json
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "extension")]

from hotlora.engine.lean import _forward_conv, _forward_linear  # noqa: E402
from hotlora.engine.options import build  # noqa: E402
from hotlora.hosts.standalone.checkpoints.architecture import CONFIGS  # noqa: E402
from hotlora.hosts.standalone.few_bits import is_packable  # noqa: E402
from hotlora.llm.config import TextConfig  # noqa: E402
from hotlora.llm.losses import sum_cross_entropy  # noqa: E402
from hotlora.llm.targets import choose_text_targets  # noqa: E402
from hotlora.sd.config import ImageConfig  # noqa: E402
from hotlora.sd.names import name_unet_layers  # noqa: E402
from hotlora.sd.targets import choose_targets  # noqa: E402

SIZES = (6, 8, 10, 12, 16, 24)
RESERVE = 1.0  # GB for the driver, the screen and the libraries' own workspaces
TOKENS = 512  # of each text
_GB = 2**30
_TRAINED_BYTES = {"AdamW": 12, "AdamW8bit": 6}  # of a trained number, without its gradient: itself in fp32, and two moments
_PACKED_BYTES = {"8bit": 1.0, "4bit": 0.5 + 1 / 64}  # of a frozen number, with its scales
_LLAMAS = {
    "Llama 1.2B": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, tie_word_embeddings=True),
    "Llama 8B": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, tie_word_embeddings=False),
}
IMAGES = {"SD 1.5 at 512": ("sd1", 512), "SDXL at 1024": ("sdxl", 1024)}


class Case(NamedTuple):
    """A setting: what it is called, and its options."""

    model: str
    batch: int = 1
    checkpointing: bool = False
    quantization: str = "none"
    dtype: torch.dtype = torch.bfloat16
    rank: int = 16

    def tell(self) -> str:
        """As it is written into a run file."""
        words = [f"`batch_size: {self.batch}`"]
        words += [f"`quantization: {self.quantization}`"] if self.quantization != "none" else []
        return ", ".join(words + (["`gradient_checkpointing: true`"] if self.checkpointing else []))


# the fastest first
CASES = [
    *(Case("SD 1.5 at 512", batch, checkpointing) for batch, checkpointing in ((4, False), (2, False), (1, False), (4, True), (1, True))),
    *(Case("SDXL at 1024", batch, checkpointing) for batch, checkpointing in ((1, False), (4, True), (1, True))),
    *(Case("SDXL at 1024", 1, True, bits) for bits in ("8bit", "4bit")),
    *(Case("Llama 1.2B", 4, checkpointing, bits) for checkpointing, bits in ((False, "none"), (True, "none"), (True, "4bit"))),
    *(Case("Llama 8B", batch, True, bits) for batch, bits in ((4, "none"), (4, "8bit"), (4, "4bit"), (1, "4bit"))),
]
MEASURED = [  # docs/measured.md, on an H100: peak allocated, in GB
    (Case("SD 1.5 at 512", 1, rank=8), 3.47),
    (Case("SD 1.5 at 512", 4, rank=8), 7.07),
    (Case("SD 1.5 at 512", 1, True, rank=8), 3.03),
    (Case("SD 1.5 at 512", 1, rank=8, dtype=torch.float32), 5.89),
    (Case("SDXL at 1024", 1, rank=8), 14.95),
]


# -- counting ----------------------------------------------------------------------------------------------------------


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and the most there were.

    Args:
        known: tensors that are counted elsewhere.
    """

    def __init__(self, known: Iterator[torch.Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return answer

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


@contextlib.contextmanager
def as_on_a_card(dtype: torch.dtype) -> Iterator[None]:
    """Autocast, with norms in fp32."""
    if dtype == torch.float32:
        yield
        return
    layer_norm, group_norm = F.layer_norm, F.group_norm

    def wide(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.float()

    F.layer_norm = lambda x, shape, weight=None, bias=None, eps=1e-5: layer_norm(x.float(), shape, wide(weight), wide(bias), eps)
    F.group_norm = lambda x, groups, weight=None, bias=None, eps=1e-5: group_norm(x.float(), groups, wide(weight), wide(bias), eps)
    try:
        with torch.autocast("cpu", dtype):
            yield
    finally:
        F.layer_norm, F.group_norm = layer_norm, group_norm


@contextlib.contextmanager
def made_in(dtype: torch.dtype) -> Iterator[None]:
    """Modules are made in that precision."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


class Adapted(nn.Module):
    """A layer with a LoRA, which computes as ``engine.lean`` does."""

    def __init__(self, base: Any, rank: int):
        super().__init__()
        self.base, self.scaling = base, {"it": 1.0}
        if isinstance(base, nn.Linear):
            down, up = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        else:
            down = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False)
            up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        self.lora_A, self.lora_B = nn.ModuleDict({"it": down}), nn.ModuleDict({"it": up})
        self._add = _forward_linear if isinstance(base, nn.Linear) else _forward_conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._add(self, "it", x, self.base(x))


def adapt(net: nn.Module, targets: Mapping[str, Any], rank: int) -> list[nn.Module]:
    """Put LoRAs on the targets; the layers below them."""
    wanted = {id(target.layer) for target in targets.values()}
    found = []
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in wanted:
                found.append(child)
                setattr(parent, name, Adapted(child, rank))
    return found


def saved_by_packing(layers: Sequence[Any], case: Case) -> float:
    """Bytes, while one of these linear layers is unpacked."""
    sizes = [layer.weight.numel() for layer in layers]
    return sum(sizes) * (case.dtype.itemsize - _PACKED_BYTES[case.quantization]) - max(sizes) * case.dtype.itemsize


def bytes_of(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


# -- the models --------------------------------------------------------------------------------------------------------


def estimate(case: Case) -> float:
    """GB at the peak of a step."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        frozen, net, step = (_image if case.model in IMAGES else _text)(case)
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        net.train()
        with Live(net.parameters()) as live, as_on_a_card(case.dtype):
            step().backward()
        return (frozen + live.peak + sum(parameter.numel() for parameter in trained) * _TRAINED_BYTES["AdamW"]) / _GB


def _image(case: Case) -> tuple[float, nn.Module, Any]:
    """(bytes of everything that is frozen, the U-Net with adapters, what computes a loss)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    family, pixels = IMAGES[case.model]
    said = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (CONFIGS / family).glob("*.json")}
    with made_in(case.dtype):
        unet = UNet2DConditionModel.from_config(said["unet"]).requires_grad_(False)
        encoders: list[nn.Module] = [CLIPTextModel(CLIPTextConfig(**said["text_encoder"]))]
        if "text_encoder_2" in said:
            encoders.append(CLIPTextModelWithProjection(CLIPTextConfig(**said["text_encoder_2"])))
    vae = AutoencoderKL.from_config(said["vae"])
    frozen: float = sum(map(bytes_of, [unet, vae, *encoders]))
    if case.quantization != "none":
        frozen -= saved_by_packing([layer for path, layer in unet.named_modules() if is_packable(path, layer)], case)
    adapt(unet, choose_targets(name_unet_layers(unet, family), {}, build(ImageConfig, {"output_name": "x"})), case.rank)
    if case.checkpointing:
        unet.enable_gradient_checkpointing()

    def step() -> torch.Tensor:
        noisy, context = torch.randn(case.batch, 4, pixels // 8, pixels // 8), torch.randn(case.batch, 77, unet.config.cross_attention_dim)
        added = {"text_embeds": torch.randn(case.batch, 1280), "time_ids": torch.randn(case.batch, 6)} if family == "sdxl" else None
        steps = torch.zeros(case.batch, dtype=torch.long)
        return unet(noisy, steps, context, added_cond_kwargs=added, return_dict=False)[0].float().square().mean()

    return frozen, unet, step


def _text(case: Case) -> tuple[float, nn.Module, Any]:
    """Likewise of a language model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**_LLAMAS[case.model], num_key_value_heads=8, vocab_size=128_256, attn_implementation="sdpa")
    with made_in(case.dtype):
        net = LlamaForCausalLM(config).requires_grad_(False)
    frozen: float = bytes_of(net)
    layers = adapt(net, choose_text_targets(net, build(TextConfig, {"output_name": "x"})), case.rank)
    if case.quantization != "none":
        frozen -= saved_by_packing(layers, case)
    if case.checkpointing:
        net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def step() -> torch.Tensor:
        tokens = torch.zeros(case.batch, TOKENS, dtype=torch.long)
        hidden = net.model(input_ids=tokens, use_cache=False).last_hidden_state.flatten(0, 1)
        return sum_cross_entropy(hidden, net.lm_head, tokens.flatten())

    return frozen, net, step


# -- the page ----------------------------------------------------------------------------------------------------------

_HEAD = """# What fits into a card

Written by `python tools/write_memory.py`. **Estimated**: the tensors of a training step of full-size models, counted one by one without a
card; LoRA of rank {rank} on all of a block's layers, bf16 as `mixed_precision: auto` takes it, AdamW, latents encoded beforehand.
Samples, and what a host keeps beside its model, come on top. ✓ means that {reserve:g} GB more than the estimate are there, for the driver,
the screen and the libraries' workspaces.

*What will happen?* and `--check` measure a real step on your card. Where batches do not fit, they try what makes them fit, in this
order, and propose what they have measured, with its memory and time; on the page a button puts it into the recipe:

1. where batches would be cut: a smaller `batch_size` with as many more `gradient_accumulation_steps`, and `gradient_checkpointing`;
   the faster one stands first;
2. where not one example fits, each with those before it, until one does: `gradient_checkpointing`, `optimizer: AdamW8bit`, then, by
   itself (hosts keep the model as they have loaded it), `mixed_precision: auto` where it was `no`, `quantization: 8bit`, `4bit`, and
   at last a lower `resolution`, for which the pictures are encoded anew.

Latents are cached, and VAE and text encoders leave a card that is short of memory, without being asked. Tried with models that
pretend to lack memory, not on a card that does.
"""
_TABLE = """
| model | setting | peak | {sizes} |
|---|---|---:|{lines}|
"""
_CHECKED = """
Of one model, settings that are faster stand above those that ask for less; texts have {tokens} tokens. `optimizer: AdamW8bit` takes
{saved} off each trained number, 0.3 GB at most here.

## Held against what was measured

[On an H100](measured.md), at rank 8, as peak of what was allocated. The estimate of checkpointing is low by what the libraries take for
convolutions, which has room elsewhere: leave a gigabyte. Texts, and models in 8 or 4 bits, were not measured yet.

| model | setting | estimated | measured |
|---|---|---:|---:|
"""


def write_page() -> str:
    """The page, with every case estimated anew."""
    marks = " | ".join(f"{size} GB" for size in SIZES)
    text = _HEAD.format(rank=CASES[0].rank, reserve=RESERVE) + _TABLE.format(sizes=marks, lines="|".join([":-:"] * len(SIZES)))
    for case in CASES:
        peak = estimate(case)
        fits = " | ".join("✓" if peak + RESERVE <= size else "–" for size in SIZES)
        text += f"| {case.model} | {case.tell()} | {peak:.1f} GB | {fits} |\n"
    saved = f"{_TRAINED_BYTES['AdamW'] - _TRAINED_BYTES['AdamW8bit']} bytes"
    text += _CHECKED.format(tokens=TOKENS, saved=saved)
    for case, measured in MEASURED:
        setting = case.tell() + (", `mixed_precision: no`" if case.dtype == torch.float32 else "")
        text += f"| {case.model} | {setting} | {estimate(case):.2f} GB | {measured:.2f} GB |\n"
    return text


if __name__ == "__main__":
    (ROOT / "docs" / "memory.md").write_text(write_page(), encoding="utf-8", newline="\n")
