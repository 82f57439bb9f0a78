import dataclasses
import hashlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from paretoscope import codec, runtimes
from paretoscope.base.errors import CompressionError, ModelError, RuntimeUnavailableError, UnknownNameError
from paretoscope.base.progress import Calling
from paretoscope.measure.rates import rates
from paretoscope.measure.size import ladder
from paretoscope.measure.subject import Subject
from paretoscope.model.structure import Structure
from paretoscope.networks import zoo
from paretoscope.networks.zoo.model import weights_path
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.integer.blueprint import simulate
from paretoscope.service import subjects
from safetensors.torch import load_file
from sklearn.metrics import f1_score

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


def plain_harm(subject, recipe):
    """Mean KL divergence from the baseline's outputs, in the long form."""
    module, total = subject.decoded(subject.compress(recipe)), 0.0
    with torch.no_grad():
        for image in subject.data.test_images.split(1):
            p, q = (model(image).double().softmax(1)[0] for model in (subject.model, module))
            total += sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True))
    return total / len(subject.labels)


@pytest.fixture(scope="module")
def evaluations(subject):
    return list(subject.evaluate(RECIPE))


def test_the_last_evaluation_is_that_of_a_plain_loop(subject, evaluations):
    classes = plain_classes(subject.compress(RECIPE).state_dict(), "lenet-300-100")
    last = evaluations[-1]
    np.testing.assert_array_equal(last.predictions.classes, classes)
    assert last.record.figures == subject.task.score(last.predictions, subject.labels, subject.predictions)
    assert last.record.figures.harm == pytest.approx(plain_harm(subject, RECIPE), rel=1e-6)
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
        assert evaluation.record.figures == subject.task.score(
            evaluation.predictions, subject.labels, subject.predictions
        )


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
        subjects.load("lenet-6")


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

    def stop(*_: object) -> None:
        raise Enough

    with pytest.raises(Enough):
        subject.time(subject.compress(Recipe.of(bits=8)), "torch", progress=Calling(stop))


@pytest.mark.slow
def test_a_timing_says_at_which_size_and_in_which_format(resnet):
    compressed = resnet.compress(Recipe.of(bits=8, activations=8))
    found = resnet.time(compressed, "onnxruntime", 2, 1, size=24, number_format="fp32", budget_s=0.05, width=1.0)
    latency = found.latency
    assert (latency.size, latency.batch, latency.number_format, latency.stopped_by) == (24, 2, "fp32", "budget")
    assert latency.measured_for == compressed.recipe.digest
    assert len(found.samples.candidate_ms) == len(found.samples.baseline_ms) >= 15


@pytest.mark.parametrize("number_format", ["fp32", "int8"])
def test_a_program_at_another_size_predicts_what_the_module_does(resnet, number_format):
    compressed = resnet.compress(Recipe.of(bits=8, activations=8))
    program = resnet.program(compressed, "onnxruntime", size=40, number_format=number_format)
    assert (program.input_shape, program.number_format) == ((3, 40, 40), number_format)
    images = resnet.resized(40)
    assert images.shape[1:] == (3, 40, 40) and images.dtype == np.float32
    with torch.inference_mode():
        expected = resnet.decoded(compressed)(torch.from_numpy(images)).numpy()
    logits = runtimes.runtimes.get("onnxruntime").prepare(program).run(images)
    atol = 1e-3 if number_format == "fp32" else 0.2 * np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, atol=atol)


def test_images_are_resized_between_their_pixels(resnet):
    own = resnet.resized(None)
    np.testing.assert_array_equal(resnet.resized(own.shape[2]), own)
    half = resnet.resized(own.shape[2] // 2)
    means = own[: len(half)].reshape(len(half), 3, half.shape[2], 2, half.shape[3], 2).mean((3, 5))
    np.testing.assert_allclose(half, means, atol=1e-5)


@pytest.mark.parametrize("size", [0, -1, 28.0, True, 4096])
def test_a_size_must_be_a_whole_number_of_pixels(subject, size):
    for use in (subject.resized, lambda size: subject.noise("torch", size=size)):
        with pytest.raises(ModelError, match="size must be a whole number from 1 to 1024"):
            use(size)


def test_a_model_that_cannot_take_a_size_says_its_own(subject):
    compressed = subject.compress(Recipe())
    for use in (
        lambda: subject.time(compressed, "torch", size=30),
        lambda: subject.noise("torch", size=30),
        lambda: subject.profile(compressed, "torch", size=30),
    ):
        with pytest.raises(ModelError, match=r"30 x 30 gives: .+ Leave the size out for the model's own, 28"):
            use()


def test_noise_is_the_baseline_against_itself(subject):
    noise = subject.noise("torch", 2, budget_s=0.05, width=1.0)
    assert 0 < noise.low <= noise.speedup <= noise.high
    assert noise.rounds >= 5


def test_a_profile_names_the_layers_of_the_program(subject):
    compressed = subject.compress(Recipe.of(bits=8, activations=8))
    for number_format in ("fp32", "int8"):
        times = subject.profile(compressed, "onnxruntime", 3, number_format=number_format, runs=3)
        assert list(times) == [*compressed.weights, "other"]
    with pytest.raises(RuntimeUnavailableError, match=r"torch-compiled does not\. Choose one of .*onnxruntime"):
        subject.profile(compressed, "torch-compiled")


SIMPLIFIED = {
    "lenet-300-100": Recipe.of(nodes=0.4, energy=0.9, bits=4, clusters=16, rest="fp16"),
    "resnet-20": Recipe.of(nodes=0.3, drop=("stage2.2",), fold=True, bits=8, activations=8, bias=True),
}


def restarted(subject: Subject) -> Subject:
    """A subject as another process has it: nothing kept."""
    return dataclasses.replace(subject, _forms=OrderedDict(), _variants=OrderedDict())


@pytest.fixture(scope="module")
def resnet() -> Subject:
    return subjects.load("resnet-20")


def assert_same_evaluation(one, other) -> None:
    assert one.record == other.record
    np.testing.assert_array_equal(one.predictions.classes, other.predictions.classes)
    np.testing.assert_array_equal(one.predictions.confidences, other.predictions.confidences)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMPLIFIED)
