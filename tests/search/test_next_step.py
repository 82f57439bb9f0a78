"""One step further on a slider."""

import pytest
from paretoscope.base.errors import RecipeError
from paretoscope.recipe.recipe import SETTINGS, Recipe
from paretoscope.search.next_step import SLIDERS, further, next_value


@pytest.mark.parametrize("slider", SLIDERS)
def test_steps_walk_along_the_slider_to_its_end(slider: str) -> None:
    offered, recipe, walked = SETTINGS[slider].kind.offered, Recipe(), []
    while (new := further(recipe, slider)) is not None:
        recipe = new
        walked.append(recipe.settings()[slider])
    assert walked == list(offered[1:])
    assert next_value(Recipe(), slider, 10_000) == offered[-1]


def test_a_value_between_two_steps_goes_to_the_next_stronger() -> None:
    assert next_value(Recipe.of(sparsity=0.805), "sparsity") == 0.81
    assert next_value(Recipe.of(clusters=20), "clusters") == 16
    assert next_value(Recipe.of(bits=12), "bits", 2) == 7


def test_training_goes_and_the_rest_stays() -> None:
    recipe = Recipe.of(sparsity=0.5, bits=8, epochs=3)
    assert further(recipe, "sparsity", 2) == Recipe.of(sparsity=0.52, bits=8)


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(RecipeError, match="a slider must be one of sparsity, clusters, bits; got 'nodes'"):
        next_value(Recipe(), "nodes")
    with pytest.raises(RecipeError, match="one step further or more; got 0"):
        next_value(Recipe(), "bits", 0)
