"""The same LoRA in every form: what diffusers and peft make of it, and whether `check` says so beforehand."""

import pytest
import torch
from diffusers.utils import USE_PEFT_BACKEND
from hotlora.cli import main
from hotlora.sd.readers import judge_image_lora
from hotlora.toolbox.looking import check
from lora_files import BUILDERS, dense_of, make_layers, save, write
from safetensors.torch import load_file, save_file
from tiny import tiny_sd1, tiny_sdxl

FOLDERS = {"sd1": tiny_sd1, "sdxl": tiny_sdxl}
with_peft = pytest.mark.skipif(not USE_PEFT_BACKEND, reason="diffusers loads LoRA files only beside transformers 4.34 or newer")


def use(*words):
    return main(["tool", *map(str, words)])


@pytest.fixture(scope="module", params=FOLDERS)
def world(request, tmp_path_factory):
    """(family, folder, layers of the U-Net, the same LoRA as each form has it, and with an alpha of its own in each layer)."""
    family, folder = request.param, tmp_path_factory.mktemp(request.param)
    layers = make_layers(family, BUILDERS[family](), text=False)
    odd = write(folder / "odd.safetensors", layers)
    files = {"odd": odd}
    for form in ("kohya", "diffusers", "peft"):
        files[form] = folder / (form if form == "peft" else f"{form}.safetensors")
        assert use("convert", odd, "--family", family, "--to", form, "--output", files[form]) == 0
    return family, folder, layers, files


def output_of(unet):
    sizes = {"text_embeds": torch.ones(1, 64), "time_ids": torch.ones(1, 6)} if unet.config.addition_embed_type else None
    with torch.no_grad():
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        context = torch.randn(1, 5, unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(4))
        return unet(noisy, torch.tensor([500]), encoder_hidden_states=context, added_cond_kwargs=sizes, return_dict=False)[0]


@with_peft
def test_diffusers_and_peft_load_every_form_to_the_same(world, tmp_path):
    from diffusers import DiffusionPipeline
    from peft import PeftModel

    family, folder, layers, files = world
    by_hand = BUILDERS[family]()["unet"]
    plain = output_of(by_hand)
    with torch.no_grad():
        for layer in layers:
            by_hand.get_submodule(layer.path).weight += layer.dense()
    wanted = output_of(by_hand)
    assert (wanted - plain).abs().max() > 1e-2
    model = FOLDERS[family](tmp_path / "model")
    for form in ("kohya", "diffusers"):
        pipeline = DiffusionPipeline.from_pretrained(model, local_files_only=True, safety_checker=None, requires_safety_checker=False)
        pipeline.load_lora_weights(str(folder), weight_name=files[form].name)
        torch.testing.assert_close(output_of(pipeline.unet), wanted, atol=1e-4, rtol=1e-4)
    pipeline = DiffusionPipeline.from_pretrained(model, local_files_only=True, safety_checker=None, requires_safety_checker=False)
    pipeline.load_lora_weights(str(folder), weight_name="odd.safetensors")  # what `check` warns of
    assert (output_of(pipeline.unet) - wanted).abs().max() > 1e-3
    wrapped = PeftModel.from_pretrained(BUILDERS[family]()["unet"], str(files["peft"] / "unet"))
    torch.testing.assert_close(output_of(wrapped.base_model.model), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["diffusers", "peft"])
def test_converted_back_it_is_the_same_change(world, form, tmp_path):
    family, _, layers, files = world
    source = files[form] / "unet" if form == "peft" else files[form]
    output = tmp_path / "back.safetensors"
    assert use("convert", source, "--family", family, "--to", "kohya", "--output", output) == 0
    made = load_file(output)
    assert {key.partition(".")[0] for key in made} == {layer.name for layer in layers}
    for layer in layers:
        torch.testing.assert_close(dense_of(made, layer.name, layer.shape), layer.dense(), atol=1e-5, rtol=1e-4)


def test_check_says_who_loads_which_form(world):
    family, _, layers, files = world
    told = {form: check(path / "unet" if form == "peft" else path, family) for form, path in files.items()}
    programs = ("AUTOMATIC1111", "Forge", "ComfyUI", "diffusers", "peft")
    for lines in told.values():
        assert [line.partition(":")[0] for line in lines] == list(programs)
    whole = {form: {line.partition(":")[0] for line in lines if f"loads all {len(layers)} layers." in line} for form, lines in told.items()}
    assert whole == {"kohya": set(programs[:4]), "diffusers": {"diffusers"}, "peft": {"peft"}, "odd": set(programs[:3])}
    assert "some have another" in told["odd"][3]
    assert "ends at the first dot" not in told["kohya"][0] and "first dot" in told["diffusers"][0]
    assert "does not load it" in told["diffusers"][1] and "Dropped" in told["diffusers"][2] and ".processor." in told["diffusers"][2]


def shapes_of(path):
    return {key: tuple(tensor.shape) for key, tensor in load_file(path).items()}


