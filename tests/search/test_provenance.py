"""Where a configuration came from, as far as it can be told."""

from paretoscope.recipe.presets import preset_for, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.provenance import Source, family, provenance

MODEL = "lenet-300-100"
TINY = preset_for("tiny", MODEL).recipe
MOVED = TINY.with_setting("sparsity", 0.7)


def test_a_preset_is_known() -> None:
    for preset in presets_of(MODEL):
        found = provenance(MODEL, preset.recipe)
        if preset.name == "baseline":
            assert found.source is Source.BASELINE
            continue
        assert (found.near, found.changes) == (preset.name, ())
        assert found.source is (Source.PRESET if preset.recipe.recover is None else Source.TRAINING)
        assert preset.title in found.told


def test_sources_are_told_only_where_they_are_known() -> None:
    assert provenance(MODEL, MOVED).source is Source.UNKNOWN
    assert provenance(MODEL, MOVED, tried=[MOVED.digest]).source is Source.SLIDERS
    assert provenance(MODEL, MOVED, tried=[MOVED.digest], searched=[MOVED.digest]).source is Source.SEARCH
    assert provenance(MODEL, Recipe.of(sparsity=0.5, epochs=2)).source is Source.TRAINING


def test_the_nearest_preset_is_named_with_what_differs() -> None:
    found = provenance(MODEL, MOVED)
    assert found.near == "tiny" and [(row.name, row.values) for row in found.changes] == [
        ("sparsity", ("80 %", "70 %"))
    ]
    assert found.told.endswith("nearest preset Tiny, but Pruning sparsity 80 % → 70 %")
    far = provenance(MODEL, Recipe.of(sparsity=0.4, clusters=5, bits=3, rarest=2, rest="fp16"))
    assert (far.near, far.changes) == ("", ())


def test_a_configuration_descends_from_the_nearest_before_it() -> None:
    further = MOVED.with_setting("bits", 7)
    far = Recipe.of(sparsity=0.4, clusters=5, bits=3, rarest=2, rest="fp16")
    members = [(MODEL, each) for each in (Recipe(), TINY, MOVED, further, far)] + [("lenet-5", further)]
    found = family(members, [provenance(*each) for each in members])
    assert [(each.parent, each.preset) for each in found[:4]] == [(None, ""), (None, ""), (1, ""), (2, "")]
    assert [row.name for row in found[3].changes] == ["bits"]
    assert (found[4].parent, found[4].preset, found[4].changes) == (None, "", ())
    # Of another model's configurations nothing descends; what it is near to there is its own model's preset.
    assert found[5].parent is None


def test_what_is_trained_descends_from_the_same_without() -> None:
    trained = Recipe.of(sparsity=0.4, bits=5, epochs=2)
    members = [(MODEL, trained.untrained), (MODEL, trained)]
    assert [(each.parent, each.trained) for each in family(members, [provenance(*each) for each in members])] == [
        (None, False),
        (0, True),
    ]
