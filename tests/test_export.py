import csv
import dataclasses
import io
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

from compression import export
from compression.measure.record import Accuracy, Baseline, Digests, Ladder, Latency, Rates, Record
from compression.pipeline import CompressedModel, compress
from compression.recipe import Recipe
from compression.statistics import ModelStatistics

RECIPE = Recipe.of(sparsity=0.5, clusters=4, bits=8, rest="fp16")


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture(scope="module")
def compressed() -> CompressedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return compress(ModelStatistics.of(build(), "a-net"), RECIPE)


def test_the_weights_are_the_full_decoded_state(compressed):
    state = load(export.weights(compressed))
    model = build()
    model.load_state_dict(state, strict=True)
    assert set(state) == set(compressed.order) == set(model.state_dict())
    for name, value in compressed.state_dict().items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value)
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert state["1.weight"].dtype == torch.float32


def test_equal_models_give_equal_files_that_say_where_they_are_from(compressed, tmp_path):
    data = export.weights(compressed)
    assert export.weights(compressed) == data
    (tmp_path / "weights.safetensors").write_bytes(data)
    with safe_open(tmp_path / "weights.safetensors", "np") as file:
        origin = json.loads(file.metadata()["paretoscope"])
    assert origin == {"architecture": "a-net", "source": compressed.source, "recipe": RECIPE.to_dict()}
    assert Recipe.from_dict(origin["recipe"]) == RECIPE


def record(recipe: Recipe, latency: Latency | None) -> Record:
    return Record(
        model="a-model",
        dataset='a "data set", with a comma',
        recipe=recipe,
        digests=Digests("a" * 64, "b" * 64, recipe.digest, "c" * 64),
        figures=Accuracy(797, 790, 790 / 797, 0.98, 0.995, 0.1 + 0.2, 1 / 3),
        baseline=Baseline(796, 796 / 797, 0.99, 1_000_000),
        rates=Rates(0.8, 0.2, 1.0),
        size=Ladder(1_000_000, 300_000, 90_000, 50_000, 49_000, 50_000),
        latency=latency,
    )


def test_records_as_a_table():
    timing = Latency("onnxruntime", "int8", 1, 2, "9" * 64, 0.125, 0.25, 2.0, 1.9, 2.1, 45, RECIPE.digest)
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
