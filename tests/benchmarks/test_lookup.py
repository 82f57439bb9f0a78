"""The kernels of the look-up benchmark multiply as a dense product does; nothing is timed."""

import numpy as np
import pytest

from benchmarks.lookup import HEIGHT, kernel, layer


@pytest.mark.parametrize("entries", [0, 16, 256], ids=["floats", "16 entries", "256 entries"])
@pytest.mark.parametrize("blocks", [False, True], ids=["rows", "blocks"])
@pytest.mark.parametrize("zeros", [0.0, 0.7, 1.0])
def test_a_kernel_gives_the_dense_product(entries, blocks, zeros):
    one = layer(37, 53, zeros, entries or 16, blocks)
    x = np.random.default_rng(1).standard_normal(53).astype(np.float32)
    out = np.full(len(one.weight), np.nan, np.float32)
    weights = one.codes if entries else one.values
    kernel(HEIGHT if blocks else 1, entries)(x, weights, one.codebook, one.columns, one.pointers, out)
    np.testing.assert_allclose(out, one.weight.astype(np.float64) @ x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", [False, True], ids=["rows", "blocks"])
def test_a_layer_has_as_many_zeros_as_asked_for(blocks):
    one = layer(320, 200, 0.9, 16, blocks)
    assert one.weight.shape == (320, 200)
    assert (one.weight == 0).mean() == pytest.approx(0.9, abs=0.02)
    floats, codes = one.bytes
    assert floats - codes == 3 * len(one.codes) - one.codebook.nbytes
