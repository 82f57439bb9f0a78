"""Every kernel against PyTorch's operator, over shapes that leave vectors, groups and phases incomplete."""

import numpy as np
import pytest
import torch
from paretoscope.runtimes.sparse.kernels import CHOOSING, LANES
from paretoscope.runtimes.sparse.layers import (
    BLOCKS,
    VALUES,
    Planes,
    Storage,
    entries,
    expected_entries,
    pack_blocks,
    pack_conv,
    pack_rows,
    possible,
)
from paretoscope.runtimes.sparse.network import SparseNetwork
from paretoscope.runtimes.sparse.tape import Engine, Loaded, lay_out
from torch import nn
from torch.nn import functional as F


def sparse(module: nn.Module, density: float, seed: int = 0) -> nn.Module:
    """The module in evaluation mode with random weights, so many of them not zero."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.data *= torch.rand(tensor.shape, generator=generator) < density
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.data = 0.5 + torch.rand(part.num_features, generator=generator)
    return module.eval()


def images(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, *shape), np.float32)


def own(network: SparseNetwork, storage: str = Storage.ROWS) -> list[str]:
    """All steps in the kernels; linear layers in that storage."""
    kinds = {"Gemm": storage, "Conv": Storage.ROWS}
    return [kinds.get(step.node.op_type, Engine.OWN) for step in network.steps]


def shared(module: nn.Module) -> nn.Module:
    """The module with linear weights of few different values."""
    for tensor in module.parameters():
        if tensor.ndim == 2:
            tensor.data = torch.round(tensor.data.clamp(-1.5, 1.5) * 4) / 4
    return module


def loaded(module: nn.Module, x: np.ndarray, storage: str = Storage.ROWS) -> Loaded:
    network = SparseNetwork(module, x.shape[1:])
    assert all(network.is_own(step) for step in network.steps)
    result = lay_out(network, own(network, storage), len(x)).load(1)
    result.images[...] = x
    return result


def check(module: nn.Module, x: np.ndarray, storage: str = Storage.ROWS) -> None:
    """Twice: the scratch that the first call leaves behind must not show in the second."""
    result = loaded(module, x, storage)
    with torch.no_grad():
        expected = module.double()(torch.from_numpy(x).double()).numpy()
    for _ in range(2):
        result.run()
        np.testing.assert_allclose(result.logits, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max()))


class Convolution(nn.Module):
    def __init__(self, *arguments, **settings) -> None:
        super().__init__()
        self.layer = nn.Conv2d(*arguments, **settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.layer(x), 1)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("channels", "out", "kernel", "size", "settings"),
    [
        (3, 16, 3, (32, 32), {"padding": 1}),
        (5, 7, 3, (9, 11), {"padding": 1}),
        (5, 7, 3, (9, 11), {}),
        (4, 6, 5, (12, 12), {"padding": 2, "bias": False}),
        (4, 6, 3, (15, 17), {"padding": 1, "stride": 2}),
        (4, 6, 3, (16, 16), {"padding": 1, "stride": 2}),
        (4, 6, 5, (16, 14), {"padding": 2, "stride": 3}),
        (4, 6, 1, (7, 5), {}),
        (4, 6, 1, (7, 5), {"padding": 1}),
        (4, 6, 1, (8, 8), {"stride": 2}),
        (4, 6, 2, (8, 8), {"stride": 4}),
        (4, 6, 3, (12, 12), {"padding": 2, "dilation": 2}),
        (4, 6, 3, (12, 12), {"padding": 3, "dilation": 3, "stride": 2}),
        (6, 6, 3, (8, 8), {"padding": 1, "groups": 6}),
        (6, 12, 3, (8, 8), {"padding": 1, "groups": 3}),
        (2, 3, (1, 5), (6, 20), {"padding": (0, 2)}),
        (2, 3, (5, 1), (20, 6), {"padding": (4, 0)}),
        (2, 3, 3, (1, 1), {"padding": 1}),
        (2, 200, 1, (1, 1), {}),
    ],
)
def test_convolutions(channels, out, kernel, size, settings, n, density):
    module = sparse(Convolution(channels, out, kernel, **settings), density)
    check(module, images(n, channels, *size))


@pytest.mark.parametrize("storage", [Storage.ROWS, *BLOCKS])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 3), (64, 64), (33, 65), (300, 100)])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_linear_layers(storage, density, inputs, outputs, n):
    module = shared(sparse(nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs)), density))
    check(module, images(n, 1, 1, inputs), storage)


class Plain(nn.Module):
    """Residual, both activations, both pools, batch normalisation, an activation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 12, 1)
        self.linear = nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.hardtanh(x + self.norm2(self.conv2(x)), 0.0, 6.0)
        x = F.max_pool2d(x, 2)
        x = F.relu(F.max_pool2d(x, 3, 1))
        x = F.relu(self.conv3(F.max_pool2d(x, 3, 3)))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.linear(torch.flatten(x, 1))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("storage", [Storage.ROWS, *BLOCKS])
def test_a_whole_network(n, storage):
    check(shared(sparse(Plain(), 0.3)), images(n, 3, 16, 16), storage)


def test_stretches_of_both_engines():
    """Any division gives the same answer, wherever the engines change."""
    module, x = sparse(Plain(), 0.3), images(3, 3, 16, 16)
    network = SparseNetwork(module, x.shape[1:])
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    for first in range(len(network.steps) + 1):
        for last in range(first, len(network.steps) + 1):
            engines = own(network)
            engines[first:last] = [Engine.DENSE] * (last - first)
            result = lay_out(network, engines, 3).load(1)
            result.images[...] = x
            result.run()
            np.testing.assert_allclose(result.logits, expected, atol=1e-4 * np.abs(expected).max())


