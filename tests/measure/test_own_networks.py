"""Networks of users as subjects: with labels and without, of several inputs and outputs, of any type."""

import own_networks as own
import pytest
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import tasks

# All of them.
LAYERED = tuple(own.MAKERS)
CASES = [(name, labelled) for name in LAYERED for labelled in ([True, False] if name in own.CLASSIFIERS else [False])]


@pytest.mark.parametrize(("name", "labelled"), CASES)
def test_a_recipe_is_evaluated(name, labelled):
    task = tasks.get("classification" if labelled else "agreement")(())
    subject = Subject.of(own.network(name), own.data(name, labelled=labelled), task)
    assert len(subject.labels) == own.TEST
    baseline = subject.baseline
    assert baseline.value == (0.9 if labelled else 1.0)
    *_, plain = subject.evaluate(Recipe())
    assert plain.record.figures.value == baseline.value and plain.record.figures.p_value == 1.0
    values = [list(subject.evaluate(Recipe.of(bits=bits)))[-1].record.figures for bits in (8, 3)]
    assert values[0].harm < values[1].harm
    if not labelled:
        assert 0.9 < values[0].value < 1 and values[1].value < values[0].value
