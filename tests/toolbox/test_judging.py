"""Judging: each checkpoint's losses are those of a model with it baked in, the model is afterwards as it was, and copies are found."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from finished import train_tiny
from hotlora.cli import main
from hotlora.engine.options import build
from hotlora.hosts.standalone.checkpoints.architecture import CONFIGS
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.hosts.standalone.likeness import Embedder
from hotlora.sd.config import ImageConfig
from hotlora.toolbox.baking import bake
from hotlora.toolbox.copying import Spread
from hotlora.toolbox.judging import Judgement, applied, conclude
from hotlora.toolbox.samples import Samples
from hotlora.toolbox.side_effects import SideEffects, Untouched
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, ViTConfig, ViTImageProcessor, ViTModel


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(config, folder) of a finished run with two checkpoints, on a tiny model."""
    folder = tmp_path_factory.mktemp("judged")
    options = {"learning_rate": 1e-2, "conv_rank": 2, "validation_split": 0.3, "validation_every_steps": 100, "sample_steps": 1}
    return train_tiny(folder, 8, **options), folder


def measure(config, base):
    other = build(ImageConfig, {**{key: getattr(config, key) for key in config.given}, "base_model": str(base)})
    trainee = DiffusersHost().borrow(other)
    for _ in trainee.prepare():
        pass
    with torch.no_grad():
        losses = [trainee.validation_loss(batch) for batch in trainee.validation_batches()]
    return sum(loss.total.item() for loss in losses) / sum(loss.count for loss in losses)


def test_losses_are_those_of_the_baked_model(world, capsys):
    config, folder = world
    assert main(["tool", "judge", str(folder / "run"), "--samples", "2"]) == 0
    told = json.loads((folder / "run" / "judgement.json").read_text(encoding="utf-8"))
    found = {one["label"]: one for one in told["checkpoints"]}
    assert list(found) == ["without", "step 2", "step 4", "finished"]
    final = folder / "run" / "run.safetensors"
    bake(folder / "base.safetensors", [final], [1.0], folder / "baked.safetensors")
    assert found["without"]["kept_back"] == pytest.approx(measure(config, folder / "base.safetensors"), rel=1e-5)
    assert found["finished"]["kept_back"] == pytest.approx(measure(config, folder / "baked.safetensors"), rel=1e-4)
    assert found["finished"]["kept_back"] == found["step 4"]["kept_back"] != found["step 2"]["kept_back"]
    assert len(found["finished"]["nearest"]) == 2 and found["finished"]["control"] > 0 and told["training pictures apart"] > 0
    assert told["verdict"] == capsys.readouterr().out.splitlines()[-1]


