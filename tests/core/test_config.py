from dataclasses import dataclass, field

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from salience.core import config
from salience.core.errors import ConfigError


@dataclass
class Training:
    epochs: int = 3
    rate: float = 0.1
    clip: float | None = None


@dataclass
class Options:
    seed: int = 0
    names: tuple[str, ...] = ()
    training: Training = field(default_factory=Training)


def test_build_nests_and_converts():
    built = config.build(Options, {"names": ["a", "b"], "training": {"rate": 1, "clip": None}})
    assert built == Options(names=("a", "b"), training=Training(rate=1.0))
    assert isinstance(built.training.rate, float)


def test_unknown_option_names_its_path_and_the_nearest():
    with pytest.raises(ConfigError, match=r"'training\.epoch'.*Did you mean 'epochs'.*SAL-C001"):
        config.build(Options, {"training": {"epoch": 1}})


@pytest.mark.parametrize(
    "values",
    [
        {"seed": "1"},
        {"seed": True},
        {"seed": 1.5},
        {"training": 3},
        {"training": {"clip": "x"}},
        {"names": "ab"},
    ],
)
def test_wrong_type_is_refused(values):
    with pytest.raises(ConfigError, match="wrong type"):
        config.build(Options, values)


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "+1E-3", "0.001", ".1e-2"])
def test_numbers_may_have_an_exponent(text):
    built = config.build(Options, config.parse_assignments([f"training.clip={text}"]))
    assert built.training.clip == 1e-3


def test_assignments_are_yaml_and_nest():
    parsed = config.parse_assignments(["training.epochs=5", "training.clip=null", "names=[a, b]", "x=a=b"])
    assert parsed == {"training": {"epochs": 5, "clip": None}, "names": ["a", "b"], "x": "a=b"}


@pytest.mark.parametrize("text", ["epochs", "=3", " =3"])
def test_assignment_without_key_or_sign(text):
    with pytest.raises(ConfigError, match="key=value"):
        config.parse_assignments([text])


def test_assignment_to_a_value_and_below_it():
    with pytest.raises(ConfigError, match="set twice"):
        config.parse_assignments(["training=1", "training.epochs=2"])


def test_unreadable_value():
    with pytest.raises(ConfigError, match="cannot be read"):
        config.parse_assignments(["a=[1"])


def test_merge_is_deep_and_later_wins_without_touching_its_inputs():
    first, second = {"a": {"x": 1, "y": 1}, "b": 1}, {"a": {"y": 2}, "b": {"z": 3}}
    assert config.merge(first, second) == {"a": {"x": 1, "y": 2}, "b": {"z": 3}}
    assert first == {"a": {"x": 1, "y": 1}, "b": 1}


nested = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)
mappings = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


@given(mappings, mappings, mappings)
def test_merge_of_three_is_merge_of_merges(a, b, c):
    assert config.merge(a, b, c) == config.merge(config.merge(a, b), c)


@given(mappings)
def test_merge_with_nothing_changes_nothing(a):
    assert config.merge(a, {}) == config.merge({}, a) == a


def test_yaml_round_trip(tmp_path):
    options = Options(seed=7, names=("ü",))
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(options), encoding="utf-8")
    assert config.build(Options, config.read_yaml(path)) == options


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [1", "not YAML"), (b"- 1", "not a mapping"), (b"\xff\xfe", "cannot be read")],
)
def test_bad_yaml_files(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        config.read_yaml(path)


def test_absent_yaml_file(tmp_path):
    with pytest.raises(ConfigError, match="Check the path"):
        config.read_yaml(tmp_path / "none.yaml")


def test_yaml_builds_no_objects(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: !!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(ConfigError, match="not YAML"):
        config.read_yaml(path)
    assert yaml.safe_load(config.to_yaml(Options()))["seed"] == 0
