import collections

import numpy as np
import onnx
import pytest
import torch
from compressed_models import NAMES, compress_module, data_of, logits_of, noise, shape_of, statistics_of, subject
from onnx import numpy_helper
from paretoscope.base.errors import ModelError
from paretoscope.methods.pipeline import compress
from paretoscope.model import weights
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain, as_integers
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.integer.onnx_int8 import export_int8
from paretoscope.runtimes.onnx_graph import export_fp32, graph_digest
from paretoscope.runtimes.sessions import open_session, session_options
from torch import nn
from torch.nn import functional as F

INT8 = Recipe.of(bits=8)


def export(name: str, recipe: Recipe) -> bytes:
    given = subject(name, recipe)
    return export_int8(given.module, given.input_shape, given.weights, given.calibration)


def run(data: bytes, images: np.ndarray) -> np.ndarray:
    (logits,) = open_session(data).run(["logits"], {"images": images})
    return logits


def initializers(data: bytes) -> dict[str, np.ndarray]:
    model = onnx.load_model_from_string(data)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def kernels(data: bytes, path) -> collections.Counter:
    """What ONNX Runtime runs, after its own optimisations."""
    options = session_options(1)
    options.optimized_model_filepath = str(path)
    open_session(data, options)
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def flipped_channels(module: nn.Module) -> dict[str, np.ndarray]:
    """Which factors of the batch normalisation after a convolution are negative, by the convolution's weight.

    In the models of the zoo a normalisation is the module after its convolution, in the order of `named_modules`.
    """
    flipped, last = {}, None
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            last = f"{name}.weight"
        elif isinstance(part, nn.BatchNorm2d):
            flipped[last] = part.weight.detach().numpy() < 0
    return flipped


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_the_decoded_model(name):
    images = data_of(name).test_images.numpy()
    expected = logits_of(subject(name, INT8).module, images).argmax(1)
    predicted = run(export(name, INT8), images).argmax(1)
    assert (predicted == expected).mean() >= 0.99


RECIPES = {
    "8 bits a channel": INT8,
    "8 bits a tensor": Recipe.of(bits=8, granularity="tensor"),
    "binary": Recipe.of(bits=1),
    "shared": Recipe.of(sparsity=0.5, scope="layer", clusters=16, bits=8),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_our_codes_bit_for_bit(name, recipe):
    given = subject(name, RECIPES[recipe])
    found = initializers(export(name, RECIPES[recipe]))
    flipped = flipped_channels(given.module)
    assert set(given.weights) == weights.names(given.module)
    for key, tensor in given.weights.items():
        ours = as_integers(tensor).codes
        sign = np.where(flipped.get(key, np.zeros(len(ours), bool)), -1, 1).reshape(-1, *[1] * (ours.ndim - 1))
        assert found[key].dtype == np.int8
        assert np.array_equal(found[key], ours * sign), key
    floats = [key for key, value in found.items() if value.dtype == np.float32 and value.ndim > 1]
    assert set(floats) <= {"class_token", "encoder.pos_embedding"}


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_runs_on_an_integer_kernel(name, tmp_path):
    module = subject(name, INT8).module
    linear = sum(isinstance(part, (nn.Linear, nn.MultiheadAttention)) for part in module.modules())
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    ran = kernels(export(name, INT8), tmp_path / "optimised.onnx")
    assert ran["QLinearConv"] == convolutions
    assert ran["QGemm"] == linear
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "BatchNormalization"} & set(ran)
    if name != "vit-tiny":
        graph = onnx.load_model_from_string(export_fp32(module, shape_of(name))).graph
        traced = collections.Counter(node.op_type for node in graph.node)
        assert ran["QLinearAdd"] == traced["Add"]
        assert ran["QLinearGlobalAveragePool"] == traced["GlobalAveragePool"]
        assert ran["QuantizeLinear"] == 1  # the image; from there on, codes only
        assert not {"Add", "Relu", "Clip", "DequantizeLinear"} & set(ran)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simple-cnn", "resnet-20"])
def test_equal_recipes_give_equal_bytes_and_all_recipes_one_structure(name):
    assert export(name, INT8) == export(name, INT8)
    digests = {graph_digest(export(name, recipe)) for recipe in RECIPES.values()}
    assert len(digests) == 1
    fp32 = graph_digest(export_fp32(subject(name, INT8).module, shape_of(name)))
    assert fp32 not in digests


@pytest.mark.parametrize("bits", range(1, 9))
def test_all_bits_up_to_eight_keep_their_meaning(bits):
    name, recipe = "lenet-5", Recipe.of(bits=bits)
    images = data_of(name).test_images[:200].numpy()
    expected = logits_of(subject(name, recipe).module, images)
    error = run(export(name, recipe), images) - expected
    assert np.abs(error).max() <= 0.1 * np.abs(expected).max()


