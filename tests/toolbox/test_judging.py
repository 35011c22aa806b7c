"""Judging: each checkpoint's losses are those of a model with it baked in, the model is afterwards as it was, and copies are found."""

import json
from types import SimpleNamespace

import pytest
import torch
from finished import train_tiny
from hotlora.cli import main
from hotlora.engine.options import build
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.toolbox.baking import bake
from hotlora.toolbox.copying import Spread
from hotlora.toolbox.judging import Judgement, applied, conclude
from PIL import Image


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
                yield f"{caption}.png", caption, latent

    def preview(self, request):
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
    nearest, control = spread.find_nearest(painter, 4)
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
