import csv
import dataclasses
import io
import json

import timings
from paretoscope.measure.record import Digests, Ladder, Latency, Rates, Record
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import table as export
from paretoscope.tasks.classification import Accuracy, Baseline

RECIPE = Recipe.of(sparsity=0.5, clusters=4, bits=8, rest="fp16")


def record(recipe: Recipe, latency: Latency | None) -> Record:
    return Record(
        model="a-model",
        dataset='a "data set", with a comma',
        recipe=recipe,
        digests=Digests("a" * 64, "b" * 64, recipe.digest, "c" * 64),
        figures=Accuracy(797, 790, 790 / 797, 0.98, 0.995, 0.1 + 0.2, 1 / 3, 1 / 7),
        baseline=Baseline(796, 796 / 797, 0.99, 1_000_000),
        rates=Rates(0.8, 0.2, 1.0),
        size=Ladder(1_000_000, 300_000, 90_000, 50_000, 49_000, 50_000),
        latency=latency,
    )


def test_records_as_a_table():
    timing = timings.latency(measured_for=RECIPE.digest)
    reused = dataclasses.replace(timing, measured_for="0" * 64)
    records = [record(Recipe(), None), record(RECIPE, timing), record(RECIPE, reused)]
    rows = list(csv.DictReader(io.StringIO(export.records_csv(records))))
    assert len(rows) == 3
    for row, each in zip(rows, records, strict=True):
        assert row["model"] == "a-model"
        assert row["dataset"] == 'a "data set", with a comma'
        settings = {**each.recipe.settings(), "drop": "", "overrides": ""}
        assert {name: row[name] for name in settings} == {
            name: "" if value is None else str(value) for name, value in settings.items()
        }
        # Floats are written so that they read back exactly.
        for name, value in dataclasses.asdict(each.figures).items():
            assert float(row[name]) == value
        for name, value in dataclasses.asdict(each.size).items():
            assert int(row[f"size_{name}"]) == value
        for name, value in dataclasses.asdict(each.rates).items():
            assert float(row[name]) == value
        for name, value in dataclasses.asdict(each.baseline).items():
            assert float(row[f"baseline_{name}"]) == value
        for name, value in dataclasses.asdict(each.digests).items():
            assert row[f"digest_{name}"] == value
        assert float(row["ratio"]) == 20.0
    assert [row["latency_median_ms"] for row in rows] == ["", "0.125", "0.125"]
    assert [row["latency_speedup"] for row in rows] == ["", "2.0", "2.0"]
    assert [row["latency_reused"] for row in rows] == ["", "False", "True"]
    assert [row["clusters"] for row in rows] == ["", "4", "4"]


def test_no_records_make_no_table():
    assert export.records_csv([]) == ""


def test_lines_end_the_same_on_every_system():
    text = export.records_csv([record(Recipe(), None)])
    assert "\r" not in text
    assert text.count("\n") == 2


def test_lists_are_written_as_text():
    recipe = Recipe.of(drop=("stage1.1", "stage2.1"), overrides=[{"layers": "fc*", "bits": 8}])
    (row,) = csv.DictReader(io.StringIO(export.records_csv([record(recipe, None)])))
    assert row["drop"] == "stage1.1 stage2.1"
    assert json.loads(row["overrides"]) == [{"layers": "fc*", "bits": 8}]
