"""A recipe as a caller names it."""

from pathlib import Path

import pytest
from paretoscope.base.errors import RecipeError, UnknownNameError
from paretoscope.recipe.given import recipe_given
from paretoscope.recipe.link import TIMING
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe

RECIPE = Recipe.of(sparsity=0.6, clusters=8, bits=8)
LINK = "http://127.0.0.1:8501/trade-off?model=lenet-5&sparsity=0.6&clusters=8&bits=8&runtime=torch&threads=2"


def test_a_recipe_is_itself() -> None:
    assert recipe_given(RECIPE) is RECIPE


def test_a_preset_is_for_the_network_that_is_named() -> None:
    own = next(each for each in presets if each.model is not None)
    assert recipe_given("int8", "lenet-5") == presets.get("int8").recipe
    assert recipe_given(own.name, own.model) == recipe_given(own.name) == own.recipe
    with pytest.raises(RecipeError, match="for all models or for no-such"):
        recipe_given(own.name, "no-such")
    with pytest.raises(UnknownNameError, match="got 'int9'"):
        recipe_given("int9")


def test_a_link_may_be_whole_or_a_query_and_states_a_timing_beside() -> None:
    assert recipe_given(LINK) == recipe_given(LINK, "lenet-5") == recipe_given(LINK.partition("?")[2]) == RECIPE
    assert {"runtime", "threads"} < set(TIMING)
    with pytest.raises(RecipeError, match="one for 'lenet-5', not for resnet-20"):
        recipe_given(LINK, "resnet-20")
    with pytest.raises(RecipeError, match="sparsty"):
        recipe_given(LINK.replace("sparsity", "sparsty"))


@pytest.mark.parametrize("name", ["recipe.json", "recipe.YAML", "recipe.yml", "recipe"])
def test_a_file_is_a_path_or_ends_like_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(RECIPE.to_json())
    assert recipe_given(path) == RECIPE
    if path.suffix:
        assert recipe_given(str(path)) == RECIPE
        path.unlink()
        with pytest.raises(RecipeError, match="must be a readable file"):
            recipe_given(str(path))


@pytest.mark.parametrize("given", [None, 8, {"bits": 8}, b"int8"])
def test_anything_else_is_refused(given: object) -> None:
    with pytest.raises(RecipeError, match="a recipe must be a Recipe, a preset's name, a link or a file"):
        recipe_given(given)
