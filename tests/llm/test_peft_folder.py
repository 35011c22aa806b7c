"""The peft folder: written whole or not at all, read from whoever wrote it, and refused with a sentence where it does not fit."""

import json

import pytest
import torch
import yaml
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import PreviewRequest
from hotlora.engine.options import build
from hotlora.llm.comparison import Completion, write_comparison
from hotlora.llm.config import TextConfig
from hotlora.llm.peft_folder import Origin, adopt_peft_folder, read_fingerprint, read_peft_folder, warn_other_base, write_peft_folder
from hotlora.llm.targets import choose_text_targets
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_llama import make_llama

NOTES = {"step": 7, "total_steps": 9, "loss": 0.5, "scores": {"exact match (kept-back questions)": 0.25}}
ORIGIN = Origin(
    base="C:\\models\\Small", fingerprint="f" * 64, template="{{ messages }}", target_modules=["q_proj"], facts=[("examples", "3 | more")]
)


def make_config(**options):
    return build(TextConfig, {"output_name": "cat", "lora_rank": 2, "lora_alpha": 8, "target_modules": "q_proj", **options})


@pytest.fixture
def adapters():
    net = make_llama()
    made = AdapterSet(choose_text_targets(net, make_config()))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def test_what_is_written_is_read(adapters, tmp_path):
    folder = write_peft_folder(adapters, tmp_path / "cat", make_config(save_precision="fp32"), ORIGIN, NOTES)
    file = read_peft_folder(folder)
    assert (file.rank, file.alpha, file.use_rslora, file.use_dora) == (2, 8.0, False, False)
    assert file.fingerprint == read_fingerprint(folder) == "f" * 64
    for name, parts in adapters.tensors().items():
        assert all(torch.equal(parts[key], file.tensors[name][key]) for key in ("lora_A", "lora_B"))
    assert read_peft_folder(folder / "adapter_model.safetensors").tensors.keys() == file.tensors.keys()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_the_number_format_is_the_one_asked_for(adapters, tmp_path, precision, dtype):
    folder = write_peft_folder(adapters, tmp_path / "cat", make_config(save_precision=precision), ORIGIN, NOTES)
    assert {tensor.dtype for tensor in load_file(folder / "adapter_model.safetensors").values()} == {dtype}


def test_the_card_tells_all_but_where_the_user_keeps_things(adapters, tmp_path):
    folder = write_peft_folder(adapters, tmp_path / "cat", make_config(), ORIGIN, NOTES)
    text = (folder / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert header["base_model"] == "Small" and header["library_name"] == "peft"
    for words in ("7 of 9", "3 \\| more", "exact match (kept-back questions) | 0.25", "f" * 64, "| lora_rank | 2 |"):
        assert words in text
    assert "C:" not in text
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == "{{ messages }}"
    with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
        assert file.metadata()["format"] == "pt" and file.metadata()["hotlora_step"] == "7"


def test_a_folder_that_plain_peft_wrote_is_read(tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"], use_dora=True, init_lora_weights=False)
    wrapped = get_peft_model(make_llama(), config)
    wrapped.save_pretrained(tmp_path / "theirs")
    file = read_peft_folder(tmp_path / "theirs")
    assert (file.rank, file.alpha, file.use_dora, file.fingerprint) == (3, 5.0, True, "")
    layer = wrapped.base_model.model.model.layers[1].self_attn.v_proj
    parts = file.tensors["model.layers.1.self_attn.v_proj"]
    assert torch.equal(parts["lora_A"], layer.lora_A["default"].weight)
    assert torch.equal(parts["lora_magnitude_vector"], layer.lora_magnitude_vector["default"].weight)
    assert warn_other_base(file, "anything", "small") == ""


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), "it is no text LoRA"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "cannot read"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"no"), "cannot read"),
        (lambda f: change_config(f, peft_type="LOHA"), "it is a LOHA"),
        (lambda f: change_config(f, modules_to_save=["lm_head"]), "trained with modules_to_save"),
        (lambda f: change_config(f, rank_pattern={"q_proj": 4}), "trained with rank_pattern"),
        (lambda f: save_file({"lora_unet_x.lora_down.weight": torch.ones(1)}, f / "adapter_model.safetensors"), "which no plain LoRA has"),
    ],
)
def test_what_cannot_be_gone_on_from_is_said(adapters, tmp_path, spoil, said):
    folder = write_peft_folder(adapters, tmp_path / "cat", make_config(), ORIGIN, NOTES)
    spoil(folder)
    with pytest.raises(UserError, match=said):
        read_peft_folder(folder)


def test_going_on_names_both_ranks(adapters, tmp_path):
    folder = write_peft_folder(adapters, tmp_path / "cat", make_config(), ORIGIN, NOTES)
    with pytest.raises(UserError, match="lora_rank 4: it has lora_rank 2"):
        adopt_peft_folder(folder, make_config(lora_rank=4, init_lora=str(folder)))
    with pytest.raises(UserError, match="has a start already"):
        adopt_peft_folder(folder, make_config(lora_start="pissa"))


def test_the_comparison_shows_answers_as_they_are(tmp_path):
    row = [(PreviewRequest("Why?\nReally?", 1, weight), Completion(text)) for weight, text in ((0.0, "No."), (1.0, "```\ncode\n```"))]
    text = write_comparison([row], tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "## Why? Really?" in text and "````\n```\ncode\n```\n````" in text
    assert Completion("é").save(tmp_path / "v1.5").read_text(encoding="utf-8") == "é" and (tmp_path / "v1.5.txt").exists()
