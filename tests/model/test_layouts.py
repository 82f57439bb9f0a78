"""Transposed convolutions: scales, patterns, moments and files by output channel, as for every other layer."""

import copy

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.codec import reader
from paretoscope.export.weights import codes, read_codes
from paretoscope.methods import input_moments, recalibrate
from paretoscope.methods.fisher import diagonal_fisher
from paretoscope.methods.pack import pack
from paretoscope.methods.pipeline import compress
from paretoscope.model import layouts
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe
from torch import nn

LAYERS = {
    "1d": lambda: nn.ConvTranspose1d(6, 8, 3, stride=2, padding=1, output_padding=1),
    "2d": lambda: nn.ConvTranspose2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    "2d groups": lambda: nn.ConvTranspose2d(6, 9, 3, stride=2, groups=3),
    "2d depthwise": lambda: nn.ConvTranspose2d(6, 6, 3, groups=6, bias=False),
    "3d": lambda: nn.ConvTranspose3d(6, 2, 2, stride=(1, 2, 2), groups=2),
}


@pytest.fixture(params=LAYERS)
def layer(request) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[request.param]()


def images_for(layer: nn.Module, count: int = 5) -> torch.Tensor:
    return torch.randn(count, 6, *(5, 4, 3)[: layer.weight.ndim - 2], generator=torch.Generator().manual_seed(1))


def channels(layer: nn.Module, weight: np.ndarray) -> list[np.ndarray]:
    """The weights of each output channel, by the definition: output o of a group is fed by the inputs of its group."""
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    return [
        np.stack([weight[group * inputs + i, o] for i in range(inputs)])
        for group in range(layer.groups)
        for o in range(outputs)
    ]


def test_rows_are_output_channels(layer):
    weight = layer.weight.detach().numpy()
    found = layouts.turned(weight, layer.groups)
    assert found.shape == layouts.turned_shape(weight.shape, layer.groups)
    np.testing.assert_array_equal(found, np.stack(channels(layer, weight)))
    np.testing.assert_array_equal(layouts.turned(found, layer.groups), weight)


@pytest.mark.parametrize("calibration", ["range", "mse", "rate"])
def test_each_output_channel_has_its_scale(layer, calibration):
    with torch.no_grad():
        for o in range(layer.out_channels):  # channels of very different sizes
            group, own = divmod(o, layer.out_channels // layer.groups)
            inputs = layer.in_channels // layer.groups
            layer.weight[group * inputs : (group + 1) * inputs, own] *= 3.0**-o
    settings = {"exchange": 1e-12, "weighting": "magnitude"} if calibration == "rate" else {}
    # A step is 1 / 127 of the largest weight; codes of the trellis are four apart in each state, and scales 2 %.
    close = 0.05 if calibration == "rate" else 0.01
    recipe = Recipe.of(bits=8, calibration=calibration, **settings)
    compressed = compress(ModelStatistics.of(layer, "net"), recipe)
    assert compressed.weights["weight"].scale.shape == (layer.out_channels,)
    assert compressed.shapes()["weight"] == tuple(layer.weight.shape)
    decoded = compressed.decode("weight")
    pairs = zip(channels(layer, layer.weight.detach().numpy()), channels(layer, decoded), strict=True)
    for wanted, found in pairs:
        np.testing.assert_allclose(found, wanted, atol=close * np.abs(wanted).max())
    network = compressed.load_into(copy.deepcopy(layer))
    np.testing.assert_array_equal(network.weight.detach().numpy(), decoded)


def test_patterns_run_along_the_inputs():
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 3, 3)
    decoded = compress(ModelStatistics.of(layer, "net"), Recipe.of(pattern="2:4")).decode("weight")
    assert (np.count_nonzero(decoded.reshape(2, 4, 3, 3, 3), axis=1) == 2).all()


