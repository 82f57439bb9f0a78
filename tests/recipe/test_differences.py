"""Recipes side by side: what differs, in words."""

from paretoscope.recipe.differences import ABSENT, changes, rows
from paretoscope.recipe.recipe import DEFAULTS, SETTINGS, Recipe

ONE = Recipe.of(sparsity=0.8, clusters=16)
OTHER = Recipe.of(sparsity=0.5, clusters=16, bits=8, overrides=[{"layers": "fc1*", "bits": 4}])


def test_each_recipe_has_a_word_for_each_setting() -> None:
    found = {row.name: row for row in rows([ONE, OTHER, Recipe()])}
    assert found["sparsity"].values == ("80 %", "50 %", "0 %") and found["sparsity"].differs
    assert found["clusters"].values == ("16", "16", "off")
    assert found["overrides"].values == (ABSENT, "fc1*: Quantization bits", ABSENT)
    assert found["start"].values[-1] == ABSENT and not found["start"].differs
    assert list(found) == [name for name in SETTINGS if name in found]


def test_changes_are_what_must_be_set_to_come_from_one_to_the_other() -> None:
    names = [row.name for row in changes(ONE, OTHER)]
    assert names == ["sparsity", "bits", "overrides"]
    settings = {**ONE.settings(), **{name: OTHER.settings()[name] for name in names}}
    assert Recipe.of(**settings) == OTHER
    assert changes(ONE, ONE) == []


def test_settings_that_nobody_uses_are_left_out() -> None:
    assert {row.name for row in rows([Recipe()])} < set(DEFAULTS)
    assert not any(row.differs for row in rows([ONE]))
    many = Recipe.of(overrides=[{"layers": f"fc{place}", "bits": 4} for place in range(3)])
    assert {row.name: row.values for row in rows([many])}["overrides"] == ("for 3 layers or patterns",)
