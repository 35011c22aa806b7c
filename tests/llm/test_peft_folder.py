"""The peft folder: written whole or not at all, read from whoever wrote it, and refused with a sentence where it does not fit."""

import json

import pytest
import torch
import yaml
from hotlora.engine.adapters import AdapterSet
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import PreviewRequest
from hotlora.engine.options import build
from hotlora.engine.pickled import is_unsafe
from hotlora.llm.adopting import adopt_peft_folder
from hotlora.llm.comparison import Completion, write_comparison
from hotlora.llm.config import TextConfig
from hotlora.llm.peft_folder import Origin, write_peft_folder
from hotlora.llm.peft_reading import read_fingerprint, read_peft_folder, warn_other_base
from hotlora.llm.targets import choose_text_targets, name_targets
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70000.0])
def test_nothing_that_is_not_a_number_is_written(adapters, tmp_path, value):
    with torch.no_grad():
        adapters.parameters()[-1].fill_(value)
    with pytest.raises((RuntimeError, UserError), match="lora_"):
        write_peft_folder(adapters, tmp_path / "cat", make_config(save_precision="fp16"), ORIGIN, NOTES)
    assert not list(tmp_path.iterdir())


def test_the_card_tells_all_but_where_the_user_keeps_things(adapters, tmp_path):
    folder = write_peft_folder(adapters, tmp_path / "cat", make_config(), ORIGIN, NOTES)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "text-generation-webui: loads all " in text and "--max-lora-rank is" in text
    header = yaml.safe_load(text.split("---")[1])
    assert header["base_model"] == "Small" and header["library_name"] == "peft"
    for words in ("7 of 9", "3 \\| more", "exact match (kept-back questions) | 0.25", "f" * 64, "| lora_rank | 2 |"):
        assert words in text
    assert "C:" not in text
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == "{{ messages }}"
    with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
        assert file.metadata()["format"] == "pt" and file.metadata()["hotlora_step"] == "7"


def test_the_card_says_what_the_template_was_told(adapters, tmp_path):
    told = make_config(template_args={"enable_thinking": False})
    text = (write_peft_folder(adapters, tmp_path / "cat", told, ORIGIN, NOTES) / "README.md").read_text(encoding="utf-8")
    assert "which is told `enable_thinking=False`" in text


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
    assert warn_other_base(file.base, file.fingerprint, "anything", "small") == ""


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n"


def change_weights(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file({key: change(tensor) for key, tensor in load_file(path).items()}, path)


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: [(f / name).unlink() for name in ("adapter_config.json", "adapter_model.safetensors")], "it is no text LoRA"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "cannot read"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"no"), "cannot read"),
        (lambda f: change_config(f, peft_type="LOHA"), "it is a LOHA"),
        (lambda f: change_config(f, modules_to_save=["lm_head"]), "trained with modules_to_save"),
        (lambda f: change_config(f, bias="all"), "trained biases"),
        (lambda f: change_config(f, init_lora_weights="olora"), "init_lora_weights: olora"),
        (
            lambda f: save_file({"lora_unet_x.lora_down.weight": torch.ones(1)}, f / "adapter_model.safetensors"),
            "of the image family.*text family",
        ),
        (
            lambda f: save_file({"transformer.transformer_blocks.0.lora_A.weight": torch.ones(1)}, f / "adapter_model.safetensors"),
            "image family",
        ),
        (
            lambda f: save_file({"base_model.model.lm_head.weight": torch.ones(1)}, f / "adapter_model.safetensors"),
            "which no plain LoRA has",
        ),
        (lambda f: save_file({"base_model.model.x.lora_A.weight": torch.ones(2, 2)}, f / "adapter_model.safetensors"), "x has no lora_B"),
        (lambda f: change_config(f, init_lora_weights="pissa_niter_4"), "init_lora_weights: pissa_niter_4"),  # drawn by lot when loaded
        (lambda f: change_config(f, use_dora=True), "says use_dora: true, and .* has no DoRA magnitudes"),
        (lambda f: change_config(f, lora_alpha=0), "0 is no strength"),
        (lambda f: change_weights(f, lambda tensor: tensor * torch.nan), "values that are no numbers"),
        (lambda f: change_weights(f, lambda tensor: tensor.to(torch.int8)), "holds int8, and weights are fractions"),
        (lambda f: change_weights(f, lambda tensor: tensor[:0]), "is empty"),
        (lambda f: (f / "adapter_model.safetensors").write_text(POINTER), "it was not downloaded: it is only a Git LFS pointer"),
        (lambda f: (f / "adapter_config.json").write_text(POINTER), "it was not downloaded: it is only a Git LFS pointer"),
        (
            lambda f: [
                change_config(f, peft_type="LOKR"),
                save_file({"base_model.model.model.layers.0.x.lokr_w1": torch.ones(2, 2)}, f / "adapter_model.safetensors"),
            ],
            "it is a LOKR",
        ),
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
        adopt_peft_folder(folder, make_config(lora_rank=4, init_lora=str(folder)), make_llama())
    with pytest.raises(UserError, match="has a start already"):
        adopt_peft_folder(folder, make_config(lora_start="pissa"), make_llama())


# -- going on from what there is in the wild -----------------------------------------------------------------------------


