"""The run files people start from are valid, name only keys there are, and are what they claim."""

from pathlib import Path

import pytest
from hotlora.engine.config import RunConfig
from hotlora.engine.options import build
from hotlora.engine.yaml_file import read_yaml
from hotlora.llm.config import TextConfig
from hotlora.sd.config import ImageConfig

ROOT = Path(__file__).resolve().parents[1]
FILES = [*sorted((ROOT / "configs").glob("*.yaml")), ROOT / "demo" / "demo.yaml"]
TEXTS = {"faq", "fixed_format", "tone_of_voice", "continued_text"}
SCENARIOS = {"my_lora", "style", "character", "small_data", "quick_try", "two_concepts", "sdxl_style", *TEXTS}


def read_any(path: Path) -> RunConfig:
    return build(TextConfig if path.stem in TEXTS else ImageConfig, read_yaml(path))


def read(name: str) -> ImageConfig:
    return build(ImageConfig, read_yaml(ROOT / name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_run_file_is_valid_and_explained(path):
    config = read_any(path)
    assert config.base_model and config.train_data_dir and config.sample_prompts
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#") and all(len(line) <= 140 for line in text.splitlines())


def test_every_scenario_has_its_file_and_its_own_output():
    assert {path.stem for path in FILES} == SCENARIOS | {"demo"}
    outputs = [read_any(path).output_dir for path in FILES]
    assert len(set(outputs)) == len(outputs)


def test_the_recipes_table_says_what_the_files_say():
    """Rate, rank, alpha and length: stated in the file, repeated in the table."""
    rows = [line.split("|") for line in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").splitlines() if ".yaml` | " in line]
    told = {cells[2].strip(" `"): (cells[3].strip(), cells[4].strip()) for cells in rows if " / " in cells[3]}
    told_length = {cells[2].strip(" `"): cells[5].strip() for cells in rows if " / " in cells[3]}
    assert len(told) == 6
    for name, (sizes, rate) in told.items():
        config = read(f"configs/{name}")
        assert sizes == f"{config.lora_rank} / {config.alpha:g}"
        assert float(rate.split(",")[0]) == config.learning_rate
        bounds = (
            f"{config.epochs} epochs, {config.least_steps}–{config.most_steps} steps" if config.least_steps else f"{config.max_steps} steps"
        )
        size = config.batch_size * config.gradient_accumulation_steps
        assert told_length[name] == ("until validation loss rises" if config.early_stopping_patience else f"{bounds} of {size}")


def test_my_lora_has_the_keys_that_lora_scripts_users_know():
    known = "train_data_dir metadata_path base_model task_type lora_rank lora_alpha batch_size epochs learning_rate"
    assert read("configs/my_lora.yaml").given >= {*known.split(), "optimizer", "scheduler", "output_dir", "save_steps"}


def test_only_the_character_file_trains_the_text_encoder():
    training = {path.stem for path in FILES if path.stem not in TEXTS and build(ImageConfig, read_yaml(path)).train_text_encoder}
    assert training == {"character"}


def test_demo_prompts_are_subjects_that_the_style_was_not_trained_on():
    config = read("demo/demo.yaml")
    trained = {path.stem.replace("-", " ") for path in (ROOT / config.train_data_dir).glob("*.png")}
    unseen = {path.stem.replace("-", " ") for path in (ROOT / "demo" / "pictures" / "unseen-style").glob("*.png")}
    assert len(trained) == len(unseen) == 40 and not trained & unseen
    assert set(config.sample_prompts) <= unseen
    assert (ROOT / config.base_model).stat().st_size > 20_000_000
