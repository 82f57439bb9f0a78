"""Whatever computes for long holds the machine meanwhile, so that it does not run beside a timing."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from paretoscope import codec, runtimes
from paretoscope.base import lock as exclusive
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT
from paretoscope.codec import artefact as artefacts
from paretoscope.export import produce
from paretoscope.export import torch_export as exports
from paretoscope.measure import machine as machines
from paretoscope.measure import sensitivity
from paretoscope.measure.layers import layer_table
from paretoscope.measure.subject import Subject
from paretoscope.methods import compensate, dependent, pipeline, prune, share
from paretoscope.networks.zoo import models
from paretoscope.networks.zoo.train import train
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import onnx_runtime
from paretoscope.search.allot import allot
from paretoscope.service import subjects
from paretoscope.training.train import Trainer
from torch import fx
from torch.nn.modules.module import register_module_forward_pre_hook

pytestmark = pytest.mark.slow

HEAVY = {
    share: ["fit", "assign"],
    prune: ["cuts_of"],
    dependent: ["quantize"],
    compensate: ["round_with_compensation"],
    artefacts: ["write_streams", "read_streams"],
    sensitivity.codec: ["write_streams"],
    exports.torch.export: ["export", "load"],
    onnx_runtime.OnnxSession: ["run"],
}


@pytest.fixture(autouse=True)
def own_lock(tmp_path, monkeypatch):
    monkeypatch.setenv(exclusive.ENVIRONMENT, str(tmp_path / "machine"))


def few(name: str) -> Subject:
    """Not what other tests share: what it keeps must be computed here. With few images for calibration."""
    whole = subjects.load(name)
    return dataclasses.replace(whole, data=dataclasses.replace(whole.data, calibration=whole.data.calibration[:16]))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return few("simple-cnn")


@pytest.fixture(scope="module")
def residual() -> Subject:
    return few("resnet-20")


@pytest.fixture
def unheld(monkeypatch):
    """Names of what ran while its thread did not hold the machine; `ran` has all of it."""
    found, ran = [], []

    def see(name: str) -> None:
        ran.append(name)
        if exclusive._held.file is None:
            found.append(name)

    for where, names in HEAVY.items():
        for name in names:
            original = getattr(where, name)

            def watched(*args, _original=original, _name=name, **kwargs):
                see(_name)
                return _original(*args, **kwargs)

            monkeypatch.setattr(where, name, watched)

    def forward(module: torch.nn.Module, inputs: tuple) -> None:
        # Shapes without values are no work, nor is following the calls of a network.
        if not any(isinstance(each, fx.Proxy) or (isinstance(each, torch.Tensor) and each.is_meta) for each in inputs):
            see(f"forward {type(module).__name__}")

    hook = register_module_forward_pre_hook(forward)
    yield found, ran
    hook.remove()


def rows(subject: Subject, recipe: Recipe) -> None:
    layer_table(subject, subject.compress(recipe))


def epoch(subject: Subject, **settings) -> None:
    next(iter(Trainer(subject, Recipe.of(epochs=1, **settings)).run(lambda *_: None)))


WORK = {
    "one-shot": (lambda s: s.compress(Recipe.of(sparsity=0.5, clusters=4, bits=4)), ["fit", "cuts_of"]),
    "gptq": (lambda s: s.compress(Recipe.of(bits=4, rounding="gptq")), ["round_with_compensation", "forward Conv2d"]),
    "fisher": (lambda s: s.compress(Recipe.of(bits=8, calibration="rate")), ["quantize", "forward Conv2d"]),
    "bias": (lambda s: s.compress(Recipe.of(bits=4, bias=True)), ["forward Conv2d"]),
    "nodes": (lambda s: s.compress(Recipe.of(nodes=0.3, energy=0.9, fold=True, batchnorm=True)), ["forward Conv2d"]),
    "artefact": (lambda s: codec.read(codec.write(s.compress(Recipe()))), ["write_streams", "read_streams"]),
    "evaluate": (lambda s: list(s.evaluate(Recipe.of(bits=8, activations=8))), ["write_streams"]),
    "train harm": (lambda s: s.train_harm(s.compress(Recipe())), ["forward Conv2d"]),
    "allot": (lambda s: allot(s, Recipe.of(weighting="magnitude", bits=8, calibration="rate"), size=1), ["quantize"]),
    "training": (lambda s: epoch(s, clusters=16, bits=4, minibatch=500), ["fit", "forward Conv2d"]),
    "layers": (lambda s: rows(s, Recipe()), ["forward Conv2d"]),
}


@pytest.mark.parametrize("name", WORK)
def test_heavy_work_holds_the_machine(name, subject, unheld):
    work, expected = WORK[name]
    found, ran = unheld
    work(subject)
    assert set(expected) <= set(ran)
    assert found == []


@pytest.mark.parametrize("format", ["artefact", "onnx", "onnx-int8", "torch-export", "safetensors"])
def test_conversions_and_their_checks_hold_the_machine(format, subject, unheld):
    found, ran = unheld
    checked = produce(subject.compress(Recipe.of(bits=8, activations=8)), format, subject)
    assert checked.verification.passed
    assert ran and found == []


def test_so_do_blocks_and_batch_normalisation_and_other_sizes(residual, unheld):
    found, ran = unheld
    residual.compress(Recipe.of(bits=4, batchnorm=True, blocks=1))
    residual.program(residual.compress(Recipe()), "torch", size=16)
    assert "forward BatchNorm2d" in ran and found == []


def test_sensitivity_holds_the_machine(subject, unheld):
    found, ran = unheld
    (layer, *_) = subject.statistics.layers
    sensitivity.measure_sensitivity(subject, [layer], {"bits": [4]}, progress=SILENT)
    assert {"write_streams", "forward Conv2d"} <= set(ran) and found == []


def test_loading_a_model_holds_the_machine(unheld):
    found, ran = unheld
    subjects.load("lenet-300-100")
    assert "forward Linear" in ran and found == []


def test_training_of_the_zoo_holds_the_machine(unheld):
    found, ran = unheld
    train("lenet-300-100", settings=dataclasses.replace(models.get("lenet-300-100").training, epochs=1))
    assert "forward Linear" in ran and found == []


def test_measuring_the_machine_has_it_alone(monkeypatch):
    held = []
    machines._fastest(lambda: held.append(exclusive.alone()))
    assert held and all(held)


def test_predictions_of_a_runtime_hold_the_machine(subject, unheld):
    found, ran = unheld
    program = subject.program(subject.compress(Recipe()), "onnxruntime")
    session = runtimes.runtimes.get("onnxruntime").prepare(program)
    runtimes.predict(session, subject.resized(None)[:4])
    assert "run" in ran and found == []


def test_layers_in_threads_do_not_wait_for_a_timing_that_waits_for_them(subject, monkeypatch):
    monkeypatch.setattr(pipeline, "WEIGHTS_FOR_THREADS", 0)
    monkeypatch.setattr(exclusive, "PATIENCE_S", 30.0)
    order = []

    def time_it() -> None:
        with machine(exclusive=True):
            order.append("timing" if exclusive.alone() else "without")

    waiting = threading.Thread(target=time_it)
    with machine(exclusive=False):
        waiting.start()
        while waiting.ident not in exclusive._waits:
            assert waiting.is_alive()
        found = pipeline.compress(subject.statistics, Recipe.of(bits=4))
    waiting.join(60)
    assert order == ["timing"] and exclusive.trouble() is None
    alone = pipeline.compress(subject.statistics, Recipe.of(bits=4))
    assert all(np.array_equal(found.decode(name), alone.decode(name)) for name in alone.order)
    assert torch.get_num_threads() >= 1
