"""Options from YAML and the command line: what is accepted, and what people are told about what is not."""

import pytest
import yaml
from hotlora.engine.config import RunConfig
from hotlora.engine.errors import UserError
from hotlora.engine.options import as_plain, build, groups_of, markdown_table, options_of
from hotlora.engine.values import default_of
from hotlora.pictures.config import PictureConfig
from hotlora.sd.config import ImageConfig
from hotlora.tasks import TASKS


def test_unknown_key_names_the_nearest_known_one():
    with pytest.raises(UserError, match="'learning_rat'.*Did you mean 'learning_rate'"):
        build(ImageConfig, {"learning_rat": 1e-4})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 0}, "epochs to 0: it must be at least 1"),
        ({"epochs": 1.5}, "a whole number"),
        ({"epochs": True}, "a whole number"),
        ({"learning_rate": "fast"}, "takes a number"),
        ({"optimizer": "Adam"}, "one of AdamW"),
        ({"validation_split": 2}, "between 0 and 0.9"),
        ({"use_dora": "perhaps"}, "true or false"),
        ({"sample_prompts": 7}, "a list"),
        ({"output_name": "a:b"}, "cannot name the LoRA 'a:b'"),
        ({"early_stopping_patience": 3}, "without validation"),
        ({"min_timestep": 500, "max_timestep": 500}, "there are none"),
        ({"train_unet": False}, "cannot train nothing"),
        ({"network_type": "loha", "use_dora": True}, "DoRA with loha"),
    ],
)
def test_bad_values_are_named(values, said):
    with pytest.raises(UserError, match=said):
        build(ImageConfig, values)


def test_yaml_numbers_and_words_are_read_as_people_mean_them():
    values = yaml.safe_load("learning_rate: 1e-4\nuse_dora: yes\noutput_name: 7\nsample_prompts: a cat\nmin_snr_gamma: null\nepochs: 3.0")
    config = build(ImageConfig, values)
    assert config.learning_rate == 1e-4 and config.use_dora is True and config.name == "7"
    assert config.sample_prompts == ["a cat"] and config.min_snr_gamma is None and config.epochs == 3
    assert config.given == set(values) - {"min_snr_gamma"}, "what is empty is not given"


def test_written_config_reads_back_the_same():
    config = build(ImageConfig, {"output_dir": "übung/рун", "sample_prompts": ["a", "b"], "block_ranks": {"mid_block": 4}})
    assert build(ImageConfig, yaml.safe_load(yaml.safe_dump(as_plain(config), allow_unicode=True))) == config


def test_alpha_is_the_rank_when_not_set():
    assert build(RunConfig, {"lora_rank": 12}).alpha == 12.0
    assert build(RunConfig, {"lora_rank": 12, "lora_alpha": 6}).alpha == 6.0


def test_every_option_is_documented_and_in_the_table():
    table = markdown_table(ImageConfig)
    for name, field in options_of(ImageConfig).items():
        assert len(field.metadata["doc"]) > 10, name
        assert table.count(f"| `{name}` |") == 1
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(options_of(ImageConfig))
    assert all(row.count("|") == 4 for row in rows), "a bar in a cell would begin another one"
    assert [line[4:] for line in table.splitlines() if line.startswith("### ")] == list(groups_of(ImageConfig))


def test_options_that_another_class_has_told_are_left_out_with_their_headings():
    table = markdown_table(PictureConfig, RunConfig)
    assert "`lora_rank`" not in table and "### Learning" not in table
    assert "### Pictures" in table and "`resolution`" in table


def test_lists_and_mappings_are_not_shared_between_configs():
    first, second = ImageConfig(), ImageConfig()
    first.sample_prompts.append("x")
    assert second.sample_prompts == []


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_a_list_says_what_it_holds(task):
    """Its default goes through YAML and the page unchanged."""
    defaults = {name: default_of(field) for name, field in options_of(task.config_class).items()}
    lists = {name: value for name, value in defaults.items() if isinstance(value, list)}
    assert "sheet_weights" in lists and as_plain(build(task.config_class, lists)) == as_plain(build(task.config_class, {}))
