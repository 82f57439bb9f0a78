"""Recipes of older versions: a setting that has another name now is read by its old one, wherever it stands."""

import pytest
from paretoscope.base.errors import RecipeError
from paretoscope.recipe import link, migrations, recipe
from paretoscope.recipe.migrations import VERSION, Migration, migrated
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version 2 in which "rate" is called sparsity and "width" bits, and a version 3 that halves old sparsities."""

    def halved(data):
        prune = data.get("prune")
        return data if prune is None else {**data, "prune": {**prune, "sparsity": prune["sparsity"] / 2}}

    steps = [Migration({"rate": "sparsity", "width": "bits", "ends": "keep_ends"}), Migration(more=halved)]
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(recipe, "VERSION", 3)


def test_this_version_is_read_as_it_is() -> None:
    assert VERSION == 1 and not migrations.MIGRATIONS
    for preset in presets:
        assert migrated(preset.recipe.to_dict()) == preset.recipe.to_dict()
    for other in (None, [], {"version": 2}, {"version": "1"}, {}):
        assert migrated(other) is other


@pytest.mark.usefixtures("renamed")
def test_old_names_are_read_in_steps_overrides_and_the_recipe_itself() -> None:
    old = {"version": 1, "prune": {"rate": 0.8}, "quantize": {"width": 4}, "ends": True}
    old["overrides"] = [{"layers": "fc*", "width": 8}]
    new = Recipe.of(sparsity=0.4, bits=4, keep_ends=True, overrides=[{"layers": "fc*", "bits": 8}])
    assert Recipe.from_dict(old) == new
    assert Recipe.from_dict({"version": 2, "prune": {"sparsity": 0.8}}) == Recipe.of(sparsity=0.4)
    assert Recipe.from_json(new.to_json()) == new and '"version":3' in new.to_json()


@pytest.mark.usefixtures("renamed")
def test_a_version_that_is_not_known_is_refused() -> None:
    for version in (4, 0, -1, True, None, "1"):
        with pytest.raises(RecipeError, match=r"^version must be 3; got"):
            Recipe.from_dict({"version": version})
    with pytest.raises(RecipeError, match="may have the fields"):
        Recipe.from_dict({"version": 3, "ends": True})


@pytest.mark.usefixtures("renamed")
def test_old_names_are_read_in_links() -> None:
    assert Recipe.from_query({"rate": "0.5", "width": "8"}) == Recipe.of(sparsity=0.5, bits=8)
    assert Recipe.from_query({"rate": "0.5", "sparsity": "0.6"}) == Recipe.of(sparsity=0.6)
    found = link.read({"rate": "0.5", "width": "many"})
    assert found.recipe == Recipe.of(sparsity=0.5) and found.problems == (
        "bits in a link must be a number; got 'many'. Write e.g. bits=8.",
    )