def make_theirs(place, net=None, **options):
    """An adapter that plain peft has made and somebody has trained, and what the model answers with it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    wrapped = get_peft_model(
        net or make_llama(), LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **options})
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
        answer = wrapped.eval()(input_ids=IDS).logits
    wrapped.save_pretrained(place)
    return answer


IDS = torch.arange(4, 30)[None]


def go_on(place, **options):
    """What the model answers with the adapter as a run would begin with it, and the run's config."""
    config = build(TextConfig, {"output_name": "cat", "init_lora": str(place), **options})
    net = make_llama()
    file = adopt_peft_folder(place, config, net)
    switches = {"use_rslora": config.use_rslora, "use_dora": config.use_dora, "start": config.lora_start, "dora_axis": "output"}
    made = AdapterSet(choose_text_targets(net, config), **switches)
    made.load(file.tensors)
    with made.attached([net]), torch.no_grad():
        answer = net(input_ids=IDS).logits
    return answer, config, made


WILD = {
    "regex": {"target_modules": r".*\.1\..*(q_proj|up_proj)"},
    "ranks by layer": {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "ranks by number": {"rank_pattern": {r"model.layers.0.self_attn.q_proj": 7}, "alpha_pattern": {"layers.0.self_attn.q_proj": 1}},
    "some layers": {"layers_to_transform": [1]},
    "one layer left out": {"exclude_modules": ["model.layers.0.self_attn.q_proj"]},
    "rslora": {"use_rslora": True, "rank_pattern": {"v_proj": 2}},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa with rslora": {"init_lora_weights": "pissa", "use_rslora": True},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}


@pytest.mark.parametrize("kind", WILD)
def test_whatever_peft_writes_is_gone_on_from_as_it_was(tmp_path, kind):
    theirs = make_theirs(tmp_path / "theirs", **WILD[kind])
    ours, config, made = go_on(tmp_path / "theirs")
    plain = make_llama()(input_ids=IDS).logits
    assert (theirs - plain).norm() > 1e-2
    assert (ours - theirs).norm() < 1e-3 * (theirs - plain).norm() + (2e-2 if "pissa" in kind else 0)
    again = build(
        TextConfig, {**{key: getattr(config, key) for key in ("rank_pattern", "alpha_pattern", "target_modules")}, "output_name": "x"}
    )
    assert choose_text_targets(make_llama(), again).keys() == made.targets.keys(), "a resumed run finds the same layers by its config"


@pytest.mark.parametrize("kind", ["ranks by layer", "ranks by number", "rslora", "pissa"])
def test_and_saved_so_that_peft_finds_it_again(tmp_path, kind):
    from peft import PeftModel

    theirs = make_theirs(tmp_path / "theirs", **WILD[kind])
    _, config, made = go_on(tmp_path / "theirs", save_precision="fp32")
    origin = Origin("small", "f", "", name_targets(make_llama(), made.targets), [])
    folder = write_peft_folder(made, tmp_path / "ours", config, origin, NOTES)
    loaded = PeftModel.from_pretrained(make_llama(), str(folder)).eval()
    torch.testing.assert_close(loaded(input_ids=IDS).logits, theirs, atol=3e-2 if kind == "pissa" else 1e-4, rtol=1e-3)


def test_weights_alone_are_gone_on_from_at_their_own_rank(tmp_path):
    make_theirs(tmp_path / "theirs", lora_alpha=4)
    (tmp_path / "theirs" / "adapter_model.safetensors").rename(tmp_path / "alone.safetensors")
    _, config, _ = go_on(tmp_path / "alone.safetensors")
    assert (config.lora_rank, config.alpha) == (4, 4.0)
    assert "says no alpha" in read_peft_folder(tmp_path / "alone.safetensors").notes[0]


def test_a_config_without_alpha_means_peft_s_own(tmp_path):
    theirs = make_theirs(tmp_path / "theirs", lora_alpha=8)
    path = tmp_path / "theirs" / "adapter_config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in ("lora_alpha", "r")}))
    ours, config, _ = go_on(tmp_path / "theirs")
    assert (config.lora_rank, config.alpha) == (4, 8.0)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(is_unsafe(), reason="this torch cannot read pickled files safely")
def test_old_files_and_adapters_names_in_keys_are_read(tmp_path):
    make_theirs(tmp_path / "theirs")
    flat = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    (tmp_path / "theirs" / "adapter_model.safetensors").unlink()
    torch.save({key.replace(".weight", ".default.weight"): value for key, value in flat.items()}, tmp_path / "theirs" / "adapter_model.bin")
    assert len(read_peft_folder(tmp_path / "theirs").tensors) == 4


def test_what_does_not_fit_the_model_or_the_options_is_said_with_both(tmp_path):
    make_theirs(tmp_path / "theirs")
    with pytest.raises(UserError, match="with target_modules q_proj: it has the layer model.layers.0.self_attn.v_proj"):
        go_on(tmp_path / "theirs", target_modules="q_proj")
    go_on(tmp_path / "theirs", target_modules="v_proj, q_proj")
    make_theirs(tmp_path / "wide", make_llama(inner=96), target_modules=["up_proj"])
    with pytest.raises(UserError, match="32 inputs and 96 outputs, and this model's has 32 and 64"):
        go_on(tmp_path / "wide")
    flat = {
        key.replace("self_attn", "attention"): value for key, value in load_file(tmp_path / "theirs" / "adapter_model.safetensors").items()
    }
    save_file(flat, tmp_path / "theirs" / "adapter_model.safetensors")
    with pytest.raises(UserError, match="which this model does not have"):
        go_on(tmp_path / "theirs")


def test_the_comparison_shows_answers_as_they_are(tmp_path):
    row = [(PreviewRequest("Why?\nReally?", 1, weight), Completion(text)) for weight, text in ((0.0, "No."), (1.0, "```\ncode\n```"))]
    text = write_comparison([row], tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "## Why? Really?" in text and "````\n```\ncode\n```\n````" in text
    assert Completion("é").save(tmp_path / "v1.5").read_text(encoding="utf-8") == "é" and (tmp_path / "v1.5.txt").exists()
