"""The sparse runtime: its answers are PyTorch's whatever runs where, and layers go where measured times say."""

import itertools
import json

import numpy as np
import pytest
import torch
from compressed_models import NAMES, data_of, logits_of, subject
from paretoscope.base import cache
from paretoscope.base.errors import ModelError
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Runnable, predict, runtimes
from paretoscope.runtimes.sparse import choice as sparse_choice
from paretoscope.runtimes.sparse import runtime as sparse
from paretoscope.runtimes.sparse.choice import BreakEven, EngineChoice, StepTimes, break_even, choose, divide
from paretoscope.runtimes.sparse.layers import Storage, entries
from paretoscope.runtimes.sparse.network import SparseNetwork
from paretoscope.runtimes.sparse.tape import Engine
from torch import nn

SPARSE = runtimes.get("sparse")
STORAGES = {"Conv": Storage.ROWS, "Gemm": Storage.BLOCKS_OF_8}


def small(density: float = 0.25) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)).eval()
    for tensor in module.parameters():
        tensor.data = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.data *= torch.rand(tensor.shape, generator=generator) < density
    return module


def network(density: float = 0.25) -> SparseNetwork:
    return SparseNetwork(small(density), (1, 8, 8))


def images(n: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 1, 8, 8), np.float32)


def everywhere(net: SparseNetwork) -> tuple[str, ...]:
    """Every step that the kernels can run, in the kernels."""
    return tuple(
        STORAGES.get(step.node.op_type, Engine.OWN) if net.is_own(step) else Engine.DENSE for step in net.steps
    )


@pytest.fixture
def all_sparse(monkeypatch) -> None:
    """Kernels wherever they can, whatever the times."""
    monkeypatch.setattr(sparse, "choose", lambda net, images, threads: EngineChoice(everywhere(net), 1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [Recipe(), Recipe.of(sparsity=0.95), Recipe.of(pattern="2:4")])
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_pytorchs_with_kernels_wherever_they_can(name, recipe, all_sparse):
    check_predictions(name, subject(name, recipe))


@pytest.mark.slow
def test_predictions_are_pytorchs_of_a_smaller_network(all_sparse):
    from paretoscope.service import subjects

    measured = subjects.load("lenet-5")
    compressed = measured.compress(Recipe.of(nodes=0.5, sparsity=0.8))
    check_predictions("lenet-5", Runnable(measured.decoded(compressed), measured.data.test_images.shape[1:]))


def check_predictions(name: str, given: Runnable) -> None:
    program = SPARSE.build(given)
    assert (program.runtime, program.number_format) == ("sparse", "fp32")
    test_images = data_of(name).test_images.numpy()
    expected = logits_of(given.module, test_images)
    session = SPARSE.prepare(program)
    assert np.array_equal(predict(session, test_images), expected.argmax(1))
    # A bound batch gives the same as one that is run.
    session.bind(test_images[:3])()
    np.testing.assert_allclose(session.run(test_images[:3]), expected[:3], atol=1e-3 * np.abs(expected).max())
    session.close()


@pytest.mark.parametrize("name", ["lenet-300-100", "mobilenet-v2"])
def test_predictions_are_pytorchs_with_the_measured_choice(name):
    given = subject(name, Recipe.of(sparsity=0.9))
    session = SPARSE.prepare(SPARSE.build(given))
    test_images = data_of(name).test_images[:100].numpy()
    session.bind(test_images[:1])()
    assert np.array_equal(predict(session, test_images, chunk=7), logits_of(given.module, test_images).argmax(1))
    told = session.describe()
    assert told["threads"] == 1
    assert "layers sparse" in told["batch 1"]


def test_without_a_gain_it_is_onnx_runtime_itself(monkeypatch):
    dense = (Engine.DENSE,) * len(network().steps)
    monkeypatch.setattr(sparse, "choose", lambda *_: EngineChoice(dense, 1.0, 1.0))
    module, x = small(), images(3)
    onnx = runtimes.get("onnxruntime")
    expected = onnx.prepare(onnx.build(Runnable(module, (1, 8, 8)))).run(x)
    session = SPARSE.prepare(SPARSE.build(Runnable(module, (1, 8, 8))))
    session.bind(x)()
    assert np.array_equal(session.run(x), expected)
    assert session.describe()["batch 3"] == "0 of 2 layers sparse"


def test_a_program_depends_on_where_its_zeros_are():
    first, same, other = (
        SPARSE.build(Runnable(module, (1, 8, 8))) for module in (small(), small(), small(density=0.5))
    )
    assert first.graph == same.graph
    assert first.graph != other.graph
    assert SPARSE.sees_zeros


def made_up(net: SparseNetwork, seed: int) -> BreakEven:
    rng = np.random.default_rng(seed)
    steps = {}
    for step, engine in zip(net.steps, everywhere(net), strict=True):
        storages = {} if engine == Engine.DENSE else {engine: (float(rng.uniform(0, 5)), float(rng.uniform(0, 0.02)))}
        steps[step.output] = StepTimes(float(rng.uniform(0, 10)), storages)
    return BreakEven(steps, float(rng.uniform(0, 4)), float(rng.uniform(0, 4)))


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(20))
def test_no_division_takes_less_time(seed, factor):
    """Against all divisions, tried one by one."""
    net = network()
    known = made_up(net, seed)

    def cost(engines: tuple[str, ...]) -> float:
        total = known.own_call if engines[0] != Engine.DENSE else known.dense_call
        for place, (step, engine) in enumerate(zip(net.steps, engines, strict=True)):
            if engine == Engine.DENSE:
                total += known.steps[step.output].dense
            else:
                weight = net.layers.get(step.output)
                total += known.steps[step.output].of(engine, 0 if weight is None else entries(weight.weight, engine))
            if place and (engine == Engine.DENSE) != (engines[place - 1] == Engine.DENSE):
                total += factor * (known.dense_call if engine == Engine.DENSE else known.own_call)
        return total

    choices = [(Engine.DENSE, engine) for engine in everywhere(net)]
    least = min(map(cost, itertools.product(*choices)))
    assert cost(divide(net, known, factor)) == pytest.approx(least)