def test_a_simplified_model_is_evaluated_from_its_file_alone(subject, resnet, name):
    whole = {"lenet-300-100": subject, "resnet-20": resnet}[name]
    recipe = SIMPLIFIED[name]
    first, other = restarted(whole), restarted(whole)
    data = codec.write(first.compress(recipe))
    *_, memory = first.evaluate(recipe)
    *_, file = other.evaluate_compressed(codec.read(data), data)
    assert_same_evaluation(file, memory)
    # The file was enough: nothing was simplified to evaluate it.
    assert not other._variants
    figures = memory.record
    assert figures.size.artefact == len(data)
    assert figures.digests.artefact == hashlib.sha256(data).hexdigest()
    parameters = sum(parameter.numel() for parameter in codec.read(data).build().parameters())
    baseline = sum(parameter.numel() for parameter in whole.model.parameters())
    assert figures.rates.architecture_simplification == parameters / baseline
    assert 0.1 < figures.rates.architecture_simplification < 0.75


@pytest.mark.slow
def test_folding_alone_keeps_nearly_all_parameters_and_predictions(resnet):
    *_, last = resnet.evaluate(Recipe.of(fold=True))
    norms = [part for part in resnet.model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    # A scale and a shift of each channel become one bias.
    fewer = sum(norm.num_features for norm in norms)
    assert last.record.rates.architecture_simplification == 1 - fewer / resnet.parameters
    assert np.mean(last.predictions.classes == resnet.predictions.classes) > 0.997
    np.testing.assert_allclose(last.predictions.confidences, resnet.predictions.confidences, atol=1e-3)


def test_steps_on_weights_keep_the_architecture(subject):
    for recipe in (Recipe(), Recipe.of(sparsity=0.9, clusters=4, bits=4, rounding="gptq", bias=True)):
        *_, last = subject.evaluate(recipe)
        assert last.record.rates.architecture_simplification == 1.0


def test_simplified_recipes_that_take_turns_do_not_mix(subject):
    one, other = (Recipe.of(nodes=nodes, bits=4) for nodes in (0.3, 0.6))
    wanted = [list(restarted(subject).evaluate(recipe))[-1] for recipe in (one, other)]
    mixed = restarted(subject)
    first, second = mixed.evaluate(one), mixed.evaluate(other)
    next(first), next(second)
    *_, last_second = second
    *_, last_first = first
    assert_same_evaluation(last_first, wanted[0])
    assert_same_evaluation(last_second, wanted[1])


@pytest.mark.slow
def test_more_networks_than_are_kept(subject):
    mixed = restarted(subject)
    recipes = [Recipe.of(nodes=nodes / 10, bits=8) for nodes in range(1, 8)]
    first = [mixed.compress(recipe) for recipe in recipes]
    for recipe, compressed in zip(recipes, first, strict=True):
        *_, last = mixed.evaluate_compressed(compressed)
        *_, again = restarted(subject).evaluate(recipe)
        assert_same_evaluation(last, again)


def test_a_structure_that_does_not_fit_is_refused_whatever_the_recipe_says(subject):
    """A file may name a structure beside a recipe that does not simplify: it decodes to no such network."""
    compressed = dataclasses.replace(subject.compress(RECIPE), structure=Structure(dropped=("fc2",)))
    data = codec.write(compressed)
    with pytest.raises(CompressionError, match="must drop blocks that the architecture has"):
        next(subject.evaluate_compressed(codec.read(data), data))
    with pytest.raises(CompressionError, match="must drop blocks that the architecture has"):
        subject.decoded(codec.read(data))


INTEGER = [
    Recipe.of(bits=8, activations=8),
    Recipe.of(bits=4, activations=8, symmetric=False, rounding="gptq", bias=True),
    Recipe.of(bits=6, activations=8, clusters=16, sparsity=0.5, overrides=[{"layers": "*1*", "bits": 12}]),
    SIMPLIFIED["resnet-20"],
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", INTEGER, ids=lambda recipe: recipe.describe())
def test_integer_recipes_predict_what_the_integer_kernels_compute(resnet, recipe):
    compressed = resnet.compress(recipe)
    *_, last = resnet.evaluate_compressed(compressed)
    images = resnet.data.test_images
    network = simulate(
        resnet.decoded(compressed), tuple(images.shape[1:]), compressed.weights, resnet.data.calibration.numpy()
    )
    with torch.inference_mode():
        simulated = torch.cat([network(chunk).argmax(1) for chunk in images.split(100)]).numpy()
    np.testing.assert_array_equal(last.predictions.classes, simulated)

    program = resnet.program(compressed, "onnxruntime")
    assert program.number_format == "int8"
    session = runtimes.runtimes.get("onnxruntime").prepare(program, 1)
    try:
        logits = np.concatenate([session.run(chunk.numpy()) for chunk in images.split(100)])
    finally:
        session.close()
    agreement = np.mean(logits.argmax(1) == last.predictions.classes)
    assert agreement >= 0.995
    # Rounded activations are not floats: that the two agree is not because nothing was rounded.
    with torch.inference_mode():
        floats = resnet.decoded(compressed)(images[:100]).numpy()
    assert not np.allclose(floats, logits[:100], atol=1e-4)
