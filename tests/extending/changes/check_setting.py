"""The setting holds pruning back, where files, links, options and messages tell it."""

import paretoscope
import pytest
from paretoscope.cli.main import app
from paretoscope.methods.catalogue import methods
from paretoscope.recipe.recipe import SETTINGS, Recipe
from typer.testing import CliRunner

from pages.components import controls

NAME = "lenet-300-100"


def test_it_does_what_it_says() -> None:
    held, plain = (paretoscope.compress(NAME, Recipe.of(sparsity=0.8, smallest=least)) for least in (2000, 0))
    assert (held.decode("fc3.weight") != 0).all() and not (plain.decode("fc3.weight") != 0).all()
    assert (held.decode("fc1.weight") == plain.decode("fc1.weight")).all()
    assert held.recipe.describe() == "80 % sparse, layers of fewer than 2000 weights dense"


def test_everything_is_made_from_its_description() -> None:
    recipe = Recipe.of(sparsity=0.8, smallest=2000)
    assert Recipe.from_dict(recipe.to_dict()) == Recipe.from_query(recipe.to_query()) == recipe
    printed = CliRunner().invoke(app, ["recipe", "--sparsity", "0.8", "--min-layer-size", "2000"]).stdout
    assert Recipe.from_json(printed) == recipe
    with pytest.raises(paretoscope.CompressionError, match=r"smallest must be .*got -1"):
        Recipe.of(sparsity=0.8, smallest=-1)
    assert SETTINGS["smallest"].word(7) and "smallest" in controls.grouped(("prune", "share"))
    assert "smallest" in [row.name for row in methods.get("prune").settings]
