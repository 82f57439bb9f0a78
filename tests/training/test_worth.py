"""Whether a training was worth it: points, minutes and what the test says, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from paretoscope.measure.record import Digests, Ladder, Rates, Record
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.classification import Baseline, Classification, Predictions
from paretoscope.training.epochs import Epoch, Recovery
from paretoscope.training.worth import Worth, weigh
from scipy.stats import binomtest

N = 400
TASK = Classification(tuple("0123456789"))
LABELS = np.arange(N) % 10
RECIPE = Recipe.of(sparsity=0.9, epochs=3)
BASELINE = Baseline(correct=392, accuracy=0.98, f1=0.98, size_bytes=1_000_000)


def evaluation(wrong: set[int], recipe: Recipe) -> Evaluation:
    classes = LABELS.copy()
    classes[list(wrong)] = (classes[list(wrong)] + 1) % 10
    confidences = np.full(N, 0.9, np.float32)
    predictions = Predictions(classes, confidences, 0.0)
    record = Record(
        "a-model",
        "a-dataset",
        recipe,
        Digests("m" * 64, "d" * 64, recipe.digest, "a" * 64),
        TASK.score(predictions, LABELS, Predictions(LABELS, confidences)),
        BASELINE,
        Rates(0.9, 0.0, 1.0),
        Ladder(9, 8, 7, 6, 5, 10),
    )
    return Evaluation(record, predictions)


def weighed(before: set[int], after: set[int], seconds: float = 30.0) -> Worth:
    epochs = tuple(Epoch(n, 0.1, 0.9, 0.9, 0.1, 10, 0.9, 1e-3, True, seconds * n / 3, 100) for n in range(4))
    recovery = Recovery(RECIPE, 2, epochs)
    return weigh(TASK, evaluation(before, RECIPE.untrained), evaluation(after, RECIPE), LABELS, recovery)


def test_points_minutes_and_the_paired_test() -> None:
    # 40 wrong before, 10 after, of which 4 are new: 34 gained, 4 lost.
    worth = weighed(set(range(40)), {0, 1, 2, 3, 4, 5, 100, 101, 102, 103})
    assert worth.points == pytest.approx(100 * 30 / N)
    assert worth.lost == pytest.approx(100 * (392 - 360) / N)
    assert worth.minutes == pytest.approx(0.5) and worth.minutes_per_point == pytest.approx(0.5 / 7.5)
    assert worth.p_value == pytest.approx(binomtest(4, 38).pvalue)
    assert worth.certain and worth.caveat == ""
    assert worth.headline == "Won back 7.50 of 8.00 points in 30 s: 4 s a point"


def test_a_gain_that_may_be_chance_is_said_to_be_one() -> None:
    worth = weighed({1, 2, 3}, {1})
    assert worth.points == pytest.approx(0.5) and not worth.certain
    assert "cannot be told apart" in worth.caveat and "p = 0.5" in worth.caveat


def test_nothing_won_back_has_no_price() -> None:
    same, worse = weighed({1, 2}, {3, 4}), weighed({1}, {1, 2, 3})
    assert same.minutes_per_point is None and same.headline == "Nothing won back in 30 s" and same.caveat == ""
    assert worse.minutes_per_point is None and worse.points == pytest.approx(-0.5)
    assert "0.50 points" in worse.caveat
    assert worse.to_dict()["minutes_per_point"] is None


def test_where_nothing_was_lost_the_headline_does_not_say_of_what() -> None:
    worth = replace(weighed({1, 2, 3}, {1}), lost=-0.25)
    assert worth.headline.startswith("Won back 0.50 points in")