@with_peft
@pytest.mark.parametrize("case", ["loha", "dora", "embeddings", "strange tensor"])
def test_what_check_refuses_for_diffusers_it_does_refuse(case, tmp_path):
    from diffusers import StableDiffusionPipeline

    layers = make_layers("sd1", BUILDERS["sd1"](), conv=False, text=False)
    tensors = {key: tensor for layer in layers for key, tensor in layer.tensors().items()}
    name, layer = layers[0].name, layers[0]
    if case == "loha":
        tensors = {f"{name}.hada_{part}": torch.ones(2, 2) for part in ("w1_a", "w1_b", "w2_a", "w2_b")}
    elif case == "dora":  # of a feed-forward layer too, whose inputs are not as many as its outputs
        tensors |= {f"{one.name}.dora_scale": torch.ones(1, *one.shape[1:2], *[1] * (len(one.shape) - 2)) for one in layers}
    elif case == "embeddings":
        tensors["bundle_emb.word.string_to_param.*"] = torch.ones(1, 32)
    else:
        tensors[f"{name}.diff_b"] = torch.ones(layer.shape[0])
    path = save(tmp_path / "a.safetensors", tensors)
    verdict = next(found for found in judge_image_lora(shapes_of(path), "sd1") if found.program == "diffusers")
    assert verdict.fails, str(verdict)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd1(tmp_path / "model"), safety_checker=None, requires_safety_checker=False)
    if case == "dora":
        pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
        assert not any("magnitude" in name for name, _ in pipeline.unet.named_parameters())
        return
    with pytest.raises((ValueError, RuntimeError, KeyError)):
        pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")


def test_check_knows_each_programs_limits():
    """What was read from AUTOMATIC1111's, Forge's and ComfyUI's own code."""
    attention = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    lora = {"lora_down.weight": (4, 8), "lora_up.weight": (8, 4), "alpha": ()}

    def judge(names, tensors=lora, family="sdxl", **more):
        shapes = {f"{name}.{end}": shape for name in names for end, shape in tensors.items()} | more
        return {verdict.program: verdict for verdict in judge_image_lora(shapes, family)}

    assert all(verdict.is_whole for program, verdict in judge([attention]).items() if program != "peft")
    by_path = judge([attention, "lora_unet_up_blocks_0_upsamplers_0_conv"])
    assert "CompVis" in str(by_path["AUTOMATIC1111"]) and by_path["ComfyUI"].is_whole
    assert "loads 1 of 2 layers" in str(judge([attention, "lora_te_text_model_encoder_layers_0_mlp_fc1"])["AUTOMATIC1111"])
    alien = judge([attention, *(f"lora_unet_double_blocks_{number}_img_attn_qkv" for number in range(5))])
    assert "another model's" in alien["Forge"].fails and "loads 1 of 6" in str(alien["ComfyUI"])
    assert "no such layer" in str(alien["AUTOMATIC1111"])
    rows = judge([attention], {**lora, "dora_scale": (8, 1)})
    assert "per input" in rows["AUTOMATIC1111"].fails and rows["Forge"].is_whole
    half = judge([attention], {"lora_up.weight": (8, 4)})
    assert "ends with an error" in half["AUTOMATIC1111"].fails
    tucker = {"lokr_w1": (2, 2), "lokr_w2_a": (2, 4), "lokr_w2_b": (2, 4), "lokr_t2": (2, 2, 3, 3)}
    found = judge(["lora_unet_input_blocks_4_0_in_layers_2"], tucker)
    assert found["AUTOMATIC1111"].is_whole and found["Forge"].fails and found["diffusers"].fails
    bundled = judge([attention], **{"bundle_emb.word.string_to_param.*": (1, 8)})
    assert bundled["AUTOMATIC1111"].is_whole and "no embeddings" in str(bundled["ComfyUI"])


def test_check_says_what_is_damaged_and_every_program_loads(tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    sound = {f"{name}.lora_down.weight": torch.ones(4, 320), f"{name}.lora_up.weight": torch.ones(320, 4)}
    spoilt = {
        "hold values that are no numbers": {f"{name}.lora_up.weight": torch.full((320, 4), torch.nan)},
        "hold no fractions": {f"{name}.lora_up.weight": torch.ones(320, 4, dtype=torch.int8)},
        "are of two ranks": {f"{name}.lora_up.weight": torch.ones(320, 8)},
    }
    save_file(sound, tmp_path / "sound.safetensors")
    assert not any(line.startswith("Damaged") for line in check(tmp_path / "sound.safetensors"))
    for what, changed in spoilt.items():
        save_file(sound | changed, tmp_path / "spoilt.safetensors")
        assert check(tmp_path / "spoilt.safetensors")[0].startswith(f"Damaged: 1 of its tensors {what} ({name}")


@pytest.mark.parametrize("prefix", ["diffusion_model.blocks.0.self_attn.q", "transformer_blocks.0.attn.to_q"])
def test_loras_of_other_image_models_are_no_text(tmp_path, prefix, capsys):
    save_file({f"{prefix}.lora_A.weight": torch.ones(4, 64), f"{prefix}.lora_B.weight": torch.ones(64, 4)}, tmp_path / "it.safetensors")
    for tool in ("info", "check"):
        assert use(tool, tmp_path / "it.safetensors") == 2
        assert "Choose one for SD 1.x, SD 2.x, SDXL." in capsys.readouterr().err
