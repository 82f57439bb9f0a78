"""Tests of the search for an exchange rate, against costs in closed form."""

import dataclasses

import pytest
from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import Calling
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.allot import by_rate, for_harm, for_size

RECIPE = Recipe.of(bits=8, calibration="rate", coder="context")


def size(recipe):
    return round(10_000 * recipe.quantize.exchange**-0.25)


def harm(recipe):
    return recipe.quantize.exchange**0.7


@pytest.mark.parametrize("wanted", [10_001, 40_000, 123_456, 1_000_000])
def test_a_wanted_size_is_met_and_nearly_used_up(wanted):
    found = for_size(RECIPE, wanted, size)
    assert found.reached and found.measured == size(found.recipe) <= wanted
    assert found.measured > 0.985 * wanted
    assert dataclasses.replace(found.recipe, quantize=RECIPE.quantize) == RECIPE


@pytest.mark.parametrize("wanted", [1e-5, 0.003, 1.0])
def test_a_wanted_harm_is_met_and_nearly_used_up(wanted):
    found = for_harm(RECIPE, wanted, harm)
    assert found.reached and found.measured == harm(found.recipe) <= wanted
    assert found.measured > 0.95 * wanted


def test_a_wish_out_of_reach_gives_the_nearest():
    found = for_size(RECIPE, 10, size)
    assert not found.reached and found.recipe.quantize.exchange == 10 and found.measured == size(found.recipe)
    found = for_harm(RECIPE, 0.0, harm)
    assert not found.reached and found.recipe.quantize.exchange == 1e-9


def test_a_generous_wish_gives_the_finest_or_the_coarsest():
    assert for_size(RECIPE, 10**12, size).recipe.quantize.exchange < 1.1e-9
    assert for_harm(RECIPE, 1e6, harm).recipe.quantize.exchange > 9


def test_progress_rises_and_few_measurements_are_made():
    seen, calls = [], []
    for_size(
        RECIPE,
        40_000,
        lambda recipe: calls.append(recipe) or size(recipe),
        progress=Calling(lambda share, *_: seen.append(share)),
    )
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] < 1
    assert len(calls) == len(seen) <= 11


def test_other_recipes_are_given_a_rate():
    assert by_rate(Recipe.of(sparsity=0.5)).quantize.calibration == "rate"
    assert by_rate(Recipe.of(bits=4, calibration="mse")).quantize.bits == 4
    assert by_rate(RECIPE) is RECIPE


@pytest.mark.parametrize("settings", [{"clusters": 8, "bits": 8}, {"bits": 1}])
def test_what_has_no_steps_is_refused(settings):
    with pytest.raises(RecipeError, match="clusters"):
        by_rate(Recipe.of(**settings))


@pytest.mark.parametrize("wanted", [0, -5])
def test_what_is_no_size_is_refused(wanted):
    with pytest.raises(RecipeError, match=f"at least 1 byte; got {wanted}"):
        for_size(RECIPE, wanted, size)


@pytest.mark.parametrize("wanted", [-1.0, float("nan"), float("inf")])
def test_what_is_no_harm_is_refused(wanted):
    with pytest.raises(RecipeError, match=f"a number of at least 0; got {wanted:g}"):
        for_harm(RECIPE, wanted, harm)
