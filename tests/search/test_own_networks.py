"""Searches and training on networks of users, of any batch and task."""

import own_networks as own
import pytest
from paretoscope import codec
from paretoscope.measure.layers import layer_table
from paretoscope.measure.sensitivity import measure_sensitivity
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.allot import allot
from paretoscope.search.cliff import find_cliff
from paretoscope.search.suggest import Target, suggest
from paretoscope.tasks import tasks
from paretoscope.training.train import Trainer

CASES = [
    (name, labelled) for name in own.MAKERS for labelled in ([True, False] if name in own.CLASSIFIERS else [False])
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "labelled"), CASES)
def test_stages(name, labelled):
    task = tasks.get("classification" if labelled else "agreement")(())
    subject = Subject.of(own.network(name), own.data(name, labelled=labelled), task)
    rows = layer_table(subject)
    assert {row.name for row in rows} == {*subject.statistics.layers, "other"}
    assert sum(row.time_share for row in rows) == pytest.approx(1)

    curves = measure_sensitivity(subject, grids={"sparsity": (0.5,), "bits": (8, 3)})
    assert curves.correct / curves.n == pytest.approx(subject.baseline.value)
    # A network of a kilobyte has little to give: the file has a header.
    wanted = subject.statistics.size_bytes * 2 // 3
    found = suggest(curves, subject.statistics, Target(bytes=wanted), measure=lambda each: size(subject, each))
    assert found.reached and found.predicted_bytes <= wanted

    by_rate = Recipe.of(bits=8, calibration="rate")
    assert allot(subject, by_rate, size=wanted).reached
    assert allot(subject, by_rate, harm=0.5).measured <= 0.5
    cliff = find_cliff(lambda each: last(subject.evaluate(each)).record.figures, Recipe(), "bits")
    assert cliff.last is not None

    trainer = Trainer(subject, Recipe.of(bits=4, epochs=1))
    _, end = trainer.run()
    assert end.loss < float("inf") and 0 <= end.validation_accuracy <= 1
    resumed = Trainer(subject, Recipe.of(bits=4, epochs=1))
    resumed.restore(trainer.checkpoint())
    assert resumed.epochs == trainer.epochs
    assert codec.write(trainer.result().compressed)


def size(subject, recipe):
    return len(codec.write(subject.compress(recipe)))


def last(evaluations):
    *_, found = evaluations
    return found
