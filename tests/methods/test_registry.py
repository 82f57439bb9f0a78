"""Files declare their methods: the pipeline runs what is there, in the order of the stages."""

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import paretoscope.methods as methods_folder
import pytest
import torch
from paretoscope.base.errors import CompressionError
from paretoscope.base.registry import Registry
from paretoscope.measure import variant
from paretoscope.methods import catalogue, pipeline, registry, share, simplify
from paretoscope.methods.all import declared
from paretoscope.methods.registry import (
    NetworkMethod,
    NetworkWork,
    OutputMethod,
    OutputWork,
    Sampled,
    Stage,
    WeightMethod,
    Work,
    network_methods,
    output_methods,
    weight_methods,
)
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.tensors import Plain
from paretoscope.recipe.recipe import CALIBRATIONS, Recipe, Simplify
from torch import nn

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
    monkeypatch.setattr(weight_methods, "_added", dict(weight_methods._entries))
    weight_methods.add(method)
    weight_methods._added["integers"] = replace(quantizer, takes=lambda w: w.tensor is None and quantizer.takes(w))
    return seen


REGISTRIES = [network_methods, weight_methods, output_methods]


def test_every_stage_has_methods_and_they_run_in_its_order() -> None:
    found = [method.stage for methods in REGISTRIES for method in registry.in_order(methods)]
    assert set(found) == set(Stage) and found == sorted(found, key=list(Stage).index)


def test_the_order_is_fixed() -> None:
    assert [[method.name for method in registry.in_order(methods)] for methods in REGISTRIES] == [
        ["blocks", "nodes", "fold", "merge", "low-rank"],
        ["magnitude", "pattern", "share", "binary", "integers", "rate", "groups", "gptq"],
        ["batchnorm", "bias", "outputs"],
    ]


@pytest.mark.parametrize("methods", REGISTRIES, ids=lambda methods: methods.kind)
def test_the_order_does_not_depend_on_when_a_method_was_registered(methods: Registry) -> None:
    assert list(methods) == registry.in_order(reversed(list(methods)))


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


@pytest.mark.parametrize("methods", [*REGISTRIES, catalogue.methods], ids=lambda methods: methods.kind)
def test_a_name_is_registered_once(methods: Registry) -> None:
    with pytest.raises(CompressionError, match="must be unique"):
        methods.add(next(iter(methods)))


def test_a_name_is_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "METHODS", (*share.METHODS, weight_methods.get("magnitude")))
    with pytest.raises(CompressionError, match="must be unique; magnitude is declared more than once"):
        declared(WeightMethod, lambda method: method.place)


def test_a_file_of_the_folder_is_found_without_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name for name in dir(methods_folder) if hasattr(getattr(methods_folder, name), "METHODS")}
    files = {path.stem for path in Path(methods_folder.__path__[0]).glob("*.py") if "\nMETHODS = (" in path.read_text()}
    assert files == names and len(files) > 10
    found = [each for name in files for each in getattr(methods_folder, name).METHODS]
    registered = [each for methods in (*REGISTRIES, catalogue.methods) for each in methods]
    assert len(found) == len(registered) and all(any(each is one for one in registered) for each in found)


def test_what_runs_the_methods_imports_none() -> None:
    """The pipeline, the simplify step and the variants know a method by its registry only."""
    with_methods = {f"paretoscope.methods.{name}" for name in dir(methods_folder) if is_method(name)}
    assert "paretoscope.methods.gptq" in with_methods
    for module in (pipeline, simplify, variant):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
                assert not imported & with_methods, (module.__name__, imported & with_methods)


def is_method(name: str) -> bool:
    kinds = NetworkMethod | WeightMethod | OutputMethod
    return any(isinstance(each, kinds) for each in getattr(getattr(methods_folder, name), "METHODS", ()))


def test_samples_are_asked_for_by_the_methods_that_need_them() -> None:
    assert pipeline.samples(Recipe.of(bits=4, sparsity=0.5, bias=True)) == set()
    assert pipeline.samples(Recipe.of(bits=4, rounding="gptq")) == {Sampled.SECOND_MOMENTS}
    assert pipeline.samples(Recipe.of(bits=4, calibration="rate")) == {Sampled.FISHER}
    assert pipeline.samples(Recipe.of(bits=4, calibration="rate", weighting="magnitude")) == set()
    assert pipeline.samples(Recipe.of(bits=4, calibration="rate", rounding="gptq")) == set(Sampled)


def test_methods_on_networks_and_outputs_run_where_they_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that no file knows: the first doubles the network's weights, the second its bias."""
    for methods in (network_methods, output_methods):
        monkeypatch.setattr(methods, "_added", dict(methods._entries))

    def doubled(work: NetworkWork) -> NetworkWork:
        with torch.no_grad():
            work.module[1].weight.mul_(2)
        return replace(work, report=(*work.report, "Doubled."))

    def bias(work: OutputWork) -> dict[str, np.ndarray]:
        return {"1.bias": 2 * work.compressed[1].bias.detach().numpy()}

    network_methods.add(NetworkMethod("doubled", lambda step: step.nodes == 0, doubled, place=99))
    output_methods.add(OutputMethod("doubled", lambda step: True, bias, lambda *_: ("Bias doubled.",), place=99))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    images = torch.ones(2, 1, 2, 2)
    made = variant.Variant.of(model, ModelStatistics.of(model, "toy"), Simplify(energy=0.999999), images)
    compressed = made.compress(Recipe.of(energy=0.999999, bias=True))
    np.testing.assert_array_equal(compressed.decode("1.weight"), 2 * model[1].weight.detach())
    np.testing.assert_array_equal(compressed.decode("1.bias"), 2 * model[1].bias.detach())
    assert "Doubled." in compressed.notes and compressed.notes[-1] == "Bias doubled."
