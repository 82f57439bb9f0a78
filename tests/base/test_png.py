"""Pictures as files, against a library that reads them."""

import io

import numpy as np
import pytest
from paretoscope.base.png import png, shrunk
from PIL import Image


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (3, 4, 3)])
def test_a_reader_finds_the_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_a_large_picture_becomes_means_of_squares() -> None:
    pixels = np.kron(np.array([[10, 20], [30, 40]], np.uint8), np.ones((50, 50), np.uint8))
    np.testing.assert_array_equal(shrunk(pixels, 2), [[10, 20], [30, 40]])
    assert shrunk(pixels, 64).shape == (50, 50)
    assert shrunk(np.zeros((300, 7, 3), np.uint8), 64).shape[0] <= 64
    assert shrunk(pixels, 100) is pixels
