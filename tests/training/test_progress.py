"""What the epochs of a training tell."""

from dataclasses import replace

import pytest
from paretoscope.recipe.recipe import Recipe
from paretoscope.training.epochs import Epoch, Recovery, best_of
from paretoscope.training.progress import cut, duration, seconds_left

RECIPE = Recipe.of(sparsity=0.9, epochs=6)


def epoch(number: int, accuracy: float = 0.5, loss: float = 1.0, holds: bool = True, seconds: float = 0.0) -> Epoch:
    return Epoch(number, 0.5, 0.5, accuracy, loss, 1000, 0.9, 1e-3, holds, seconds, 100)


def stopped(count: int) -> Recipe:
    return replace(RECIPE, recover=replace(RECIPE.recover, stopped=count))


def test_the_last_epoch_within_a_standard_error_of_the_best_is_kept() -> None:
    # 0.9 of 100 images has a standard error of 0.03.
    for accuracies, number in (
        ([], None),
        ([0.9], 0),
        ([0.9, 0.871], 1),
        ([0.9, 0.869], 0),
        ([0.9, 0.95, 0.9, 0.93, 0.92], 3),
        ([0.871, 0.9, 0.871, 0.869], 2),
        # Not ever further down: each within an error of the one before.
        ([0.9, 0.88, 0.86, 0.84], 1),
        ([1.0, 0.99], 0),
        ([0.99, 1.0, 0.99, 1.0, 0.99], 3),
        ([0.0, 0.0], 1),
    ):
        best = best_of([epoch(n, accuracy) for n, accuracy in enumerate(accuracies)])
        assert (best and best.number) == number, accuracies


def test_an_epoch_of_the_ramp_is_never_the_best() -> None:
    assert best_of([epoch(0, 0.1), epoch(1, 0.9, holds=False), epoch(2, 0.2)]).number == 2
    assert best_of([epoch(1, 0.9, holds=False)]) is None


def test_time_left_is_that_of_the_last_epochs() -> None:
    assert seconds_left([epoch(0)], 10) is None
    assert seconds_left([epoch(0), epoch(1, seconds=3.0)], 10) == pytest.approx(27)
    # Ten seconds for the first epoch, two for each of the five after it.
    epochs = [epoch(0), epoch(1, seconds=10.0)] + [epoch(1 + n, seconds=10.0 + 2 * n) for n in range(1, 6)]
    assert seconds_left(epochs, 10) == pytest.approx(4 * 2)
    assert seconds_left(epochs, 6) == 0


def test_an_earlier_end_keeps_the_best_until_then() -> None:
    whole = Recovery(RECIPE, 5, (*(epoch(n, 0.5 + n / 10) for n in range(6)), epoch(6, 0.1)))
    assert cut(whole, RECIPE) is whole
    early = cut(whole, stopped(3))
    assert (early.recipe, early.best, [each.number for each in early.epochs]) == (stopped(3), 3, [0, 1, 2, 3])
    # A training that got as far as 3 says nothing of 4, nor of another recipe.
    assert cut(early, stopped(4)) is None and cut(early, RECIPE) is None
    assert cut(whole, Recipe.of(sparsity=0.8, epochs=6)) is None and cut(whole, RECIPE.untrained) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0347, "0.035 s"), (8.13, "8.1 s"), (99.4, "99 s"), (150, "2.5 min"), (5900, "98 min"), (7200, "2 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert duration(40 * 3600) == "40 h"
