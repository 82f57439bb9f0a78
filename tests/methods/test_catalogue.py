import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.base.errors import UnknownNameError
from paretoscope.methods.catalogue import found, methods, of_setting
from paretoscope.recipe.recipe import BITS, SETTINGS, STEPS, Override, Recipe

examples = settings(derandomize=True, deadline=None, database=None, max_examples=200)

PRUNING = st.sampled_from([{}, {"sparsity": 0.5}, {"threshold": 0.01}, {"pattern": "2:4"}])
OTHERS = {
    "nodes": st.sampled_from([0.0, 0.5]),
    "blocks": st.sampled_from([0, 1]),
    "fold": st.booleans(),
    "energy": st.sampled_from([1.0, 0.9]),
    "clusters": st.sampled_from([None, 16]),
    "rarest": st.sampled_from([0, 2]),
    "bits": st.sampled_from(BITS),
    "symmetric": st.booleans(),
    "calibration": st.sampled_from(["range", "mse", "kl"]),
    "ternary": st.sampled_from([0.0, 0.7]),
    "activations": st.sampled_from([8, 32]),
    "bias": st.booleans(),
    "rest": st.sampled_from(["fp32", "fp16"]),
    "keep_ends": st.booleans(),
}


@st.composite
def recipes(draw):
    return Recipe.of(**draw(PRUNING), **{name: draw(values) for name, values in OTHERS.items()})


RECIPES = recipes()


@pytest.mark.parametrize("step", STEPS)
def test_every_setting_of_every_step_is_explained_once(step):
    explained = [setting.name for entry in methods if entry.step == step for setting in entry.settings]
    shared_by_bits = {"bits", "granularity", "calibration"}
    assert set(explained) == {field.name for field in dataclasses.fields(STEPS[step])}
    assert all(explained.count(name) == 1 or name in shared_by_bits for name in explained)


def test_settings_of_the_whole_recipe_are_explained():
    explained = {setting.name for setting in methods.get("overrides").settings}
    assert explained == {"overrides", "keep_ends"} == {f.name for f in dataclasses.fields(Recipe)} - set(STEPS)


def test_the_methods_of_the_field_are_there():
    assert {
        *("fewer-nodes", "fewer-layers", "low-rank", "prune", "threshold", "pattern", "share", "groups", "quantize"),
        *("asymmetric", "statistics", "activations", "binarize", "ternary", "repair", "recover", "overrides"),
        "code",
    } < set(methods.names())


@pytest.mark.parametrize("entry", methods, ids=lambda entry: entry.name)
class TestEveryEntry:
    def test_reads_well(self, entry):
        assert entry.title[0].isupper() and not entry.title.endswith(".")
        assert entry.summary.endswith(".") and "  " not in entry.summary and "\n" not in entry.summary
        assert 100 < len(entry.summary) < 500
        assert entry.settings and all(s.name and s.values and s.meaning for s in entry.settings)
        assert "https://" in entry.reference or "19" in entry.reference

    def test_the_formula_is_balanced(self, entry):
        text = entry.formula.replace(r"\{", "").replace(r"\}", "")
        assert text.count("{") == text.count("}")
        assert text.count(r"\begin") == text.count(r"\end") and text.count(r"\bigl") == text.count(r"\bigr")

    def test_the_example_uses_the_method_and_stands_for_itself(self, entry):
        assert entry.name in ("combine", "code") or entry.used_by(entry.example)
        assert entry.alone(Recipe()) == entry.example
        assert Recipe.from_json(entry.example.to_json()) == entry.example

    def test_the_picture_fits_the_step(self, entry):
        assert entry.picture in ("layer", "size", "none")
        assert (entry.picture == "size") == (entry.step in ("simplify", "code"))

    def test_is_not_used_by_the_lossless_recipe(self, entry):
        assert entry.used_by(Recipe()) == (entry.name == "code")


