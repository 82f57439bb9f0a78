import itertools
import json

import pytest
from paretoscope.base.progress import Calling
from paretoscope.recipe.recipe import Code, Override, Prune, Quantize, Recipe, Repair, Share, Simplify
from paretoscope.search.waterfall import CODING, attribute, only, steps_of

FULL = Recipe(Simplify(nodes=0.2), Prune(0.5), Share(16), Quantize(4), Repair(bias=True), code=Code(rest="fp16"))
DENSE = 100_000


def value(recipe: Recipe) -> tuple[int, float]:
    """Bytes and accuracy in which the steps interact."""
    size, accuracy = 90_000, 0.99
    if recipe.simplify:
        size, accuracy = size * 8 // 10, accuracy - 0.01
    if recipe.prune:
        size, accuracy = size // 2, accuracy - 0.02 * (2 if recipe.simplify else 1)
    if recipe.share:
        size //= 5
    if recipe.quantize:
        size, accuracy = size // (2 if recipe.share else 8), accuracy - 0.03
    if recipe.repair and recipe.quantize:
        accuracy += 0.025
    return size - 1000 * (recipe.code.rest == "fp16"), accuracy


def test_agrees_with_the_mean_over_all_orders():
    found = attribute(FULL, value, DENSE)
    steps = steps_of(FULL)
    assert steps == ["simplify", "prune", "share", "quantize", "repair", "code"]
    orders = list(itertools.permutations(steps))
    for contribution in found.contributions[1:]:
        saved = lost = 0.0
        for order in orders:
            before = order[: order.index(contribution.step)]
            (size, accuracy) = value(only(FULL, frozenset(before)))
            (size_with, accuracy_with) = value(only(FULL, frozenset((*before, contribution.step))))
            saved, lost = saved + size - size_with, lost + accuracy - accuracy_with
        assert contribution.bytes == pytest.approx(saved / len(orders))
        assert contribution.accuracy == pytest.approx(lost / len(orders), abs=1e-12)


def test_contributions_add_up_to_the_whole_difference():
    found = attribute(FULL, value, DENSE)
    size, accuracy = value(FULL)
    assert (found.bytes, found.accuracy, found.evaluations) == (size, accuracy, 64)
    assert DENSE - sum(each.bytes for each in found.contributions) == pytest.approx(size, abs=1e-6)
    lost = sum(each.accuracy for each in found.contributions)
    assert found.baseline_accuracy - lost == pytest.approx(accuracy, abs=1e-12)
    assert found.contributions[0].step == CODING
    assert found.contributions[0].bytes == DENSE - value(Recipe())[0]


def test_a_step_that_changes_nothing_gets_nothing_and_equal_steps_get_the_same():
    recipe = Recipe(prune=Prune(0.5), share=Share(16), repair=Repair(bias=True))
    found = attribute(recipe, lambda r: (100 - 30 * bool(r.prune or r.share), 0.9), DENSE)
    prune, share, repair = found.contributions[1:]
    assert prune.bytes == share.bytes == 15
    assert (repair.bytes, repair.accuracy) == (0, 0)


def test_the_lossless_recipe_has_coding_alone():
    found = attribute(Recipe(), value, DENSE)
    assert [each.step for each in found.contributions] == [CODING]
    assert found.evaluations == 1
    assert json.loads(json.dumps(found.to_dict()))["dense_bytes"] == DENSE


def test_equal_recipes_are_measured_once_and_in_between_it_checks():
    measured, shares = [], []

    def measure(recipe):
        measured.append(recipe.digest)
        return value(recipe)

    attribute(FULL, measure, DENSE, progress=Calling(lambda share, *_: shares.append(share)))
    assert len(measured) == len(set(measured)) == len(shares) == 64
    assert shares == sorted(shares)
    assert shares[0] == 0

    class Ended(Exception):
        pass

    def end(share, label, partial):
        raise Ended

    with pytest.raises(Ended):
        attribute(FULL, measure, DENSE, progress=Calling(end))
    assert len(measured) == 64


def test_overrides_belong_to_the_steps_that_they_refine():
    override = Override("fc1", {"sparsity": 0.9, "bits": 2, "calibration": "mse"})
    recipe = Recipe(prune=Prune(0.5), overrides=(override,), keep_ends=True)
    assert steps_of(recipe) == ["prune", "quantize"]
    assert only(recipe, frozenset(("prune", "quantize"))) == recipe
    assert only(recipe, frozenset(["prune"])) == Recipe(
        prune=Prune(0.5), overrides=(Override("fc1", {"sparsity": 0.9}),)
    )
    assert only(recipe, frozenset()) == Recipe()