def test_second_moments_are_those_of_the_outputs(layer):
    """The mean squared output of each channel is w H w, whatever its weights."""
    layer.bias = None
    images = images_for(layer)
    moments = input_moments.hessians(layer, images, ["weight"])["weight"]
    rows = np.stack(channels(layer, layer.weight.detach().numpy())).reshape(layer.out_channels, -1).astype(float)
    size = layer.out_channels // layer.groups
    expected = layer(images).detach().double().transpose(0, 1).flatten(1).square().mean(dim=1)
    found = [row @ moments[o // size] @ row for o, row in enumerate(rows)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_layer_that_does_not_run_has_moments_of_its_columns(layer):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.used = layer, nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    moments = input_moments.hessians(Idle(), torch.ones(2, 3), ["idle.weight"])["idle.weight"]
    assert not moments.any() and moments.shape[1] == layer.weight.numel() // layer.out_channels


def test_compensation_lowers_the_error_of_the_output(layer):
    images, statistics = images_for(layer, 40), ModelStatistics.of(layer, "net")
    images = images + images.mean(dim=1, keepdim=True) * 3
    moments = input_moments.hessians(layer, images, ["weight"])
    errors = []
    for hessians in (None, moments):
        rounding = "gptq" if hessians else "nearest"
        compressed = compress(statistics, Recipe.of(bits=3, rounding=rounding), hessians=hessians)
        network = compressed.load_into(copy.deepcopy(layer))
        errors.append(float((network(images) - layer(images)).detach().square().sum()))
    assert errors[1] < errors[0]


def test_biases_are_corrected(layer):
    if layer.bias is None:
        return
    images = images_for(layer) + 1
    network = compress(ModelStatistics.of(layer, "net"), Recipe.of(bits=2)).load_into(copy.deepcopy(layer))
    corrected = recalibrate.correct_bias(layer, network, images)
    with torch.no_grad():
        network.bias.copy_(torch.from_numpy(corrected["bias"]))
        means = [each(images).transpose(0, 1).flatten(1).mean(dim=1) for each in (layer, network)]
    torch.testing.assert_close(*means, atol=1e-5, rtol=1e-4)


def test_fisher_information_is_of_output_channels(layer):
    network = nn.Sequential(layer, nn.Flatten())
    images = images_for(layer, 2)
    found = diagonal_fisher(network, images)["0.weight"]
    assert found.shape == (layer.out_channels,)
    # An output channel that is scaled down, and up again behind, has as many times the information.
    scales = torch.linspace(0.5, 2, layer.out_channels)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = copy.deepcopy(layer)

        def forward(self, x):
            return (self.layer(x) * scales.reshape(-1, *[1] * (x.ndim - 2))).flatten(1)

    scaled = Scaled()
    with torch.no_grad():
        rows = [torch.from_numpy(row) for row in channels(layer, layer.weight.numpy(force=True))]
        turned = torch.stack(rows) / scales.reshape(-1, *[1] * (layer.weight.ndim - 1))
        scaled.layer.weight.copy_(torch.from_numpy(layouts.turned(turned.numpy(), layer.groups)))
        if layer.bias is not None:
            scaled.layer.bias /= scales
    np.testing.assert_allclose(diagonal_fisher(scaled, images)["layer.weight"], found * scales.numpy() ** 2, rtol=2e-2)


@pytest.mark.parametrize("settings", [{"bits": 4}, {"bits": 8, "symmetric": False}, {"clusters": 4}, {"sparsity": 0.5}])
@pytest.mark.parametrize("coder", ["ans", "context"])
def test_files_give_the_tensors_back(layer, settings, coder):
    state = {"up.weight": layer.weight.detach(), **({} if layer.bias is None else {"up.bias": layer.bias.detach()})}
    packed = pack(state, Recipe.of(**settings, coder=coder))
    data = codec.write(packed)
    opened, second = codec.read(data), reader.read(data)
    assert opened.shapes()["up.weight"] == tuple(layer.weight.shape)
    for name in state:
        np.testing.assert_array_equal(opened.decode(name), packed.decode(name))
        np.testing.assert_array_equal(second[name], packed.decode(name))
        assert packed.decode(name).shape == tuple(state[name].shape)
    compressed = compress(ModelStatistics.of(layer, "net"), Recipe.of(**settings))
    np.testing.assert_array_equal(read_codes(codes(compressed)).decode("weight"), compressed.decode("weight"))


def test_digests_are_of_the_state_dict(layer):
    """Whatever the layout of the methods: what was packed before is known again."""
    layer.bias = None
    statistics = ModelStatistics.of(layer, "net")
    weight = layer.weight.detach().numpy()
    plain = ModelStatistics("net", {}, {"weight": weight}, ("weight",), np.zeros(0, np.float32))
    assert statistics.digest == plain.digest


class TestStateDictsAlone:
    @pytest.mark.parametrize(
        ("weight", "bias", "groups"),
        [
            ((6, 8, 3, 3), (8,), 1),
            ((6, 8, 3), (8,), 1),
            ((6, 3, 3, 3), (9,), 3),
            ((6, 8), (8,), 1),  # a linear layer stored as (inputs, outputs), as GPT-2's are
            ((8, 6, 3, 3), (8,), None),
            ((6, 1, 3, 3), (6,), None),  # depthwise: the first axis has the outputs either way
            ((8, 8, 3, 3), (8,), None),
            ((6, 4), (8,), None),  # no layer
            ((6, 5, 3, 3), (8,), None),
            ((6, 4, 3, 3), (4, 1), None),
        ],
    )
    def test_biases_tell_the_layout(self, weight, bias, groups):
        found = layouts.told_by_biases({"a.weight": weight, "a.bias": bias, "weight": weight})
        assert found == ({} if groups is None else {"a.weight": groups})

    def test_scales_run_along_the_outputs(self):
        weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
        weight *= torch.tensor([1, 1e-2, 1e-4, 1e-6]).reshape(1, 4, 1, 1)
        packed = pack({"up.weight": weight, "up.bias": torch.zeros(4)}, Recipe.of(bits=8))
        decoded = packed.state_dict()["up.weight"]
        error = (decoded - weight).abs().amax(dim=(0, 2, 3)) / weight.abs().amax(dim=(0, 2, 3))
        assert (error < 1 / 250).all()
