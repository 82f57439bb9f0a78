"""The command line of a recipe gives that recipe again, digest for digest."""

import shlex

import pytest
import typer.main
from paretoscope.cli import app
from paretoscope.cli import options as options_of
from paretoscope.cli.options import RecipeOptions
from paretoscope.recipe.command import PROGRAM, evaluating
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import SETTINGS, Recipe

TRICKY = {
    "nothing": Recipe(),
    "threshold": Recipe.of(threshold=0.0123456789, bits=4),
    "pattern": Recipe.of(pattern="2:4"),
    "one bit, mse": Recipe.of(bits=1, calibration="mse"),
    "one bit, range": Recipe.of(bits=1, calibration="range"),
    "blocks by name": Recipe.of(drop=("layer2.1", "layer3.0")),
    "overrides": Recipe.of(bits=8, overrides=[{"layers": "conv'1*", "bits": 4, "sparsity": 0.3}]),
    "ends": Recipe.of(bits=4, keep_ends=True),
    "training without augmentation": Recipe.of(sparsity=0.5, epochs=3, augment=False, distill=0.0),
    "shared by name": Recipe.of(clusters=7, start="linear", rarest=2),
}


def made_by(line: str) -> Recipe:
    """What the command line makes of it, parsed as by a shell."""
    assert line.startswith(f"{PROGRAM} evaluate ")
    words = shlex.split(line.removeprefix(f"{PROGRAM} evaluate "))
    given = dict(typer.main.get_command(app).commands["evaluate"].make_context("evaluate", words).params)
    settings = {name: value for name, value in given.items() if name.split("__")[0] in SETTINGS}
    return RecipeOptions(given["recipe"], given["preset"], options_of._given(settings)).build(given["model"])


@pytest.mark.parametrize("name", [preset.name for preset in presets])
def test_every_preset(name: str) -> None:
    recipe = presets.get(name).recipe
    assert made_by(evaluating("a model", recipe)).digest == recipe.digest


@pytest.mark.parametrize("recipe", TRICKY.values(), ids=TRICKY.keys())
def test_every_kind_of_setting(recipe: Recipe) -> None:
    assert made_by(evaluating("a-model", recipe, "--batch", "8")).digest == recipe.digest
