"""Training with rounded activations: what the student computes is what the integer network computes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import ArtefactError
from paretoscope.export import Original
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import predict, runtimes
from paretoscope.training.integers import RoundedActivations
from paretoscope.training.train import Trainer

RECIPE = Recipe.of(sparsity=0.6, bits=4, activations=8, epochs=2, minibatch=40, learning_rate=2e-3, augment=False)


@pytest.fixture(scope="module")
def trained(cut, loaded) -> Trainer:
    trainer = Trainer(cut(loaded("lenet-5"), 400), RECIPE)
    for _ in trainer.run():
        pass
    return trainer


@pytest.fixture(scope="module")
def compressed(trained) -> CompressedModel:
    """The network after the last epoch, whichever was best."""
    return replace(trained._now.student.eval().compressed(), recipe=RECIPE)


def images(trainer: Trainer) -> torch.Tensor:
    return trainer.split.validation_samples[:100]


def student_and_integer_network(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
    student = trainer._now.student.eval()
    compressed = replace(student.compressed(), recipe=RECIPE)
    with trainer.subject.running(compressed) as network, torch.inference_mode():
        return student(images(trainer)), network(images(trainer))


@pytest.mark.slow
def test_the_student_computes_what_the_integer_network_computes(trained):
    ours, theirs = student_and_integer_network(trained)
    # A code at the middle between two may fall either way.
    assert float((ours - theirs).abs().max()) < 0.02 * float(theirs.abs().max())
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


def test_ranges_are_learned_stored_and_used(trained, compressed):
    start = trained._student_of(replace(compressed, ranges={}), None, {}).activations.ranges()
    assert compressed.ranges.keys() == start.keys()
    assert any(not math.isclose(compressed.ranges[name][1], high, rel_tol=1e-3) for name, (_, high) in start.items())
    read = codec.read(codec.write(compressed))
    assert read.ranges == compressed.ranges
    with trained.subject.running(read) as network:
        for name, (low, high) in compressed.ranges.items():
            grid = network.grids[name]
            assert float(grid.scale) == pytest.approx((high - low) / 255, rel=1e-6)
    other = replace(compressed, ranges={name: (low / 4, high / 4) for name, (low, high) in compressed.ranges.items()})
    answers = []
    for each in (compressed, other):
        with trained.subject.running(each) as network, torch.inference_mode():
            answers.append(network(images(trained)))
    assert not torch.allclose(*answers, atol=0.1)


def test_onnx_runtime_runs_the_learned_ranges(trained, compressed):
    subject = trained.subject
    *_, evaluation = subject.evaluate_compressed(compressed)
    onnx = runtimes.get("onnxruntime")
    session = onnx.prepare(subject.program(compressed, "onnxruntime"))
    found = predict(session, subject.data.test_images.numpy())
    assert np.array_equal(found, evaluation.predictions.classes)
    network = Original(subject, compressed).network
    assert all(float(network.grids[name].scale) for name in compressed.ranges)


def test_what_saturates_moves_its_end_and_the_rest_passes(trained, compressed):
    """d/dx is 1 within the range and 0 beyond; what lies beyond pulls the end by its share."""
    with trained.subject.running(compressed) as network:
        rounding = RoundedActivations(trained.subject.blueprint(compressed), compressed, network)
    name = rounding._names[0]
    low, high = rounding.ranges()[name]
    x = torch.tensor([[0.3 * high, 0.9 * low, 2 * high, 2 * low - 1]], requires_grad=True)
    rounding._round(name, x).sum().backward()
    assert x.grad[0, 2:].tolist() == [0, 0]
    assert x.grad[0, 0] == pytest.approx(1, abs=1e-4)
    assert float(rounding.growth.grad[1, 0]) > 0


@pytest.mark.parametrize(
    "ranges",
    [
        [["a", -1.0]],
        [["a", -1.0, 1.0], ["a", -1.0, 1.0]],
        [["a", 0.5, 1.0]],
        [["a", -1.0, -0.5]],
        [["a", True, 1.0]],
        [[1, -1.0, 1.0]],
        {"a": [-1.0, 1.0]},
    ],
)
def test_ranges_of_a_damaged_header_are_refused(compressed, ranges):
    from paretoscope.codec.container import pack_text, unpack_text
    from paretoscope.codec.header import Header

    section = Header.of(compressed).pack()
    data = unpack_text(section)
    assert Header.unpack(pack_text(data)).ranges == compressed.ranges
    data["ranges"] = ranges
    with pytest.raises(ArtefactError, match="the header must describe a model"):
        Header.unpack(pack_text(data))
