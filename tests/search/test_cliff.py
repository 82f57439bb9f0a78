import itertools
import math

import pytest
from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import Calling
from paretoscope.recipe.recipe import Prune, Recipe
from paretoscope.search.cliff import GRIDS, find_cliff
from paretoscope.tasks.classification import Accuracy


def accuracy(distinguishable: bool) -> Accuracy:
    return Accuracy(100, 99, 0.99, 0.95, 1.0, 0.99, 0.01 if distinguishable else 0.5, 0.0)


def evaluator(fails, setting="sparsity"):
    return lambda recipe: accuracy(fails(recipe.settings()[setting]))


@pytest.mark.parametrize("setting", GRIDS)
def test_finds_every_possible_cliff(setting):
    grid = GRIDS[setting]
    for index in range(len(grid) + 1):
        failing = set(grid[index:])
        cliff = find_cliff(evaluator(lambda value, failing=failing: value in failing, setting), Recipe(), setting)
        assert cliff.last == (grid[index - 1] if index else None)
        assert cliff.first == (grid[index] if index < len(grid) else None)
        assert len(cliff.steps) <= math.ceil(math.log2(len(grid) + 1))


def test_where_accuracy_does_not_fall_evenly_it_finds_a_passing_value_before_a_failing_one():
    grid = (0.1, 0.2, 0.3, 0.4, 0.5)
    for pattern in itertools.product((False, True), repeat=len(grid)):
        fails = dict(zip(grid, pattern, strict=True))
        cliff = find_cliff(evaluator(fails.get), Recipe(), "sparsity", grid)
        assert cliff.last is None or not fails[cliff.last]
        assert cliff.first is None or fails[cliff.first]
        ends = (None, *grid, None)
        assert (cliff.last, cliff.first) in itertools.pairwise(ends)
        assert {step.value: step.figures.distinguishable for step in cliff.steps}.items() <= fails.items()


def test_reports_after_each_evaluation():
    reports = []
    cliff = find_cliff(
        evaluator(lambda v: v > 0.9),
        Recipe(),
        "sparsity",
        progress=Calling(lambda share, _, partial: reports.append((share, partial))),
    )
    shares = [share for share, _ in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [len(each.steps) for _, each in reports] == list(range(1, len(cliff.steps) + 1))
    assert reports[-1][1] == cliff
    assert (cliff.last, cliff.first) == (0.9, 0.91)


def test_moves_only_the_slider():
    recipe = Recipe.of(sparsity=0.5, scope="layer", clusters=16, rarest=4, bits=8, rest="fp16")
    assert recipe.with_setting("bits", 3) == Recipe.of(
        sparsity=0.5, scope="layer", clusters=16, rarest=4, bits=3, rest="fp16"
    )
    assert recipe.with_setting("clusters", 3).share.rarest == 2
    assert Recipe(prune=Prune(pattern="2:4")).with_setting("sparsity", 0.5).prune == Prune(0.5)


def test_refuses_other_settings_and_empty_grids():
    with pytest.raises(RecipeError, match="sparsity, clusters, bits"):
        find_cliff(evaluator(bool), Recipe(), "threshold")
    with pytest.raises(RecipeError, match="at least one"):
        find_cliff(evaluator(bool), Recipe(), "bits", ())
