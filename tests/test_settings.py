"""Options: presets, those for tables alone, names of parts, and what is asked for wins."""

import pytest

from salience.core.errors import ConfigError
from salience.settings import (
    PRESETS,
    config_from_dict,
    config_to_dict,
    for_kinds,
    make_config,
    training_for,
)

TABLE = {"number", "category"}


def resolved(*overrides, preset="best", kinds=TABLE, **options):
    return for_kinds(make_config(preset, None, list(overrides), **options), set(kinds))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kinds", [("text",), ("text", "number"), ("image", "category")], ids="+".join)
def test_options_for_tables_change_nothing_where_texts_or_images_are_read(preset, kinds):
    config = make_config(preset)
    found = for_kinds(config, set(kinds))
    assert config_to_dict(found) == config_to_dict(config) | {"tables": {}}
    assert found.model.fusion.name == "concat"


def test_the_best_preset_reads_tables_with_members():
    config = resolved()
    assert config.model.fusion.name == "tabm_mini"
    assert config.model.number.name == "piecewise_linear"
    assert config.model.hidden is None
    assert (config.training.patience, config.training.warmup, config.training.floor) == (16, 0.0, 1.0)
    assert config.tables == {}


def test_options_are_put_in_place_once():
    config = resolved()
    assert for_kinds(config, TABLE) is config


@pytest.mark.parametrize("preset", ["fast", "good"])
def test_other_presets_are_the_same_for_tables(preset):
    assert make_config(preset).tables == {}


def test_what_is_asked_for_wins():
    config = resolved("training.epochs=4", "training.learning_rate=0.5", "model.hidden=[9]")
    assert (config.training.epochs, config.training.learning_rate, config.min_updates) == (4, 0.5, 0)
    assert training_for(config, TABLE, 100).epochs == 4
    assert config.model.hidden == [9] or config.model.hidden == (9,)
    assert config.training.batch_size == PRESETS["best"]["tables"]["training"]["batch_size"]


def test_another_part_brings_arguments_of_its_own():
    config = resolved("model.fusion=mlp", "model.number=PLR")
    assert (config.model.fusion.name, config.model.fusion.args) == ("mlp", {})
    assert config.model.number.name == "periodic"
    assert "n_bins" not in config.model.number.args


def test_arguments_of_the_same_part_are_joined():
    config = resolved("model.fusion.name=tabm_mini", "model.fusion.args.members=4", "model.number.args.dim=8")
    assert config.model.fusion.args == {"width": 256, "members": 4}
    assert config.model.number.args == {"dim": 8, "n_bins": 48, "scaling": "quantile"}


def test_a_part_may_be_named_alone():
    config = make_config("good", None, ["model.fusion=resnet", "model.number=piecewise_linear"])
    assert (config.model.fusion.name, config.model.number.name) == ("resnet", "piecewise_linear")


def test_a_backbone_has_no_hidden_layer_behind_it_from_a_preset():
    assert make_config("fast").model.hidden == (64,)
    assert make_config("fast", None, ["model.fusion=mlp"]).model.hidden is None


def test_a_saved_configuration_is_the_same_again(tmp_path):
    import yaml

    for config in (resolved(), make_config("best"), resolved("model.fusion=mlp")):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config_to_dict(config)))
        assert config_from_dict(config_to_dict(config)) == config
        again = for_kinds(make_config(file=path), TABLE)
        assert config_to_dict(again) == config_to_dict(for_kinds(config, TABLE))


def test_options_of_ones_own_for_tables(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("tables: {model: {fusion: {name: resnet}}, training: {patience: 7}}")
    config = for_kinds(make_config(file=path), TABLE)
    assert (config.model.fusion.name, config.training.patience) == ("resnet", 7)


def test_wrong_options_for_tables_are_told_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("tables: {training: {patiense: 7}}")
    with pytest.raises(ConfigError, match="patience"):
        make_config(file=path)


def test_a_small_table_gets_enough_updates_and_patience():
    training = training_for(resolved(), TABLE, 300)
    assert training.epochs * 2 >= 1200
    assert training.patience >= training.epochs // 6
    large = training_for(resolved(), TABLE, 50_000)
    assert (large.epochs, large.patience) == (300, 16)
