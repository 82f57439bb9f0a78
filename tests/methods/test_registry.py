"""Methods on weights register themselves: the pipeline runs what is there, in the order of the stages."""

import ast
import inspect
from dataclasses import replace

import numpy as np
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.methods import pipeline, registry
from paretoscope.methods.registry import Stage, WeightMethod, Work, weight_methods
from paretoscope.model.statistics import LayerStatistics
from paretoscope.model.tensors import Plain
from paretoscope.recipe.recipe import CALIBRATIONS, Recipe

WEIGHT = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
LAYER = LayerStatistics.of("fc.weight", WEIGHT)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """A method that is registered for one test: after pruning, weights of recipes of 5 bits are stored halved."""
    seen: list[Work] = []

    def apply(work: Work) -> Work:
        seen.append(work)
        return replace(work, tensor=Plain(work.weight / 2))

    method = WeightMethod(
        "halved",
        Stage.SHARE,
        takes=lambda work: work.plan.quantize is not None and work.plan.quantize.bits == 5,
        apply=apply,
        notes=lambda shapes, plans: [f"{len(shapes)} layers are halved."],
        keeping=lambda recipe: "less halving",
        prepare=lambda statistics, plans, recipe: {"fc.weight": "prepared"},
    )
    quantizer = weight_methods.get("integers")
    monkeypatch.setattr(weight_methods, "_added", dict(weight_methods._added))
    weight_methods.add(method)
    weight_methods._added["integers"] = replace(quantizer, takes=lambda w: w.tensor is None and quantizer.takes(w))
    return seen


def test_every_stage_has_methods_and_they_run_in_its_order() -> None:
    found = [method.stage for method in registry.in_order()]
    assert set(found) == set(Stage) and found == sorted(found, key=list(Stage).index)
    assert {method.name for method in registry.in_order()} == set(weight_methods.names())


def test_one_method_quantizes_each_plan() -> None:
    for bits in (1, 2, 8, 16):
        for calibration in CALIBRATIONS:
            work = Work(LAYER, Recipe.of(bits=bits, calibration=calibration, weighting="magnitude"), WEIGHT)
            taking = [each for each in weight_methods if each.stage is Stage.QUANTIZE and each.takes(work)]
            assert len(taking) == 1, (bits, calibration)


def test_what_is_registered_runs_and_the_pipeline_is_not_touched(added: list[Work]) -> None:
    found = pipeline.compress_layer(LAYER, Recipe.of(bits=5))
    assert np.array_equal(found.decode(), WEIGHT / 2) and len(added) == 1
    assert not np.array_equal(pipeline.compress_layer(LAYER, Recipe.of(bits=4)).decode(), WEIGHT / 2)
    assert "1 layers are halved." in pipeline.notes_of({"fc.weight": (6, 8)}, Recipe.of(bits=5))
    assert "less halving" in pipeline._keeping(Recipe.of(bits=5))


def test_work_comes_from_pruning_to_the_later_methods(added: list[Work]) -> None:
    pipeline.compress_layer(LAYER, Recipe.of(pattern="1:2", bits=5))
    (work,) = added
    assert np.count_nonzero(work.weight) == WEIGHT.size / 2 and np.array_equal(work.kept, work.weight != 0)
    assert work.layer.weight is WEIGHT


def test_a_name_is_registered_once() -> None:
    with pytest.raises(CompressionError, match="must be unique"):
        weight_methods.add(weight_methods.get("share"))


def test_the_pipeline_imports_no_method() -> None:
    tree = ast.parse(inspect.getsource(pipeline))
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paretoscope.methods")
        for name in node.names
    }
    assert imported == {"all", "rest", "Work", "in_order", "run"}
