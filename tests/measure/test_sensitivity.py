import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.progress import Calling
from paretoscope.measure.sensitivity import (
    GRIDS,
    SETTINGS,
    Sensitivity,
    coded_bytes,
    compress_alone,
    measure_sensitivity,
)
from paretoscope.recipe.recipe import Override, Recipe
from torch import nn

SMALL = {"sparsity": (0.5, 0.95), "clusters": (4,), "bits": (8, 2, 1)}


@pytest.fixture(scope="module")
def measured(subject) -> Sensitivity:
    return measure_sensitivity(subject, grids=SMALL)


def test_has_a_point_for_every_layer_and_value(subject, measured):
    assert list(measured.curves) == list(subject.statistics.layers)
    for curves in measured.curves.values():
        assert {setting: tuple(point.value for point in points) for setting, points in curves.items()} == SMALL
    assert (measured.correct, measured.n) == (subject.baseline.correct, len(subject.labels))


@pytest.mark.parametrize(
    ("layer", "setting", "value"), [("fc1", "bits", 1), ("fc2", "sparsity", 0.95), ("fc3", "clusters", 4)]
)
def test_agrees_with_the_evaluation_of_a_recipe_that_changes_only_that_layer(subject, measured, layer, setting, value):
    recipe = Recipe(overrides=(Override(layer, {**SETTINGS, setting: value}),))
    *_, evaluation = subject.evaluate(recipe)
    curve = measured.curves[f"{layer}.weight"][setting]
    point = next(point for point in curve if point.value == value)
    assert (point.correct, point.n) == (evaluation.record.figures.correct, evaluation.record.figures.n)


def test_divergence_is_that_of_the_class_probabilities(subject, measured):
    compressed = compress_alone(subject.statistics, "fc2.weight", {**SETTINGS, "bits": 2})
    changed = copy.deepcopy(subject.model)
    with torch.no_grad():
        changed.fc2.weight.copy_(torch.from_numpy(compressed.decode("fc2.weight")))
        p = subject.model(subject.data.test_images).double().softmax(1).numpy()
        q = changed(subject.data.test_images).double().softmax(1).numpy()
    expected = np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1))
    point = next(point for point in measured.curves["fc2.weight"]["bits"] if point.value == 2)
    assert point.kl == pytest.approx(expected, rel=1e-4)


def test_harsher_settings_diverge_more_and_cost_fewer_bytes(measured):
    for layer, curves in measured.curves.items():
        for points in curves.values():
            assert [point.kl for point in points] == sorted(point.kl for point in points)
            sizes = [measured.layer_bytes[layer], *(point.bytes for point in points)]
            assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_blocks_of_images_change_nothing(subject, measured):
    narrow = measure_sensitivity(subject, grids=SMALL, memory=1)
    for layer, curves in measured.curves.items():
        for setting, points in curves.items():
            for point, other in zip(points, narrow.curves[layer][setting], strict=True):
                assert other.kl == pytest.approx(point.kl, rel=1e-12)
                assert dataclasses.replace(other, kl=point.kl) == point
    assert (narrow.correct, narrow.n) == (measured.correct, measured.n)


def test_measures_the_layers_that_are_asked_for_and_leaves_the_subject_alone(subject, measured):
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    alone = measure_sensitivity(subject, layers=["fc3.weight"], grids={"bits": (2,)})
    assert list(alone.curves) == ["fc3.weight"]
    assert alone.curves["fc3.weight"]["bits"] == measured.curves["fc3.weight"]["bits"][1:2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.model.state_dict().items())


@pytest.mark.slow
def test_reports_progress_and_each_layer_once_it_is_complete(subject, measured):
    reports = []
    measure_sensitivity(
        subject, grids=SMALL, progress=Calling(lambda share, _, partial: reports.append((share, partial)))
    )
    shares = [share for share, _ in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    partial = [curves for _, curves in reports if curves is not None]
    assert [len(each.curves) for each in partial] == [1, 2, 3]
    assert partial[-1] == measured


def test_ends_where_the_check_says_so(subject):
    class Ended(Exception):
        pass

    calls = []

    def check(share, label, partial):
        calls.append(share)
        if len(calls) == 12:
            raise Ended

    with pytest.raises(Ended):
        measure_sensitivity(subject, grids=SMALL, progress=Calling(check))
    assert len(calls) == 12


def test_survives_storage(measured):
    assert Sensitivity.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured


@pytest.mark.parametrize(
    "damage", [lambda d: d.pop("curves"), lambda d: d.update(extra=1), lambda d: d["curves"].update(x=3)]
)
def test_damaged_data_is_refused(measured, damage):
    data = measured.to_dict()
    damage(data)
    with pytest.raises((KeyError, TypeError, AttributeError)):
        Sensitivity.from_dict(data)


def test_layers_coded_on_their_own_add_up_to_the_artefact(make):
    compressed = make(sparsity=0.5, bits=4)
    parts = sum(coded_bytes(compressed, name) for name in compressed.weights)
    whole = len(codec.write(compressed))
    assert whole / 2 < parts < whole


def test_refuses_unknown_layers_and_grids(subject):
    with pytest.raises(ModelError, match="fc1"):
        measure_sensitivity(subject, layers=["nowhere"])
    with pytest.raises(ModelError, match="none"):
        measure_sensitivity(subject, layers=[])
    with pytest.raises(RecipeError, match="threshold"):
        measure_sensitivity(subject, grids={"threshold": (0.1,)})
    with pytest.raises(RecipeError, match="sparsity must be"):
        measure_sensitivity(subject, grids={"sparsity": (95,)})


def test_refuses_a_network_that_decides_by_what_it_sees(subject):
    class Fickle(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.first: float | None = None

        def forward(self, x):
            logits = self.inner(x)
            if self.first is None:
                self.first = float(x.sum())
            return logits if float(x.sum()) == self.first else logits * 2

    fickle = dataclasses.replace(subject, model=Fickle(subject.model).eval())
    with pytest.raises(ModelError, match="same calls"):
        measure_sensitivity(_renamed(fickle), grids={"bits": (2,)})


def _renamed(subject):
    """The subject with its statistics under the names of the wrapped network."""
    layers = {f"inner.{name}": layer for name, layer in subject.statistics.layers.items()}
    statistics = dataclasses.replace(subject.statistics, layers=layers)
    return dataclasses.replace(subject, statistics=statistics)


def test_the_grids_go_from_mild_to_harsh():
    assert list(GRIDS["sparsity"]) == sorted(GRIDS["sparsity"])
    assert list(GRIDS["clusters"]) == sorted(GRIDS["clusters"], reverse=True)
    assert list(GRIDS["bits"]) == sorted(GRIDS["bits"], reverse=True)
    assert not math.isclose(GRIDS["sparsity"][-1], 1)
