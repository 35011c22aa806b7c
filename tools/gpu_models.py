"""Models of full shape made of random numbers, and data for them, for ``gpu_check``."""

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_text import TEMPLATE
from hotlora.hosts.standalone.checkpoints.architecture import CONFIGS

DEMO = Path(__file__).resolve().parent.parent / "demo" / "model" / "emoji-sd.safetensors"
WORDS = 2_000


class Shape(NamedTuple):
    """A model's size, and that of the pictures it is trained on."""

    name: str
    told: str
    pixels: int = 0  # to a side; 0 for text
    text: dict[str, Any] | None = None  # transformers' names

    @property
    def is_text(self) -> bool:
        return self.text is not None


_SMALL = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
_LARGE = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
_TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
_FULL = {
    "sd15": Shape("sd15", "SD 1.5 at 512", 512),
    "sdxl": Shape("sdxl", "SDXL at 1024", 1024),
    "text135m": Shape("text135m", "Llama of 135M", text={**_SMALL, "vocab_size": 49_152}),
    "text1b": Shape("text1b", "Llama of 1.2B", text={**_LARGE, "vocab_size": 128_256}),
}
_LITTLE = {
    "sd15": Shape("demo", "the demo's model at 64", 64),
    "sdxl": Shape("demo", "the demo's model at 64, for SDXL", 64),
    "text135m": Shape("tiny", "a tiny Llama", text={**_TINY, "vocab_size": 4_096}),
    "text1b": Shape("tiny", "a tiny Llama, for 1.2B", text={**_TINY, "vocab_size": 4_096}),
}


def find_shape(name: str, *, tiny: bool) -> Shape:
    """One of sd15, sdxl, text135m, text1b."""
    return (_LITTLE if tiny else _FULL)[name]


def make_image_model(folder: Path, shape: Shape, device: torch.device) -> None:
    """A diffusers folder in fp16, its networks made on the device."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    family, is_large = ("sdxl", True) if shape.name == "sdxl" else ("sd1", False)
    said = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (CONFIGS / family).glob("*.json")}
    torch.manual_seed(0)
    parts: dict[str, list[str]] = {}

    def save(name: str, module: Any) -> None:
        library = "diffusers" if type(module).__module__.startswith("diffusers") else "transformers"
        parts[name] = [library, type(module).__name__]
        module.save_pretrained(folder / name)

    with device:
        save("unet", UNet2DConditionModel.from_config(said["unet"]).half())
        save("vae", AutoencoderKL.from_config(said["vae"]).half())
        save("text_encoder", CLIPTextModel(CLIPTextConfig(**said["text_encoder"])).half())
        if is_large:
            save("text_encoder_2", CLIPTextModelWithProjection(CLIPTextConfig(**said["text_encoder_2"])).half())
    for name in ("tokenizer", "tokenizer_2") if is_large else ("tokenizer",):
        save(name, CLIPTokenizer.from_pretrained(str(CONFIGS / "tokenizer")))
    save("scheduler", DDPMScheduler.from_config(said["scheduler"]))
    name = "StableDiffusionXLPipeline" if is_large else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name, **parts}), encoding="utf-8")


def make_text_model(folder: Path, shape: Shape, device: torch.device) -> None:
    """A Llama in bf16, made on the device, and a tokenizer to which each word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    assert shape.text is not None
    torch.manual_seed(0)
    with device:
        net = LlamaForCausalLM(LlamaConfig(**shape.text, max_position_embeddings=4096, tie_word_embeddings=True))
    net.to(torch.bfloat16).save_pretrained(folder)
    vocabulary = ["<unk>", "<|im_start|>", "<|im_end|>", "user", "assistant", *(f"w{number}" for number in range(WORDS))]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def write_pictures(folder: Path, shape: Shape) -> None:
    """Eight of noise, with captions."""
    from PIL import Image

    folder.mkdir()
    chance = random.Random(0)
    for number in range(8):
        picture = Image.frombytes("RGB", (shape.pixels, shape.pixels), chance.randbytes(3 * shape.pixels**2))
        picture.save(folder / f"{number}.png", compress_level=1)
        (folder / f"{number}.txt").write_text(f"noise of kind {number}", encoding="utf-8")


def write_pairs(folder: Path, shape: Shape) -> None:
    """Questions and answers, of some 250 tokens each; tiny ones of 30."""
    folder.mkdir()
    chance, most = random.Random(0), 120 if shape.name != "tiny" else 15

    def words() -> str:
        return " ".join(f"w{chance.randrange(WORDS)}" for _ in range(chance.randint(most // 2, most)))

    rows = [{"question": words(), "answer": words()} for _ in range(32)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
