"""No method makes of weights what is farther from them than zeros are, and nothing finite becomes infinite."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.methods import bound
from paretoscope.methods.compensate import DAMPING
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import CALIBRATIONS, GRANULARITIES, STARTS, Recipe

examples = settings(derandomize=True, deadline=None, database=None, max_examples=120)

LARGEST = float(np.finfo(np.float32).max)
# Ordinary weights, those at both ends of float32, and tensors that have both.
VALUES = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1e-45, -1e-42, 1e-38, 3e38, LARGEST, -LARGEST, 65504.0, 1.0, 1.0]),
)
WEIGHTS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9), elements=VALUES
)
COMMON = {
    "bits": st.integers(1, 16),
    "granularity": st.sampled_from(GRANULARITIES),
    "calibration": st.sampled_from(CALIBRATIONS),
    "weighting": st.just("magnitude"),
}
QUANTIZED = st.fixed_dictionaries(
    {
        **COMMON,
        "symmetric": st.booleans(),
        "exchange": st.sampled_from([1e-12, 1e-5, 1e-2, 1.0, 1e3]),
        "percentile": st.sampled_from([51, 99.9, 100]),
        "ternary": st.sampled_from([0, 0.7, 3]),
        "power_of_two": st.booleans(),
    }
)
SHARED = st.fixed_dictionaries(
    {
        **COMMON,
        "bits": st.sampled_from([1, 2, 4, 8, 16, 32]),
        "clusters": st.sampled_from([2, 3, 16, 256]),
        "start": st.sampled_from(STARTS),
        "population": st.sampled_from([0, 0, 3]),
        "moved": st.sampled_from(["zero", "nearest"]),
    }
)


def of(weight: np.ndarray) -> ModelStatistics:
    return ModelStatistics.of_arrays({"w": weight}, {}, ("w",))


def moments(weight: np.ndarray, seed: int = 0) -> np.ndarray:
    """Strongly correlated inputs of one sign, where errors of one direction add up."""
    columns = weight[0].size
    inputs = np.abs(np.random.default_rng(seed).normal(size=(columns, 2 * columns))) + 1
    return (inputs @ inputs.T / (2 * columns))[None]


def costs(weight: np.ndarray, decoded: np.ndarray, hessian: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squared errors of each row, and of all rows: float64, by plain sums."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    metric = np.eye(rows.shape[1])
    if hessian is not None:
        metric = hessian[0] + DAMPING * np.trace(hessian[0]) / len(metric) * metric
    error = rows - decoded.reshape(rows.shape)
    return (error @ metric * error).sum(axis=1), (rows @ metric * rows).sum(axis=1)


def check(weight: np.ndarray, values: dict, hessian: np.ndarray | None = None) -> None:
    hessians = None if hessian is None else {"w": hessian}
    compressed = compress(of(weight), Recipe.of(**values), hessians=hessians)
    decoded = compressed.decode("w")
    assert decoded.dtype == np.float32 and np.isfinite(decoded).all()
    found, zeros = costs(weight, decoded, hessian)
    tensor = compressed.weights["w"]
    if not (isinstance(tensor, Integers) and tensor.scale.ndim):
        found, zeros = found.sum(), zeros.sum()
    assert np.all(found <= zeros * (1 + 1e-5))


@pytest.mark.slow
@given(WEIGHTS, QUANTIZED)
@examples
def test_quantized_weights(weight, values):
    check(weight, values)


@pytest.mark.slow
@given(WEIGHTS, SHARED)
@examples
def test_shared_weights(weight, values):
    check(weight, {**values, "moved": values["moved"] if values["population"] else "nearest"})


@pytest.mark.slow
@given(WEIGHTS, QUANTIZED | SHARED)
@examples
def test_with_error_compensation(weight, values):
    check(weight, {**values, "rounding": "gptq"}, moments(weight))


def test_what_costs_more_than_zeros_takes_the_scale_of_least_cost():
    weight = np.float32([[1, 2], [1, 2], [1, 2]])
    tensor = Integers(np.int8([[1, 1], [7, 7], [-1, -1]]), np.float32([1, 1, 1]), 4)
    # w q / q q is 21 / 98 for the second row; the third points away from the weights.
    found = bound.bounded(weight, tensor, None)
    np.testing.assert_allclose(found.scale, [1, 21 / 98, 0])
    whole = bound.bounded(weight, dataclasses.replace(tensor, scale=np.float32(1).reshape(())), None)
    np.testing.assert_allclose(whole.scale, 21 / 102)


def test_powers_of_two_stay_powers_of_two():
    weight = np.float32([[1, 1], [3, -3]])
    tensor = Integers(np.int8([[1, 1], [1, 1]]), np.float32([4, 4]), 1)
    found = bound.bounded(weight, tensor, None)
    assert found.scale.tolist() == [1, 0]


@pytest.mark.parametrize("entries", [Plain(np.float32([-8, 8])), Integers(np.int8([-4, 4]), np.float32(2), 4)])
def test_entries_shrink_together(entries):
    weight = np.float32([[1, -2], [0, 4]])
    codebook = Codebook(np.uint8([[2, 1], [0, 1]]), entries)
    # w q is 8 + 16 - 32 < 0: nothing is better.
    assert not bound.bounded(weight, codebook, None).decode().any()
    # w q is 8 + 16 + 32 = 56, q q is 192.
    agreeing = dataclasses.replace(codebook, indices=np.uint8([[2, 1], [0, 2]]))
    np.testing.assert_allclose(np.abs(bound.bounded(weight, agreeing, None).decode()).max(), 8 * 56 / 192, rtol=1e-6)


def test_what_is_better_than_zeros_is_left_as_it_is():
    weight = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    tensor = Integers(np.rint(weight * 4).astype(np.int8), np.full(6, 0.25, np.float32), 6)
    assert bound.bounded(weight, tensor, moments(weight)) is tensor
