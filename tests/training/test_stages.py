"""What each epoch asks for, against the formulas by hand."""

import itertools

import pytest
from paretoscope.recipe.recipe import Recipe
from paretoscope.training.stages import pruning_of, ramp_epochs, stage


def recipe(**settings) -> Recipe:
    return Recipe.of(**{"epochs": 10, "ramp": 0.4, **settings})


def test_sparsity_rises_by_the_cubic_of_zhu_and_gupta():
    found = [stage(recipe(sparsity=0.9), epoch).prune.sparsity for epoch in range(1, 11)]
    # 0.9 (1 - (1 - k/4)^3): 1 - 27/64, 1 - 8/64, 1 - 1/64, 1.
    assert found == pytest.approx([0.9 * 37 / 64, 0.9 * 56 / 64, 0.9 * 63 / 64, *[0.9] * 7], abs=1e-12)
    assert found[3] == 0.9


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("ramp", [0.2, 0.4, 0.7])
def test_bits_fall_from_8_in_even_steps(bits, ramp):
    whole = recipe(bits=bits, ramp=ramp)
    last = ramp_epochs(whole)
    found = [8, *(stage(whole, epoch).bits for epoch in range(1, last + 1))]
    falls = [before - after for before, after in itertools.pairwise(found)]
    assert sum(falls) == 8 - bits
    assert max(falls) - min(falls) <= 1
    assert all(stage(whole, epoch).bits == bits for epoch in range(last, 11))


def test_bits_of_a_long_ramp_stay_equally_long():
    found = [stage(recipe(bits=4, epochs=20, ramp=0.4), epoch).bits for epoch in range(1, 9)]
    assert found == [8, 7, 7, 6, 6, 5, 5, 4]


@pytest.mark.parametrize("bits", [8, 12, 16, 32])
def test_wide_integers_do_not_ramp(bits):
    assert {stage(recipe(bits=bits), epoch).bits for epoch in range(1, 11)} == {bits}


def test_bits_by_rate_are_a_limit_and_do_not_ramp():
    whole = recipe(bits=6, calibration="rate")
    assert {stage(whole, epoch).bits for epoch in range(1, 11)} == {6}


def test_the_exchange_rate_rises_a_hundredfold():
    whole = recipe(bits=6, calibration="rate", exchange=1e-3)
    ramp = ramp_epochs(whole)
    for epoch in range(1, 11):
        expected = 1e-3 if epoch >= ramp else 1e-5 * 100 ** (epoch / ramp)
        assert stage(whole, epoch).quantize.exchange == pytest.approx(expected)
    assert stage(recipe(bits=6, calibration="rate", exchange=1e-12), 1).quantize.exchange == 1e-12


def test_weights_are_shared_after_the_ramp():
    whole = recipe(sparsity=0.5, clusters=8, bits=4)
    early = [stage(whole, epoch) for epoch in range(1, 5)]
    assert all(each.share is None and each.quantize is None for each in early)
    assert all(stage(whole, epoch) == whole.untrained for epoch in range(5, 11))


def test_without_a_ramp_the_recipe_holds_from_the_start():
    whole = recipe(sparsity=0.5, clusters=8, bits=4, ramp=0)
    assert ramp_epochs(whole) == 0
    assert all(stage(whole, epoch) == whole.untrained for epoch in range(1, 11))


def test_rules_that_know_no_half_hold_from_the_start():
    assert stage(recipe(pattern="2:4"), 1).prune.pattern == "2:4"
    assert stage(recipe(threshold=0.1), 1).prune.threshold == 0.1
    overrides = [{"layers": "fc1*", "sparsity": 0.7}]
    assert stage(recipe(sparsity=0.9, overrides=overrides), 1).overrides == recipe(overrides=overrides).overrides


@pytest.mark.parametrize(
    ("epochs", "ramp", "expected"), [(10, 0.4, 4), (10, 0.99, 9), (1, 0.9, 0), (2, 0.9, 1), (3, 0, 0)]
)
def test_at_least_one_epoch_follows_the_ramp(epochs, ramp, expected):
    assert ramp_epochs(recipe(sparsity=0.5, epochs=epochs, ramp=ramp)) == expected


def test_no_stage_trains_or_changes_another_step():
    whole = recipe(sparsity=0.9, bits=3, nodes=0.5, rest="fp16", rounding="gptq", keep_ends=True)
    for epoch in range(1, 11):
        each = stage(whole, epoch)
        assert each.recover is None
        assert (each.simplify, each.code, each.repair, each.keep_ends) == (
            whole.simplify,
            whole.code,
            whole.repair,
            True,
        )


def test_pruning_alone():
    overrides = [{"layers": "fc1*", "sparsity": 0.7, "bits": 4}, {"layers": "fc2*", "clusters": 4}]
    whole = recipe(sparsity=0.9, scope="layer", clusters=8, bits=4, nodes=0.5, overrides=overrides)
    expected = Recipe.of(sparsity=0.9, scope="layer", overrides=[{"layers": "fc1*", "sparsity": 0.7}])
    assert pruning_of(whole) == expected
    assert pruning_of(recipe(pattern="2:4", bits=4)) == Recipe.of(pattern="2:4")
    assert pruning_of(recipe(bits=4, clusters=4)) == Recipe()