def test_the_model_is_as_it_was(world):
    config, folder = world
    trainee = DiffusersHost().borrow(config)
    before = {key: tensor.clone() for model in trainee.modules for key, tensor in model.state_dict().items()}
    with torch.no_grad(), applied(trainee, folder / "run" / "run.safetensors"):
        changed = [key for model in trainee.modules for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert len(changed) > 50
    assert all(torch.equal(tensor, before[key]) for model in trainee.modules for key, tensor in model.state_dict().items())


def test_a_run_without_files_is_a_sentence(tmp_path, world, capsys):
    assert main(["tool", "judge", str(tmp_path)]) == 2
    (tmp_path / "config.yaml").write_text((world[1] / "run" / "config.yaml").read_text())
    assert main(["tool", "judge", str(tmp_path)]) == 2
    assert "it has saved no LoRA yet" in capsys.readouterr().err


class Painter:
    """Stands in for a trainee: samples are what ``draw`` makes of a caption; latents are pixels in eighths."""

    config = SimpleNamespace(sample_seed=1)

    def __init__(self, draw, count=8):
        self.draw, self.model = draw, self
        self.pictures = {f"subject {number}": self.paint(number) for number in range(count)}

    def paint(self, seed):
        return torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    def known_examples(self, *, kept_back):
        for place, (caption, latent) in enumerate(self.pictures.items()):
            if (place % 4 == 3) == kept_back:
                yield Path(f"{caption}.png"), caption, latent

    def preview(self, request):
        self.seed = request.seed - self.config.sample_seed
        values = ((self.draw(self, request.prompt)[:3].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return SimpleNamespace(picture=Image.fromarray(values.permute(1, 2, 0).numpy()))

    def encode_pixels(self, pixels):
        return torch.cat([pixels, pixels[:, :1]], 1), None


def by_heart(painter, caption):
    """What was trained comes out again; of the rest it knows nothing."""
    trained = {caption: latent for _, caption, latent in painter.known_examples(kept_back=False)}
    return trained.get(caption, painter.paint(hash_of(caption) + 100))


def freely(painter, caption):
    """Something else for every caption."""
    return painter.paint(hash_of(caption) + 1000)


def knowing(painter, caption):
    """Near to any picture of that caption, trained or not, as of subjects that the model always knew."""
    return 0.8 * painter.pictures[caption] + 0.2 * painter.paint(hash_of(caption) + 1000)


def hash_of(caption):
    return int(caption.split()[1])


@pytest.mark.parametrize(("draw", "copies"), [(by_heart, 4), (freely, 0), (knowing, 0)])
def test_what_was_learned_by_heart_is_found_and_nothing_else(draw, copies):
    painter = Painter(draw)
    for latent in painter.pictures.values():
        latent[3] = latent[0]
    spread = Spread.of(painter)
    nearest, control = spread.find_nearest(Samples(painter), 4)
    assert sum(near.is_copy for near in nearest) == copies and control is not None
    if copies:
        assert all(near.picture == f"{near.prompt}.png" for near in nearest)
        assert "copies subject" in conclude([Judgement("without", 1.0, 1.0), Judgement("step 1", 0.1, 0.5, nearest)], spread)


def test_the_verdict_names_the_best_and_what_comes_after():
    without, first = Judgement("without", 1.0, 1.0), Judgement("step 100", 0.5, 0.6)
    assert "Step 100 is the best" in conclude([without, first, Judgement("step 200", 0.3, 0.7)], None)
    assert "from step 200 on" in conclude([without, first, Judgement("step 200", 0.3, 0.7)], None)
    assert "overfitting" not in conclude([without, first, Judgement("step 200", 0.3, 0.6)], None)
    assert "does better" in conclude([without, Judgement("step 100", 0.5, 1.1)], None)
    assert "Nothing was kept back" in conclude([Judgement("without", 1.0, None), Judgement("step 100", 0.5, None)], None)


def draw_seeds(wide, moved):
    """A painter whose seeds differ by ``wide``, and whose pictures are moved by what ``moved`` says of the prompt."""

    def draw(painter, prompt):
        apart = painter.paint(painter.seed + 5000)
        return painter.paint(7) * 0.3 + wide * apart + moved(prompt)

    return Samples(Painter(draw))


def test_samples_that_are_all_alike_and_a_lora_that_works_unasked_are_found():
    captions, triggers = ["zwx, a red hat", "zwx dog", "zwx cat"], ["zwx"]
    alone = Untouched(draw_seeds(0.3, lambda prompt: 0.0), captions, triggers)
    healthy = alone.compare(draw_seeds(0.3, lambda prompt: 0.3 if "zwx" in prompt else 0.03))
    assert healthy.variety == pytest.approx(1, abs=0.1) and healthy.leak == pytest.approx(0.1, abs=0.03)
    broken = alone.compare(draw_seeds(0.03, lambda prompt: 0.3))
    assert broken.variety == pytest.approx(0.1, abs=0.03) and broken.leak == pytest.approx(1, abs=0.1)
    assert alone.compare(draw_seeds(0.3, lambda prompt: 0.0)).leak is None  # nothing changes with it either
    assert Untouched(draw_seeds(0.3, lambda prompt: 0.0), ["a dog"], []).compare(draw_seeds(0.3, lambda prompt: 0.3)).leak is None
    without = Judgement("without", 1.0, 1.0)
    said = conclude([without, Judgement("step 1", 0.9, 0.9, effects=healthy), Judgement("step 2", 0.8, 0.8, effects=broken)], None)
    assert "From step 2 on, samples of one prompt are all much alike" in said and "From step 2 on, pictures without the trigger" in said
    assert "From" not in conclude([without, Judgement("step 1", 0.9, 0.9, effects=SideEffects())], None)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a tiny CLIP of random weights."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(str(CONFIGS / "tokenizer"))
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(tokenizer)}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    seen = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=seen, projection_dim=16)).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_likeness_is_what_clip_says(clip):
    pictures = [Image.effect_noise((40, 40), 90).convert("RGB"), Image.new("RGB", (64, 48), "teal")]
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    pixels = CLIPImageProcessor.from_pretrained(clip)(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model(**tokenizer(["a hat", "dog"], padding=True, return_tensors="pt"), pixel_values=pixels)
        eyes = Embedder(clip)
        found = eyes.compare(eyes.of_pictures(pictures[:1]), {"a hat": pictures[0], "dog": pictures[1]})
        whole = eyes.of_texts(["word " * 200])  # more than it reads
    images, words = expected.image_embeds, expected.text_embeds
    assert found.likeness == pytest.approx((1 + images[0] @ images[1]).item() / 2, abs=1e-5) and whole.shape == (1, 16)
    assert found.fidelity == pytest.approx((images * words).sum(-1).mean().item(), abs=1e-5)


def test_a_model_of_pictures_alone_judges_likeness(tmp_path):
    torch.manual_seed(0)
    sides = {"image_size": 28, "patch_size": 14, "hidden_size": 32, "intermediate_size": 64}
    ViTModel(ViTConfig(**sides, num_hidden_layers=2, num_attention_heads=2)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    picture = Image.effect_noise((40, 40), 90).convert("RGB")
    with torch.no_grad():
        eyes = Embedder(tmp_path)
        found = eyes.compare(eyes.of_pictures([picture]), {"a hat": picture})
    assert found.likeness == pytest.approx(1, abs=1e-5) and found.fidelity is None


def test_samples_are_seen_by_the_model_that_is_named(world, clip, tmp_path, capsys):
    run = str(world[1] / "run")
    assert main(["tool", "judge", run, "--samples", "1", "--embedder", str(tmp_path)]) == 2
    assert "cannot judge likeness" in capsys.readouterr().err
    assert main(["tool", "judge", run, "--samples", "1", "--embedder", str(clip)]) == 0
    last = json.loads((world[1] / "run" / "judgement.json").read_text(encoding="utf-8"))["checkpoints"][-1]
    assert -1 <= last["alike"]["likeness"] <= 1 and -1 <= last["alike"]["fidelity"] <= 1 and last["effects"]["leak"] is None
    assert "likeness to the training pictures" in capsys.readouterr().out