def test_a_linear_layer_computes_what_integer_arithmetic_says():
    torch.manual_seed(3)
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 5)).eval()
    compressed = compress_module(module, INT8)
    images = noise(64, 1, 4, 5)
    found = initializers(export_int8(module, (1, 4, 5), compressed.weights, images))

    low, high = min(float(images.min()), 0), max(float(images.max()), 0)
    scale = np.float32((high - low) / 255)
    zero = int(np.rint(-low / scale))
    assert found["images:scale"] == scale and found["images:zero_point"] == zero
    codes = np.clip(np.rint(images.reshape(64, 20) / scale) + zero, 0, 255).astype(np.int64) - zero
    weight = compressed.weights["1.weight"]
    bias = np.rint(module[1].bias.detach().numpy() / (scale * weight.scale)).astype(np.int64)
    expected = (codes @ weight.codes.T.astype(np.int64) + bias) * (scale * weight.scale)
    logits = run(export_int8(module, (1, 4, 5), compressed.weights, images), images)
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-7)


def normalised_cnn(gamma: list[float]) -> nn.Module:
    torch.manual_seed(4)
    channels = len(gamma)
    module = nn.Sequential(
        nn.Conv2d(2, channels, 3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
        nn.Conv2d(channels, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    norm = module[1]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(gamma))
        norm.bias.uniform_(0.5, 2)
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    return module.eval()


GAMMAS = [
    [1.0, -1.5, 0.7, -0.2],
    [1.0, 0.0, -1.0, 0.0],
    [1.0, 1e-12, -1e-12, -2.0],
    [1.0, 1e-38, -1e-38, 1.0],
    [0.0] * 4,
]


@pytest.mark.parametrize("gamma", GAMMAS)
def test_batch_normalisation_is_folded_whatever_its_factors(gamma):
    module = normalised_cnn(gamma)
    with torch.no_grad():
        module[1].bias[1], module[1].running_mean[1] = 0, 0
    compressed = compress_module(module, INT8)
    images = noise(64, 2, 9, 9)
    data = export_int8(module, (2, 9, 9), compressed.weights, images)
    expected = logits_of(module, images)
    np.testing.assert_allclose(run(data, images), expected, rtol=0, atol=0.02 * max(1, np.abs(expected).max()))
    found, codes = initializers(data), compressed.weights["0.weight"].codes
    for channel, factor in enumerate(gamma):
        if abs(factor) > 0.1:
            assert np.array_equal(found["0.weight"][channel], np.sign(factor) * codes[channel])
    assert (found["0.weight:scale"] > 0).all()


def test_a_channel_without_weights_keeps_its_bias():
    module = normalised_cnn([1.0, 1.0, 1.0, 1.0])
    with torch.no_grad():
        module[0].weight[1] = 0
        module[3].weight[2] = 0
    compressed = compress_module(module, INT8)
    images = noise(64, 2, 9, 9)
    logits = run(export_int8(module, (2, 9, 9), compressed.weights, images), images)
    expected = logits_of(module, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=0.02 * np.abs(expected).max())


class Branches(nn.Module):
    """Two convolutions of one input, added and clipped, then read as codes or as floats."""

    def __init__(self, read_as_floats: bool) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.norm = nn.LayerNorm(6, elementwise_affine=False) if read_as_floats else nn.Identity()
        self.last = nn.Conv2d(4, 3, 3)

    def forward(self, images):
        x = self.norm(F.hardtanh(self.left(images) + self.right(images), -1.5, 2.0))
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize("read_as_floats", [False, True])
def test_an_addition_is_an_integer_where_integers_read_it(read_as_floats, tmp_path):
    torch.manual_seed(5)
    module = Branches(read_as_floats).eval()
    compressed = compress_module(module, INT8)
    images = noise(64, 1, 8, 8)
    data = export_int8(module, (1, 8, 8), compressed.weights, images)
    ran = kernels(data, tmp_path / "optimised.onnx")
    assert (ran["QLinearAdd"], ran["Add"], ran["Clip"]) == ((0, 1, 1) if read_as_floats else (1, 0, 0))
    expected = logits_of(module, images)
    np.testing.assert_allclose(run(data, images), expected, rtol=0, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("low, high", [(0.3, 2.0), (-2.0, -0.3), (0.0, 1.0), (-1.0, 1.0)])
def test_activations_keep_their_bounds_on_either_side_of_zero(low, high):
    torch.manual_seed(8)
    layers = nn.Conv2d(1, 4, 3), nn.Hardtanh(low, high), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    module = nn.Sequential(*layers).eval()
    compressed = compress_module(module, INT8)
    images = noise(64, 1, 7, 7)
    expected = logits_of(module, images)
    logits = run(export_int8(module, (1, 7, 7), compressed.weights, images), images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=0.03 * np.abs(expected).max())


def test_a_layer_that_is_used_twice_is_written_for_each_use():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(9, 9)

        def forward(self, images):
            return self.layer(F.relu(self.layer(images.flatten(1))))

    torch.manual_seed(6)
    module = Twice().eval()
    compressed = compress_module(module, INT8)
    images = noise(64, 1, 3, 3)
    data = export_int8(module, (1, 3, 3), compressed.weights, images)
    expected = logits_of(module, images)
    np.testing.assert_allclose(run(data, images), expected, rtol=0, atol=0.02 * np.abs(expected).max())
    assert [value.shape for value in initializers(data).values() if value.dtype == np.int8].count((9, 9)) == 2


def test_a_file_for_one_batch_serves_any_batch():
    images = data_of("vit-tiny").test_images[:7].numpy()
    session = open_session(export("vit-tiny", INT8))
    together = session.run(None, {"images": images})[0]
    alone = np.concatenate([session.run(None, {"images": images[i : i + 1]})[0] for i in range(7)])
    np.testing.assert_allclose(alone, together, atol=1e-4)


def weights_of_more_bits() -> dict[str, CompressedTensor]:
    values = noise(3, 4)
    return {
        "16 bits": Integers((100 * values).astype(np.int16), np.float32(0.01), 16),
        "floats": Plain(values),
        "a codebook of floats": Codebook(np.ones((3, 4), np.uint8), Plain(np.ones(1, np.float32))),
    }


@pytest.mark.parametrize("kind", weights_of_more_bits())
def test_weights_that_fit_no_integer_kernel_stay_floats(kind):
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    tensor = weights_of_more_bits()[kind]
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(tensor.decode()))
    images = noise(4, 1, 2, 2)
    data = export_int8(module, (1, 2, 2), {"1.weight": tensor}, images)
    np.testing.assert_array_equal(initializers(data)["1.weight"], tensor.decode())
    np.testing.assert_allclose(run(data, images), logits_of(module, images), atol=1e-5)


@pytest.mark.slow
def test_layers_of_more_bits_run_beside_integer_ones(tmp_path):
    recipe = Recipe.of(bits=4, overrides=[{"layers": "stage1.*", "bits": 16}, {"layers": "fc", "bits": 32}])
    given = subject("resnet-20", recipe)
    data = export("resnet-20", recipe)
    ran = kernels(data, tmp_path / "optimised.onnx")
    floats = ran["Conv"] + ran["FusedConv"]
    assert (floats, ran["QLinearConv"]) == (6, sum(isinstance(m, nn.Conv2d) for m in given.module.modules()) - 6)
    assert ran["QGemm"] == 0
    found = initializers(data)
    assert found["fc.weight"].dtype == np.float32 and found["conv.weight"].dtype == np.int8
    images = data_of("resnet-20").test_images[:100].numpy()
    assert (run(data, images).argmax(1) == logits_of(given.module, images).argmax(1)).mean() >= 0.98


@pytest.mark.parametrize("zero", [np.int8(-100), np.array([-128, -1, 0, 127], np.int8)], ids=["tensor", "channel"])
def test_asymmetric_weights_run_on_integers_with_their_zero_points(zero, tmp_path):
    module = normalised_cnn([1.0, -1.5, 0.7, -0.2])
    codes = np.random.default_rng(0).integers(-128, 128, (4, 2, 3, 3)).astype(np.int8)
    scale = np.full(zero.shape, 0.002, np.float32)
    weights = dict(compress_module(module, INT8).weights)
    weights["0.weight"] = Integers(codes, scale, 8, zero)
    with torch.no_grad():
        module[0].weight.copy_(torch.from_numpy(weights["0.weight"].decode()))
    images = noise(64, 2, 9, 9)
    data = export_int8(module, (2, 9, 9), weights, images)
    ran = kernels(data, tmp_path / "optimised.onnx")
    assert (ran["QLinearConv"], ran["Conv"] + ran["FusedConv"]) == (2, 0)
    found = initializers(data)
    assert np.array_equal(found["0.weight"][::2], codes[::2]) and np.array_equal(found["0.weight"][1::2], ~codes[1::2])
    expected = logits_of(module, images)
    np.testing.assert_allclose(run(data, images), expected, rtol=0, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("images", [noise(0, 1, 2, 2), noise(4, 1, 2, 3), noise(4, 2, 2)])
def test_calibration_needs_images_of_the_models_shape(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    compressed = compress_module(module, INT8)
    with pytest.raises(ModelError, match="calibration needs images"):
        export_int8(module, (1, 2, 2), compressed.weights, images)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_activations_must_be_finite(poison):
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    compressed = compress_module(module, INT8)
    images = noise(4, 1, 2, 2)
    images[3] = poison
    with pytest.raises(ModelError, match="must be finite"):
        export_int8(module, (1, 2, 2), compressed.weights, images)


def test_more_calibration_images_only_widen_the_ranges():
    name = "simple-cnn"
    images = data_of(name).calibration.numpy()
    compressed = compress(statistics_of(name), INT8)
    module = compressed.load_into(zoo.build(name))

    def scales(n: int) -> dict[str, np.ndarray]:
        found = initializers(export_int8(module, shape_of(name), compressed.weights, images[:n]))
        return {key: value for key, value in found.items() if key.endswith(":scale") and value.ndim == 0}

    few, all_of_them = scales(2), scales(len(images))
    assert few.keys() == all_of_them.keys() and len(few) > 3
    assert all(few[key] <= all_of_them[key] for key in few)
    assert any(few[key] < all_of_them[key] for key in few)
