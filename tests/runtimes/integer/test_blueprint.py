import copy

import numpy as np
import own_networks
import pytest
import torch
from compressed_models import NAMES, compress_module, data_of, logits_of, model_of, noise, shape_of, subject
from paretoscope.base.batch import parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.threads import torch_threads
from paretoscope.graph.network_graph import GraphInput
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.base import Program
from paretoscope.runtimes.integer.blueprint import CALIBRATION_IMAGES, Blueprint, CodeGrid, IntegerNetwork, simulate
from paretoscope.runtimes.integer.onnx_int8 import export_int8, write_int8
from paretoscope.runtimes.onnx_graph import arrays
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME
from torch import nn
from torch.nn import functional as F

INT8 = Recipe.of(bits=8)


def network_of(name: str, recipe: Recipe) -> IntegerNetwork:
    given = subject(name, recipe)
    return simulate(given.module, given.input_shape, given.weights, given.calibration)


def simulated(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    with torch_threads(1):
        return network(torch.from_numpy(images)).numpy()


def by_onnx_runtime(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    inputs = network.blueprint.inputs
    return ONNX_RUNTIME.prepare(Program("onnxruntime", "int8", "", inputs, write_int8(network))).run(images)


@pytest.mark.parametrize(
    "settings",
    [
        {"bits": 8},
        {"bits": 4, "keep_ends": True},
        {"bits": 4, "sparsity": 0.5, "scope": "layer", "clusters": 16},
        {"bits": 1, "granularity": "tensor"},
    ],
    ids=lambda settings: ",".join(f"{key}={value}" for key, value in settings.items()),
)
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_onnx_runtime(name, settings):
    # A network of a bit a weight amplifies every difference: it agrees because the codes do.
    network = network_of(name, Recipe.of(**settings))
    images = data_of(name).test_images[:200].numpy()
    ours, theirs = simulated(network, images), by_onnx_runtime(network, images)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.995
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.02 * np.abs(theirs).max())


def test_integer_activations_differ_from_floats():
    network = network_of("resnet-20", INT8)
    images = data_of("resnet-20").test_images[:20].numpy()
    assert np.abs(simulated(network, images) - logits_of(subject("resnet-20", INT8).module, images)).max() > 1e-3


def test_a_linear_layer_computes_what_integer_arithmetic_says():
    torch.manual_seed(3)
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 5)).eval()
    weights = compress_module(module, INT8).weights
    images = noise(50, 1, 4, 5)
    network = simulate(module, (1, 4, 5), weights, images)

    def codes(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.float32]:
        low, high = min(low, 0), max(high, 0)
        scale = np.float32((high - low) / 255)
        zero = np.rint(-low / scale)
        return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero).astype(np.int64), scale

    def layer(x: np.ndarray, scale: np.float32, index: int) -> np.ndarray:
        weight, unit = weights[f"{index}.weight"], scale * weights[f"{index}.weight"].scale
        bias = np.rint(module[index].bias.detach().numpy() / unit).astype(np.int64)
        return (x @ weight.codes.T.astype(np.int64) + bias) * unit.astype(np.float64)

    x, scale = codes(images.reshape(50, 20), float(images.min()), float(images.max()))
    hidden = logits_of(module[:3], images)
    x, scale = codes(layer(x, scale, 1), float(hidden.min()), float(hidden.max()))
    np.testing.assert_allclose(simulated(network, images), layer(x, scale, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("low, high, zero", [(-1.0, 1.5, 102), (0.5, 2.0, 0), (-3.0, -1.0, 255), (0.0, 0.0, 0)])
def test_a_grid_has_zero_on_it_and_reaches_both_ends(low, high, zero):
    grid = CodeGrid.of(low, high)
    assert grid.zero == zero and grid.scale > 0
    ends = (np.array([0, 255]) - grid.zero) * grid.scale
    assert ends[0] - grid.scale / 2 <= min(low, 0) and ends[1] + grid.scale / 2 >= max(high, 0)


class Mixed(nn.Module):
    """What a recipe may leave of a model: a folded convolution, pairs of thin layers, a bare addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Identity(), nn.ReLU())
        self.thin = nn.Sequential(nn.Conv2d(6, 2, 1, bias=False), nn.Conv2d(2, 6, 1))
        self.norm = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 4, 3)
        self.last = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 3))

    def forward(self, images):
        x = self.first(images)
        x = x + self.norm(self.thin(x))
        return self.last(F.hardtanh(self.conv(x), -2, 3).mean((2, 3)))


def mixed() -> nn.Module:
    torch.manual_seed(7)
    module = Mixed()
    with torch.no_grad():
        module.norm.weight.copy_(torch.tensor([1.0, -1, 0.5, 0, 2, 1]))
        module.norm.bias.uniform_(-1, 1)
        module.norm.running_mean.uniform_(-1, 1)
        module.norm.running_var.uniform_(0.5, 2)
    return module.eval()


OVERRIDES = {
    "integers": [],
    "a float layer first": [{"layers": "first.0", "bits": 16}],
    "a float layer last": [{"layers": "last.1", "bits": 32}],
    "a float layer with a normalisation": [{"layers": "thin.1", "bits": 12}],
    "asymmetric layers": [{"layers": "conv", "symmetric": False, "bits": 6}, {"layers": "first*", "symmetric": False}],
    "floats": [{"layers": "*", "bits": 16}],
}


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_simplified_modules_and_float_layers_agree_too(overrides):
    module, images = mixed(), noise(64, 2, 8, 8)
    recipe = Recipe.of(bits=8, overrides=OVERRIDES[overrides])
    network = simulate(module, (2, 8, 8), compress_module(module, recipe).weights, images)
    ours = simulated(network, images)
    expected = logits_of(module, images)
    np.testing.assert_allclose(ours, by_onnx_runtime(network, images), atol=0.01 * np.abs(expected).max())
    np.testing.assert_allclose(ours, expected, atol=0.05 * np.abs(expected).max())
    assert (len(network.layers) == 0) == (overrides == "floats")


def test_a_blueprint_serves_every_recipe_of_its_structure():
    name, images = "lenet-5", data_of("lenet-5").test_images[:50].numpy()
    blueprint = Blueprint(model_of(name), shape_of(name))
    for recipe in (INT8, Recipe.of(bits=2), Recipe.of(bits=8, overrides=[{"layers": "*", "bits": 16}]), INT8):
        given = subject(name, recipe)
        network = blueprint.calibrate(given.module, given.weights, given.calibration)
        assert np.array_equal(simulated(network, images), simulated(network_of(name, recipe), images))
        alone = export_int8(given.module, given.input_shape, given.weights, given.calibration)
        assert write_int8(network) == alone


def test_a_blueprint_refuses_another_structure():
    blueprint = Blueprint(model_of("lenet-5"), shape_of("lenet-5"))
    other = subject("lenet-300-100", INT8)
    with pytest.raises(ModelError, match="one structure"):
        blueprint.calibrate(other.module, other.weights, other.calibration)


def test_neither_the_module_nor_the_images_are_changed():
    module, images = mixed(), noise(16, 2, 8, 8)
    weights = compress_module(module, INT8).weights
    before, state = images.copy(), copy.deepcopy(module.state_dict())
    network = simulate(module, (2, 8, 8), weights, images)
    first = simulated(network, images)
    assert np.array_equal(first, simulated(network, images)) and np.array_equal(images, before)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_an_answer_does_not_depend_on_the_other_images_of_its_chunk():
    network = network_of("mobilenet-v2", INT8)
    images = data_of("mobilenet-v2").test_images[:9].numpy()
    together = simulated(network, images)
    alone = np.concatenate([simulated(network, images[i : i + 2]) for i in range(0, 9, 2)])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)


def test_ranges_come_from_the_first_images():
    module = mixed()
    weights = compress_module(module, INT8).weights
    images = noise(CALIBRATION_IMAGES + 1, 2, 8, 8)
    louder = images.copy()
    louder[-1] *= 100
    grids = [simulate(module, (2, 8, 8), weights, given).grids for given in (images, louder, 2 * images)]
    assert grids[0] == grids[1] != grids[2]


@pytest.mark.parametrize("name", ["residual", "lstm", "sensor", "text", "unet", "two", "detector", "regression"])
def test_networks_of_others_are_those_of_onnx_runtime(name):
    """Several inputs and outputs, tokens, convolutions along time; what has no integer kernel stays float."""
    module, inputs = own_networks.imported(name).module(), own_networks.imported(name).graph.inputs
    compressed = compress_module(module, INT8)
    module = compressed.load_into(module)
    calibration = tuple(each.numpy() for each in parts(own_networks.data(name).calibration))
    network = simulate(module, inputs, compressed.weights, calibration)
    assert network.layers
    program = Program("onnxruntime", "int8", "", network.blueprint.inputs, write_int8(network))
    theirs = arrays(ONNX_RUNTIME.prepare(program).run(calibration))
    batch = tuple(map(torch.from_numpy, calibration))
    with torch.no_grad():
        ours, floats = list(tensors_in(network(*batch))), list(tensors_in(module(*batch)))
    assert len(ours) == len(theirs) == len(floats)
    for one, other, exact in zip(ours, theirs, floats, strict=True):
        # Floats between integers are summed in another order.
        np.testing.assert_allclose(one.numpy(), other, rtol=0, atol=1e-2 * np.abs(other).max())
        assert 0 < np.abs(one - exact).max() <= 0.1 * np.abs(exact).max()


def test_a_weight_that_is_read_as_floats_too_stands_twice_in_the_file():
    tied = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
    tied[1].weight = tied[0].weight

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.out = tied

        def forward(self, tokens):
            return self.out(self.emb(tokens).mean(1))

    module = Tied().eval()
    compressed = compress_module(module, INT8)
    module = compressed.load_into(module)
    tokens = np.arange(12).reshape(4, 3) % 6
    network = simulate(module, (GraphInput("tokens", (3,), "int64"),), compressed.weights, tokens)
    program = Program("onnxruntime", "int8", "", network.blueprint.inputs, write_int8(network))
    found = ONNX_RUNTIME.prepare(program).run(tokens)
    np.testing.assert_allclose(found, network(torch.from_numpy(tokens)).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["residual", "text"])
def test_scales_that_are_moved_by_their_last_places_give_nearly_the_same(name: str) -> None:
    """And by a tenth, quite another network: every scale is moved, those of layers with those of their inputs."""
    module, inputs = own_networks.imported(name).module(), own_networks.imported(name).graph.inputs
    compressed = compress_module(module, INT8)
    calibration = tuple(each.numpy() for each in parts(own_networks.data(name).calibration))
    network = simulate(compressed.load_into(module), inputs, compressed.weights, calibration)
    batch = tuple(map(torch.from_numpy, calibration))
    given, near, far = (each(*batch) for each in (network, network.nudged(2.0**-22), network.nudged(0.1)))
    assert 0 < (near - given).abs().max() < 0.02 * given.abs().max()
    assert (far - given).abs().mean() > 10 * (near - given).abs().mean()
    assert torch.equal(network(*batch), given)
