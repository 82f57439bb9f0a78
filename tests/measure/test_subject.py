import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from compression import codec, zoo
from compression.errors import ModelError, UnknownNameError
from compression.measure.accuracy import score
from compression.measure.rates import rates
from compression.measure.size import ladder
from compression.measure.subject import Subject
from compression.recipe import Recipe
from compression.zoo.model import weights_path

RECIPE = Recipe.of(sparsity=0.9, clusters=4, bits=4, rest="fp16")


def plain_classes(state: dict[str, torch.Tensor], name: str) -> np.ndarray:
    """The predicted classes of the test split by nothing but PyTorch."""
    entry = zoo.models.get(name)
    model = entry.build()
    model.load_state_dict(state)
    model.eval()
    classes = []
    with torch.no_grad():
        for image in zoo.load_data(entry.dataset, entry.input_shape).test_images.split(64):
            classes.append(model(image).argmax(1))
    return torch.cat(classes).numpy()


def test_the_baseline_is_the_shipped_model(subject):
    state = load_file(weights_path("lenet-300-100"))
    classes = plain_classes(state, "lenet-300-100")
    np.testing.assert_array_equal(subject.predictions.classes, classes)
    assert subject.baseline.correct == int((classes == subject.labels).sum())
    assert subject.baseline.accuracy == subject.baseline.correct / 797
    assert subject.baseline.f1 == pytest.approx(f1_score(subject.labels, classes, average="macro"))
    assert subject.baseline.size_bytes == sum(value.numel() * value.element_size() for value in state.values())
    assert len(subject.labels) == 797


@pytest.fixture(scope="module")
def evaluations(subject):
    return list(subject.evaluate(RECIPE))


def test_the_last_evaluation_is_that_of_a_plain_loop(subject, evaluations):
    classes = plain_classes(subject.compress(RECIPE).state_dict(), "lenet-300-100")
    last = evaluations[-1]
    np.testing.assert_array_equal(last.predictions.classes, classes)
    assert last.record.figures == score(classes, subject.labels, subject.predictions.classes, 10)
    assert last.record.figures.n == 797
    assert last.record.figures.correct == int((classes == subject.labels).sum())
    # The recipe is harsh enough that an unchanged model could not pass for it.
    assert last.record.figures.correct != subject.baseline.correct


def test_earlier_evaluations_are_of_the_first_samples(subject, evaluations):
    last = evaluations[-1].predictions.classes
    sizes = [evaluation.record.figures.n for evaluation in evaluations]
    assert sizes == [*range(100, 797, 100), 797]
    for evaluation in evaluations:
        n = evaluation.record.figures.n
        np.testing.assert_array_equal(evaluation.predictions.classes, last[:n])
        assert evaluation.record.figures == score(last[:n], subject.labels, subject.predictions.classes, 10)


def test_everything_but_the_figures_is_there_from_the_start(subject, evaluations):
    first, last = evaluations[0].record, evaluations[-1].record
    for field in ("model", "dataset", "recipe", "digests", "baseline", "rates", "size", "latency"):
        assert getattr(first, field) == getattr(last, field)
    compressed = subject.compress(RECIPE)
    assert (last.model, last.dataset, last.recipe) == ("lenet-300-100", "digits", RECIPE)
    assert last.baseline == subject.baseline
    assert last.size == ladder(compressed)
    assert last.rates == rates(compressed)
    assert last.latency is None


def test_the_digests_are_of_what_was_measured(subject, evaluations):
    digests = evaluations[-1].record.digests
    assert digests.artefact == hashlib.sha256(codec.write(subject.compress(RECIPE))).hexdigest()
    assert digests.recipe == RECIPE.digest
    assert digests.model == subject.statistics.digest
    assert digests.dataset == subject.data.digest


def test_a_file_gives_the_same_evaluation(subject, evaluations):
    data = codec.write(subject.compress(RECIPE))
    *_, again = subject.evaluate_compressed(codec.read(data), data)
    assert again.record == evaluations[-1].record
    np.testing.assert_array_equal(again.predictions.classes, evaluations[-1].predictions.classes)
    np.testing.assert_array_equal(again.predictions.confidences, evaluations[-1].predictions.confidences)


def test_the_lossless_recipe_is_the_baseline(subject):
    *_, last = subject.evaluate(Recipe())
    np.testing.assert_array_equal(last.predictions.classes, subject.predictions.classes)
    np.testing.assert_array_equal(last.predictions.confidences, subject.predictions.confidences)
    assert last.record.figures.correct == subject.baseline.correct
    assert last.record.figures.p_value == 1.0
    weights = [layer.weight for layer in subject.statistics.layers.values()]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert last.record.rates.sparse_rate == zeros / sum(weight.size for weight in weights)


def test_the_baseline_is_not_touched(subject):
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    list(subject.evaluate(Recipe.of(bits=1)))
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not subject.model.training


def test_an_evaluation_can_be_given_up(subject):
    running = subject.evaluate(RECIPE)
    assert next(running).record.figures.n == 100
    running.close()


def test_evaluations_that_take_turns_do_not_mix(subject, evaluations):
    """The page gives up one recipe for another in the middle, and a sweep waits while a slider is measured."""
    other = Recipe.of(bits=1, granularity="tensor")
    first = subject.evaluate(RECIPE)
    next(first)
    *_, between = subject.evaluate(other)
    *_, last = first
    np.testing.assert_array_equal(last.predictions.confidences, evaluations[-1].predictions.confidences)
    *_, alone = subject.evaluate(other)
    np.testing.assert_array_equal(between.predictions.confidences, alone.predictions.confidences)
    assert between.record == alone.record
    assert not np.array_equal(alone.predictions.classes, last.predictions.classes)


def test_an_artefact_of_other_weights_is_refused(subject):
    stranger = dataclasses.replace(subject.compress(RECIPE), source="f" * 64)
    with pytest.raises(ModelError, match="must come from the weights of lenet-300-100") as raised:
        next(subject.evaluate_compressed(stranger))
    assert "f" * 12 in str(raised.value)
    assert subject.statistics.digest[:12] in str(raised.value)


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(UnknownNameError, match="lenet-300-100, lenet-5, simple-cnn"):
        Subject.load("lenet-6")


def test_a_program_is_built_of_the_decoded_weights(subject):
    compressed = subject.compress(Recipe.of(bits=8, activations=8))
    integer = subject.program(compressed, "onnxruntime")
    assert integer.number_format == "int8"
    assert integer.content == subject.program(compressed, "onnxruntime").content
    assert subject.program(subject.compress(Recipe.of(bits=8)), "onnxruntime").number_format == "fp32"
    assert subject.program(compressed, "torch").number_format == "fp32"
    with pytest.raises(UnknownNameError):
        subject.program(compressed, "abacus")


def test_a_timing_can_be_stopped_between_its_pairs(subject):
    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        subject.time(subject.compress(Recipe.of(bits=8)), "torch", check=stop)