def test_nan_and_infinity_come_through():
    module, x = sparse(Plain(), 1.0), images(2, 3, 16, 16)
    x[1, 0, 3, 3] = np.nan
    result = loaded(module, x)
    result.run()
    assert np.isfinite(result.logits[0]).all()
    assert np.isnan(result.logits[1]).all()


def test_room_is_used_again():
    """Values that are read no more give their room to later ones: a deep network takes little more than a flat one."""
    deep = sparse(nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(20)), nn.Flatten()), 0.5)
    flat = sparse(nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(4)), nn.Flatten()), 0.5)
    sizes = []
    for module in (deep, flat):
        network = SparseNetwork(module, (4, 32, 32))
        sizes.append(lay_out(network, own(network), 2).size)
    assert sizes[0] == sizes[1]
    check(deep, images(2, 4, 32, 32))


def test_packing_by_hand():
    weight = np.array([[0, 1, 0], [2, 0, 3], [0, 0, 0]], np.float32)
    rows = pack_rows(weight, 16)
    assert rows.values.tolist() == [1, 2, 3]
    assert rows.offsets.tolist() == [16, 0, 32]
    assert rows.pointers.tolist() == [0, 1, 3, 3]
    blocks = pack_blocks(weight, Storage.BLOCKS_OF_4)
    assert blocks.values.reshape(-1, 4).tolist() == [[0, 2, 0, 0], [1, 0, 0, 0], [0, 3, 0, 0]]
    assert blocks.offsets.tolist() == [0, 1, 2]
    assert blocks.pointers.tolist() == [0, 3]
    assert entries(weight, Storage.ROWS) == 3
    assert entries(weight, Storage.BLOCKS_OF_1) == 3
    assert entries(weight, Storage.BLOCKS_OF_4) == 12
    planes = Planes(4, 4, 4, 4, (3, 3), 1, (1, 1), (1, 1))
    conv = np.zeros((1, 2, 3, 3), np.float32)
    conv[0, 1, 2, 1] = 5
    # Three planes of 6 x 4 a channel; the second channel's, the middle column's, two rows down.
    assert pack_conv(conv, 1, planes).offsets.tolist() == [3 * 24 + 24 + 8]


def test_n_of_four_by_hand():
    """Two outputs of one vector and eight inputs: two rounds for the first four, one for the others."""
    weight = np.zeros((2, 8), np.float32)
    weight[0, [1, 3]], weight[1, 2], weight[1, 4] = [5, 6], 7, 8
    packed = pack_blocks(weight, Storage.N_OF_FOUR)
    values = packed.values.reshape(3, CHOOSING * LANES)
    assert values[:, :2].tolist() == [[5, 7], [6, 0], [0, 8]]
    assert not values[:, 2:].any()
    choices = packed.offsets.reshape(3, 1 + CHOOSING)
    assert choices[:, 0].tolist() == [0, 0, 4]
    # Choice 1 is bit 0, choice 2 bit 16, choice 3 both; of the second output one further.
    assert choices[:, 1].tolist() == [1 | 1 << 17, 1 | 1 << 16, 0]
    assert not choices[:, 2:].any()
    assert packed.pointers.tolist() == [0, 3]
    assert entries(weight, Storage.N_OF_FOUR) == 3 * CHOOSING * LANES


@pytest.mark.parametrize("storage", [Storage.ROWS, *BLOCKS])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_entries_of_zeros_without_a_pattern(storage, density):
    weight = np.random.default_rng(0).random((640, 400)) < density
    assert entries(weight, storage) == pytest.approx(expected_entries(weight.shape, storage, density), rel=0.02)
    assert entries(weight, storage) >= np.count_nonzero(weight)


@pytest.mark.skipif(Storage.LOOKED_UP not in BLOCKS, reason="look-ups need AVX-512")
def test_look_ups_by_hand():
    weight = np.zeros((17, 3), np.float32)
    weight[0, 1], weight[1, 1], weight[16, 2] = 5, -2, 5
    packed = pack_blocks(weight, Storage.LOOKED_UP)
    assert packed.values[:VALUES].tolist() == [-2, 0, 5] + [0] * 13
    codes = packed.values[VALUES:].view(np.uint8).reshape(2, LANES)
    assert codes[0].tolist() == [2, 0] + [1] * 14
    assert codes[1].tolist() == [2] + [1] * 15
    assert packed.offsets.tolist() == [1, 2]
    assert packed.pointers.tolist() == [0, 1, 2]
    assert possible(weight, Storage.LOOKED_UP)
    assert not possible(np.arange(1, 17, dtype=np.float32).reshape(4, 4), Storage.LOOKED_UP)
    assert possible(np.arange(16, dtype=np.float32).reshape(4, 4), Storage.LOOKED_UP)


def test_a_pattern_halves_what_n_of_four_multiplies():
    weight = np.tile(np.array([0, 1, 0, 1, 1, 1, 0, 0], np.float32), (64, 10))
    assert entries(weight, Storage.N_OF_FOUR) == weight.size / 2


def test_what_the_kernels_leave_to_onnx_runtime():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=(1, 2))
            self.norm = nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.max_pool2d(self.conv(x), 3, 2, 1)
            return self.norm(x.mean((2, 3)))

    module, x = sparse(Odd(), 1.0), images(2, 3, 12, 12)
    network = SparseNetwork(module, x.shape[1:])
    left = {step.node.op_type for step in network.steps if not network.is_own(step)}
    assert left == {"Conv", "MaxPool", "LayerNormalization"}
