import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.methods.catalogue import methods
from compression.recipe import BITS, STEPS, Recipe

RECIPES = st.builds(
    Recipe.of,
    sparsity=st.sampled_from([0.0, 0.5, 0.9]),
    clusters=st.sampled_from([None, 16]),
    bits=st.sampled_from(BITS),
    rest=st.sampled_from(["fp32", "fp16"]),
)


@pytest.mark.parametrize("step", STEPS)
def test_every_setting_of_every_step_is_explained(step):
    explained = {setting.name for entry in methods if entry.step == step for setting in entry.settings}
    assert explained == {field.name for field in dataclasses.fields(STEPS[step])}


@given(RECIPES)
def test_the_methods_of_a_recipe_make_up_the_recipe(recipe):
    used = [entry for entry in methods if entry.step not in (None, "code") and entry.used_by(recipe)]
    steps = {entry.step: getattr(entry.alone(recipe), entry.step) for entry in used}
    assert len(steps) == len(used)
    assert Recipe(**steps, code=recipe.code) == recipe


@given(RECIPES)
def test_alone_has_no_other_step(recipe):
    for entry in methods:
        if entry.step in (None, "code"):
            continue
        alone = entry.alone(recipe)
        assert entry.used_by(alone)
        assert [name for name in ("prune", "share", "quantize") if getattr(alone, name)] == [entry.step]
        assert alone == entry.example or entry.used_by(recipe)


def test_quantize_and_binarize_share_a_step_but_never_a_recipe():
    for bits in BITS[:-1]:
        recipe = Recipe.of(bits=bits)
        assert methods.get("quantize").used_by(recipe) == (bits > 1)
        assert methods.get("binarize").used_by(recipe) == (bits == 1)


def test_combine_shows_the_whole_recipe():
    recipe = Recipe.of(sparsity=0.5, bits=4)
    assert methods.get("combine").alone(recipe) == recipe
    assert methods.get("combine").alone(Recipe()) == methods.get("combine").example
    assert methods.get("code").alone(recipe) == recipe