@pytest.mark.slow
@given(RECIPES)
@examples
def test_the_methods_of_a_recipe_make_up_the_recipe(recipe):
    used = [entry for entry in methods if entry.step not in (None, "code", "repair") and entry.used_by(recipe)]
    settings = {"keep_ends": recipe.keep_ends, "rest": recipe.code.rest, "bias": recipe.settings()["bias"]}
    default = Recipe().settings()
    for entry in used:
        alone = entry.alone(recipe).settings()
        settings |= {name: value for name, value in alone.items() if value != default[name]}
    assert Recipe.of(**settings) == recipe


@pytest.mark.slow
@given(RECIPES)
@examples
def test_alone_has_no_other_step(recipe):
    for entry in methods:
        if entry.step in (None, "repair", "code") or not entry.used_by(recipe):
            continue
        alone = entry.alone(recipe)
        assert entry.used_by(alone)
        assert [name for name in STEPS if name != "code" and getattr(alone, name)] == [entry.step]
        assert not alone.keep_ends and not alone.overrides


def test_methods_of_simplification_are_shown_apart():
    recipe = Recipe.of(nodes=0.5, importance="l1", fold=True, energy=0.9)
    assert methods.get("fewer-nodes").alone(recipe) == Recipe.of(nodes=0.5, importance="l1")
    assert methods.get("fewer-layers").alone(recipe) == Recipe.of(fold=True)
    assert methods.get("low-rank").alone(recipe) == Recipe.of(energy=0.9)


def used(**settings) -> set[str]:
    recipe = Recipe.of(**settings)
    return {entry.name for entry in methods if entry.used_by(recipe)} - {"combine", "code"}


def test_which_methods_a_recipe_uses():
    assert used() == set()
    assert used(rest="fp16") == set()
    assert used(sparsity=0.5) == {"prune"}
    assert used(threshold=0.1) == {"threshold"}
    assert used(pattern="2:4") == {"pattern"}
    assert used(clusters=4) == {"share"}
    assert used(clusters=4, population=9) == used(clusters=4, rarest=1) == {"share", "groups"}
    assert used(bits=16) == {"quantize"}
    assert used(bits=8, activations=8) == {"quantize", "activations"}
    assert used(bits=8, symmetric=False, calibration="kl") == {"quantize", "asymmetric", "statistics"}
    assert used(bits=1, calibration="mse", activations=8) == {"binarize", "activations"}
    assert used(bits=1, ternary=0.7) == {"ternary"}
    assert used(drop=("layer1.0",)) == used(blocks=1) == used(merge=True) == used(fold=True) == {"fewer-layers"}
    assert used(rounding="gptq") == used(bias=True) == used(batchnorm=True) == {"repair"}
    assert used(epochs=2) == used(epochs=2, distill=0.5, ramp=0.5) == {"recover"}
    assert used(overrides=[Override("fc1", {"bits": 8})]) == {"overrides"}
    assert used(bits=4, keep_ends=True) == {"quantize", "overrides"}
    assert used(keep_ends=True) == set()


def test_combine_shows_the_whole_recipe():
    recipe = Recipe.of(sparsity=0.5, bits=4, bias=True)
    assert methods.get("combine").alone(recipe) == recipe
    assert methods.get("combine").alone(Recipe()) == methods.get("combine").example
    assert methods.get("code").alone(recipe) == recipe
    assert methods.get("repair").alone(recipe) == recipe
    trained = Recipe.of(sparsity=0.5, bits=4, epochs=3)
    assert methods.get("recover").alone(trained) == trained
    assert methods.get("prune").alone(trained) == Recipe.of(sparsity=0.5)


def test_a_search_finds_entries_by_all_words_of_what_is_said_of_them():
    assert found("") == tuple(methods) == found("  ")
    assert [entry.name for entry in found("HUFFMAN morse")] == ["code"]
    assert "share" in [entry.name for entry in found("clusters")]  # the label of its setting
    assert found("huffman qwertz") == ()


def test_a_setting_leads_to_the_entry_that_explains_it_first():
    prominent = [name for name, each in SETTINGS.items() if each.prominent]
    assert [of_setting(name).name for name in prominent] == ["prune", "share", "quantize"]
    with pytest.raises(UnknownNameError, match="sharpness"):
        of_setting("sharpness")
