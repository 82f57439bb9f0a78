"""Interrupted trainings are found by the checkpoints that they left, whatever else lies there."""

import json
import os

import pytest
from paretoscope.codec import shelf
from paretoscope.recipe.recipe import Recipe
from paretoscope.training.interrupted import Interrupted, interrupted, unreadable
from safetensors.torch import save
from torch import zeros

SOURCE, OTHER = "a" * 64, "b" * 64
RECIPES = [Recipe.of(sparsity=0.9, epochs=9), Recipe.of(bits=4, epochs=5, distill=0.5)]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))


def checkpoint(recipe: Recipe, done: int, model: str = SOURCE) -> bytes:
    notes = {"recipe": recipe.to_dict(), "model": model, "epochs": [{"number": n} for n in range(done + 1)]}
    return save({"current": zeros(3)}, {"training": json.dumps(notes)})


def test_the_latest_comes_first_and_other_models_are_left_out():
    for age, (recipe, done) in enumerate(zip(RECIPES, (3, 1), strict=True)):
        shelf.keep_checkpoint(SOURCE, recipe, checkpoint(recipe, done))
        os.utime(shelf.checkpoint_path(SOURCE, recipe), (1000 - age, 1000 - age))
    shelf.keep_checkpoint(OTHER, RECIPES[0], checkpoint(RECIPES[0], 2, OTHER))
    assert interrupted(SOURCE) == [Interrupted(RECIPES[0], 3), Interrupted(RECIPES[1], 1)]
    assert interrupted(OTHER) == [Interrupted(RECIPES[0], 2)]
    shelf.drop_checkpoint(SOURCE, RECIPES[0])
    assert interrupted(SOURCE) == [Interrupted(RECIPES[1], 1)]


def test_a_folder_that_is_not_there_holds_none():
    assert interrupted(SOURCE) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        (20).to_bytes(8, "little") + b'{"__metadata__": {}}',
        (5).to_bytes(8, "little") + b"[1,2]",
        checkpoint(RECIPES[0].untrained, 1),
        checkpoint(RECIPES[0], 1, OTHER),
        checkpoint(RECIPES[0], 1).replace(b"sparsity", b"sparsitz"),
        checkpoint(RECIPES[0], -1),
    ],
)
def test_files_that_are_no_checkpoints_are_passed_over(data: bytes):
    shelf.keep_checkpoint(SOURCE, RECIPES[0], data)
    assert interrupted(SOURCE) == []
    # Another model's is none of those that cannot be read.
    count = 0 if data == checkpoint(RECIPES[0], 1, OTHER) else 1
    assert len(unreadable()) == count and shelf.checkpoint(SOURCE, RECIPES[0]) == data


def test_one_under_another_name_goes_on_too():
    """A recipe's digest changes where a later version writes it otherwise."""
    shelf.keep_checkpoint(SOURCE, RECIPES[1], checkpoint(RECIPES[0], 3))
    assert interrupted(SOURCE) == [Interrupted(RECIPES[0], 3)]
    assert shelf.checkpoint(SOURCE, RECIPES[0]) == checkpoint(RECIPES[0], 3) and unreadable() == ()