def test_a_layer_is_sparse_below_its_break_even():
    """One line through the origin and a constant dense time: the density at which they meet is known."""
    net = network()
    output = next(step.output for step in net.steps if step.node.op_type == "Conv")
    known = BreakEven({output: StepTimes(9.0, {Storage.ROWS: (0.0, 1.0)})}, 0.0, 0.0)
    assert known.density(net, output) == pytest.approx(9 / 36)
    assert BreakEven({output: StepTimes(100.0, {Storage.ROWS: (0.0, 1.0)})}, 0, 0).density(net, output) == 1.0
    assert BreakEven({output: StepTimes(1.0, {Storage.ROWS: (2.0, 1.0)})}, 0, 0).density(net, output) == 0.0
    assert BreakEven({output: StepTimes(1.0, {})}, 0, 0).density(net, output) == 0.0


def test_break_even_is_measured_once_and_kept(monkeypatch):
    net, calls = network(), []
    real = sparse_choice.measure
    monkeypatch.setattr(sparse_choice, "measure", lambda *args: calls.append(args) or real(*args))
    folder = cache.folder() / "break-even"
    for path in folder.glob("*.json"):
        path.unlink()
    first = break_even(net, images(), 1)
    # Other weights of the same structure.
    assert break_even(network(density=0.9), images(), 1) == first
    assert len(calls) == 1
    for step in net.steps:
        times = first.steps[step.output]
        assert times.dense >= 0
        assert all(start >= 0 and slope >= 0 for start, slope in times.storages.values())
        assert bool(times.storages) == net.is_own(step)
    break_even(net, images(2), 1)
    assert len(calls) == 2
    for path in folder.glob("*.json"):
        path.write_text(json.dumps({"steps": 1}))
    break_even(net, images(), 1)
    assert len(calls) == 3


def test_a_division_is_taken_only_where_it_is_faster(monkeypatch):
    net = network()
    engines, dense = everywhere(net), (Engine.DENSE,) * len(net.steps)
    monkeypatch.setattr(sparse_choice, "divide", lambda *_: engines)
    for times, expected in {(10.0, 5.0): engines, (10.0, 9.9): dense, (10.0, 12.0): dense}.items():
        monkeypatch.setattr(sparse_choice, "_race", lambda *_, times=times: list(times))
        assert choose(net, images(), 1) == EngineChoice(expected, times[1], times[0])
    monkeypatch.setattr(sparse_choice, "divide", lambda *_: dense)
    monkeypatch.setattr(sparse_choice, "_race", lambda *_: [7.0])
    assert choose(net, images(), 1) == EngineChoice(dense, 7.0, 7.0)


def test_kernels_that_disagree_are_refused(monkeypatch):
    net = network()
    monkeypatch.setattr(sparse_choice, "divide", lambda *_: everywhere(net))
    wrong = sparse_choice.lay_out

    def spoiled(net: SparseNetwork, engines, n: int):
        tape = wrong(net, engines, n)
        if engines[0] != Engine.DENSE:
            tape.weights[...] *= 2
        return tape

    monkeypatch.setattr(sparse_choice, "lay_out", spoiled)
    with pytest.raises(ModelError, match="must give the dense network's logits"):
        choose(net, images(), 1)


def test_a_plan_tells_why(all_sparse):
    module = small()
    program = SPARSE.build(Runnable(module, (1, 8, 8)))
    rows = sparse.plan(program, images())
    assert [row.weight for row in rows] == ["0.weight", "4.weight"]
    assert [row.form for row in rows] == [Storage.ROWS, "blocks of 8"]
    for row, layer in zip(rows, (module[0], module[4]), strict=True):
        zeros = layer.weight.detach().numpy() == 0
        assert row.density == pytest.approx(1 - zeros.mean())
        assert 0 <= row.break_even <= 1
    assert rows[0].multiplied == np.count_nonzero(module[0].weight.detach().numpy())
    # Three outputs fill a block of eight: more is multiplied than there are weights.
    assert rows[1].multiplied == module[4].weight.numel()


def test_a_profile_names_every_layer(all_sparse):
    program = SPARSE.build(subject("lenet-5", Recipe.of(sparsity=0.9)))
    x = data_of("lenet-5").calibration.numpy()[:2]
    found = SPARSE.profile(program, x, 1, 5)
    weights = [step.weight for step in program.content.network.steps if step.is_layer]
    assert list(found) == [*weights, "other"]
    assert all(spent >= 0 for spent in found.values())
    assert sum(found.values()) > 0
