import dataclasses
import json
import math

import pytest
import timings
from paretoscope.measure.record import Digests, Ladder, Rates, Record, Touched
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.classification import Accuracy, Baseline

RECIPE = Recipe.of(sparsity=0.8, clusters=16, bits=8, rest="fp16")
LATENCY = timings.latency(measured_for=RECIPE.digest)
RECORD = Record(
    model="a-model",
    dataset="a-dataset",
    recipe=RECIPE,
    digests=Digests("a" * 64, "b" * 64, RECIPE.digest, "c" * 64),
    figures=Accuracy(797, 790, 790 / 797, 0.98, 0.995, 0.1 + 0.2, 1 / 3, 1 / 7),
    baseline=Baseline(796, 796 / 797, 0.99, 1_000_000),
    rates=Rates(0.8, 0.2, 1.0),
    size=Ladder(1_000_000, 300_000, 90_000, 50_000, 49_000, 50_000),
    latency=LATENCY,
    touched=Touched(0.75, (("embeddings", 0.2), ("biases and other vectors", 0.05))),
)


@pytest.mark.parametrize("record", [RECORD, dataclasses.replace(RECORD, latency=None)], ids=["timed", "untimed"])
def test_json_and_back_is_the_same_record(record):
    again = Record.from_dict(json.loads(record.to_json()))
    assert again == record
    assert again.to_json() == record.to_json()
    assert json.loads(record.to_json(indent=2)) == record.to_dict()


def test_the_fields_of_the_plain_form():
    data = RECORD.to_dict()
    assert list(data) == [
        *("model", "dataset", "recipe", "digests"),
        *("n", "correct", "accuracy", "accuracy_low", "accuracy_high", "f1", "p_value", "harm"),
        *("baseline", "rates", "touched", "size", "ratio", "latency"),
    ]
    assert data["recipe"] == RECIPE.to_dict()
    assert data["ratio"] == 20.0
    assert data["size"] == {
        "dense": 1_000_000,
        "sparse": 300_000,
        "packed": 90_000,
        "huffman": 50_000,
        "ans": 49_000,
        "artefact": 50_000,
    }
    assert data["latency"]["speedup"] == 2.0
    assert dataclasses.replace(RECORD, latency=None).to_dict()["latency"] is None


def test_a_timing_of_another_recipe_is_told_as_reused():
    assert not RECORD.latency_reused
    assert not dataclasses.replace(RECORD, latency=None).latency_reused
    other = dataclasses.replace(LATENCY, measured_for=Recipe.of(bits=8).digest)
    assert dataclasses.replace(RECORD, latency=other).latency_reused


@pytest.mark.parametrize("field", RECORD.to_dict())
def test_a_record_without_a_field_is_refused(field):
    data = RECORD.to_dict()
    del data[field]
    if field == "ratio":
        assert Record.from_dict(data) == RECORD
    elif field == "touched":  # as older versions stored it
        assert Record.from_dict(data) == dataclasses.replace(RECORD, touched=None)
    else:
        with pytest.raises(KeyError):
            Record.from_dict(data)


@pytest.mark.parametrize("part", ["digests", "baseline", "rates", "touched", "size", "latency"])
@pytest.mark.parametrize("value", [3, [], {}, {"no such field": 1}, "text"])
def test_a_record_with_a_broken_part_is_refused(part, value):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Record.from_dict(RECORD.to_dict() | {part: value})


def test_floats_keep_every_bit():
    exact = dataclasses.replace(RECORD.figures, f1=math.nextafter(0.3, 1), p_value=5e-324)
    record = dataclasses.replace(RECORD, figures=exact)
    assert Record.from_dict(json.loads(record.to_json())).figures == exact
