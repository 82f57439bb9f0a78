"""Each trainable twin: what it computes with is what is stored, and its gradients are the closed forms."""

import numpy as np
import pytest
import torch
from paretoscope.methods import binarize, quantize
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import Quantize
from paretoscope.training.trainable import PACE, Projected, Trainable, trainable

SHAPE = (6, 4, 3, 3)
ENTRIES = np.array([-0.5, -0.25, 0.125, 0.375, 1.0], np.float32)


def latent(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kept(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE) < 0.4


def channel_max(weight: np.ndarray) -> np.ndarray:
    return np.abs(weight).reshape(len(weight), -1).max(1)


def integers(weight: np.ndarray, **settings) -> Integers:
    step = Quantize(**settings)
    if step.bits == 1:
        return binarize.apply(weight, None, step)
    return quantize.apply(weight, channel_max(weight), step)


def codebook(entries: Plain | Integers | None = None) -> Codebook:
    indices = np.random.default_rng(2).integers(0, len(ENTRIES) + 1, SHAPE).astype(np.uint8)
    return Codebook(indices, entries or Plain(ENTRIES))


def on_grid(bits: int = 4) -> Integers:
    return quantize.grid(ENTRIES, np.ones(len(ENTRIES), np.int64), Quantize(bits))


KINDS: dict[str, CompressedTensor] = {
    "floats": Plain(latent()),
    "8 bits": integers(latent(), bits=8),
    "3 bits": integers(latent(), bits=3),
    "2 bits per tensor": integers(latent(), bits=2, granularity="tensor"),
    "4 bits asymmetric": integers(latent() + 1, bits=4, symmetric=False),
    "4 bits asymmetric per tensor": integers(latent() + 1, bits=4, symmetric=False, granularity="tensor"),
    "12 bits": integers(latent(), bits=12),
    "binary": integers(latent(), bits=1),
    "binary, power of two": integers(latent(), bits=1, power_of_two=True, granularity="tensor"),
    "ternary": integers(latent(), bits=1, ternary=0.7, calibration="mse"),
    "shared": codebook(),
    "shared on a grid": codebook(on_grid()),
    "shared, binary": Codebook(
        np.random.default_rng(2).integers(0, 3, SHAPE).astype(np.uint8),
        binarize.grid(np.array([-0.5, 0.5], np.float32), np.ones(2, np.int64), Quantize(1)),
    ),
    "one channel": integers(latent(shape=(1, 5)), bits=4),
}


def twin_of(name: str, masked: bool = False) -> Trainable:
    tensor = KINDS[name]
    start = latent(shape=tensor.shape) + (1 if "asymmetric" in name else 0)
    return trainable(tensor, start, kept()[: tensor.shape[0]] if masked else None)


def train(twin: Trainable, steps: int = 20, rate: float = 0.05) -> None:
    """Towards weights of another seed."""
    target = torch.from_numpy(latent(5, tuple(twin.weight().shape)))
    optimizer = torch.optim.Adam(twin.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        ((twin.weight() - target) ** 2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_stored_is_what_was_computed_with(name, trained):
    twin = twin_of(name)
    if trained:
        before = twin.weight().detach().clone()
        train(twin)
        assert not torch.equal(before, twin.weight())
    stored = twin.compressed()
    assert type(stored) is type(KINDS[name])
    assert stored.shape == KINDS[name].shape
    np.testing.assert_array_equal(stored.decode(), twin.weight().detach().numpy())
    if isinstance(stored, Integers):
        assert (stored.bits, stored.codes.dtype, stored.scale.shape) == (
            KINDS[name].bits,
            KINDS[name].codes.dtype,
            KINDS[name].scale.shape,
        )


@pytest.mark.parametrize("name", ["8 bits", "3 bits", "shared", "shared on a grid", "ternary"])
def test_training_starts_from_what_was_compressed(name):
    tensor = KINDS[name]
    twin = trainable(tensor, tensor.decode(), None)
    np.testing.assert_allclose(twin.weight().detach().numpy(), tensor.decode(), rtol=1e-6)


@pytest.mark.parametrize("name", ["floats", "8 bits", "3 bits", "2 bits per tensor", "4 bits asymmetric"])
def test_a_pruned_weight_never_leaves_zero(name):
    twin = twin_of(name, masked=True)
    for _ in range(5):
        train(twin, steps=10)
        weight, stored = twin.weight().detach().numpy(), twin.compressed().decode()
        assert not weight[~kept()].any()
        assert not stored[~kept()].any()
        assert not twin.latent()[~kept()].any()
    assert weight[kept()].any()


@pytest.mark.parametrize("name", ["shared", "shared on a grid"])
def test_shared_weights_move_together_by_the_sum_of_their_gradients(name):
    twin = twin_of(name)
    indices = KINDS[name].indices
    slope = torch.from_numpy(latent(7))
    (twin.weight() * slope).sum().backward()
    expected = [slope.numpy()[indices == entry].astype(np.float64).sum() for entry in range(1, len(ENTRIES) + 1)]
    np.testing.assert_allclose(twin.entries.grad.numpy(), expected, rtol=1e-5)
    train(twin)
    weight = twin.weight().detach().numpy()
    for entry in range(len(ENTRIES) + 1):
        assert len(np.unique(weight[indices == entry])) == 1
    assert not weight[indices == 0].any()


def test_gradients_pass_rounding_within_the_grid_and_stop_outside():
    tensor = integers(latent(), bits=3)
    start = tensor.decode()
    start[0, 0, 0, 0], start[1, 0, 0, 0] = 100, -100
    twin = trainable(tensor, start, None)
    slope = latent(8)
    (twin.weight() * torch.from_numpy(slope)).sum().backward()
    expected = slope.copy()
    expected[0, 0, 0, 0] = expected[1, 0, 0, 0] = 0
    np.testing.assert_allclose(twin.value.grad.numpy(), expected, rtol=1e-5)


def test_the_gradient_of_a_scale_is_that_of_learned_step_size_quantization():
    """Equation 3 of the paper: round(v / s) - v / s within the grid, its end outside; of a logarithm."""
    tensor = integers(latent(), bits=3, granularity="tensor")
    start = 1.3 * latent()
    twin = trainable(tensor, start, None)
    slope = latent(8).astype(np.float64)
    (twin.weight() * torch.from_numpy(slope.astype(np.float32))).sum().backward()
    steps = start.astype(np.float64) / float(tensor.scale)
    inside = np.abs(steps) <= 3
    each = np.where(inside, np.rint(steps) - steps, np.sign(steps) * 3)
    assert not inside.all()
    expected = PACE * float(tensor.scale) * (each * slope).sum()
    np.testing.assert_allclose(float(twin.growth.grad), expected, rtol=1e-4)


def test_entries_that_meet_become_one_and_zero_is_no_entry():
    twin = twin_of("shared")
    with torch.no_grad():
        twin.entries.copy_(torch.tensor([0.5, -0.25, 0.0, 0.5, -1.0]))
    stored = twin.compressed()
    assert stored.entries.decode().tolist() == [-1.0, -0.25, 0.5]
    np.testing.assert_array_equal(stored.decode(), twin.weight().detach().numpy())


def test_a_codebook_without_entries():
    twin = trainable(Codebook(np.zeros(SHAPE, np.uint8), Plain(np.zeros(0, np.float32))), np.zeros(SHAPE), None)
    assert not twin.weight().any()
    assert not twin.compressed().decode().any()


def test_projected_weights_are_the_projection_until_they_move():
    tensor = Integers(np.zeros(SHAPE, np.int8), np.ones(len(latent()), np.float32), 8, trellis=True)
    twin = trainable(tensor, latent(), kept())
    assert isinstance(twin, Projected)
    np.testing.assert_allclose(twin.weight().detach().numpy(), tensor.decode(), atol=1e-6)
    slope = latent(3)
    (twin.weight() * torch.from_numpy(slope)).sum().backward()
    np.testing.assert_array_equal(twin.value.grad.numpy(), np.where(kept(), slope, 0))


@pytest.mark.parametrize("spread", [8.0, 40.0])
def test_bits_of_projected_weights_are_those_of_a_laplacian_source(spread):
    """The entropy of a Laplacian source in steps of two, by its distribution function; a row's scale divides out."""
    scale = np.array([0.5, 0.01], np.float32)
    weight = np.random.default_rng(0).laplace(0, spread, (2, 50_000)).astype(np.float32) * scale[:, None]
    twin = trainable(Integers(np.zeros(weight.shape, np.int8), scale, 8, trellis=True), weight, None)
    twin.moved.zero_()
    edges = np.arange(-4001, 4002, 2) / spread
    below = np.where(edges < 0, np.exp(-np.abs(edges)) / 2, 1 - np.exp(-np.abs(edges)) / 2)
    share = np.diff(below)
    share = share[share > 0]
    assert twin.bits().item() == pytest.approx(-weight.size * (share * np.log2(share)).sum(), rel=0.02)


def test_every_weight_by_rate_is_drawn_to_zero_and_zeros_are_free():
    scale = np.array([1, 2, 1], np.float32)
    weight = np.array([[1, -3, 0], [4, 4, -4], [0, 0, 0]], np.float32)
    twin = trainable(Integers(np.zeros(weight.shape, np.int8), scale, 8, trellis=True), weight, None)
    twin.moved.zero_()
    twin.bits().backward()
    mean = np.abs(weight).mean(axis=1, keepdims=True)
    slope = np.sign(weight) / np.log(2) / (scale[:, None] / np.e + mean)
    np.testing.assert_allclose(twin.value.grad.numpy(), slope, rtol=1e-5)
    rows = 3 * np.log2(1 + np.e * mean[:, 0] / scale)
    assert rows[2] == 0
    assert twin.bits().item() == pytest.approx(rows.sum(), rel=1e-6)


def test_binary_magnitudes_stay_powers_of_two():
    twin = twin_of("binary, power of two")
    train(twin, 50, 0.2)
    mantissa, _ = np.frexp(twin.compressed().scale)
    assert mantissa == 0.5


def test_zeros_of_ternary_weights_stay():
    tensor = KINDS["ternary"]
    twin = twin_of("ternary")
    train(twin)
    np.testing.assert_array_equal(twin.compressed().codes == 0, tensor.codes == 0)
