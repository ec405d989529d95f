import sys

import pytest

from salience.core import registry
from salience.core.errors import ConfigError

CARD = 'CARD = {"key": "tiny", "kind": "encoder", "title": "Tiny", "entry": "Tiny"}\n'


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that writes files of a plug-in package and makes it the only one."""
    root = tmp_path / "plugin_for_tests"
    root.mkdir()
    (root / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_packages", lambda: iter(["plugin_for_tests"]))
    registry._index.cache_clear()

    def write(**files):
        for name, text in files.items():
            (root / f"{name}.py").write_text(text, encoding="utf-8")

    yield write
    registry._index.cache_clear()
    for name in [m for m in sys.modules if m.startswith("plugin_for_tests")]:
        del sys.modules[name]


def test_cards_are_read_without_importing(plugin):
    plugin(tiny=CARD + 'raise RuntimeError("imported")\n')
    assert [card.key for card in registry.cards("encoder")] == ["tiny"]
    assert registry.card("encoder", "tiny").module == "plugin_for_tests.tiny"
    assert "plugin_for_tests.tiny" not in sys.modules


def test_load_returns_the_entry(plugin):
    plugin(tiny=CARD + "class Tiny: ...\n")
    assert registry.load("encoder", "tiny").__name__ == "Tiny"


def test_files_without_a_card_are_passed_over(plugin):
    plugin(a="x = 1\n", b="# the word CARD alone is no card\n")
    assert registry.cards() == []


def test_annotated_card_counts(plugin):
    plugin(tiny=CARD.replace("CARD =", "CARD: dict ="))
    assert [card.key for card in registry.cards()] == ["tiny"]


def test_unknown_name_suggests_the_nearest(plugin):
    plugin(tiny=CARD)
    with pytest.raises(ConfigError, match=r"Unknown encoder 'tyny'. Did you mean 'tiny'\? \[SAL-C002\]"):
        registry.card("encoder", "tyny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('CARD = {"key": "x", "kind": "encoder"}\n', "incomplete.*title, entry"),
        (CARD.replace("encoder", "encodr"), "unknown kind.*Did you mean 'encoder'"),
        ("CARD = dict(key=1)\n", "plugin_for_tests.broken.*literal"),
        ("CARD = [1]\n", "plugin_for_tests.broken.*dictionary"),
        ("CARD = {\n", "plugin_for_tests.broken.*not valid Python"),
    ],
)
def test_broken_cards_name_their_file(plugin, text, message):
    plugin(broken=text)
    with pytest.raises(ConfigError, match=message):
        registry.cards()


def test_two_files_with_one_name(plugin):
    plugin(a=CARD, b=CARD)
    with pytest.raises(ConfigError, match=r"'tiny'.*plugin_for_tests\.a and plugin_for_tests\.b"):
        registry.cards()


def test_absent_plugin_package_is_named(monkeypatch):
    monkeypatch.setattr(registry, "_packages", lambda: iter(["no_such_package_here"]))
    registry._index.cache_clear()
    try:
        with pytest.raises(ConfigError, match="no_such_package_here"):
            registry.cards()
    finally:
        registry._index.cache_clear()
