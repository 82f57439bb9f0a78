"""LiteRT files: what can be said of them without the converter, which is large."""

import numpy as np
import pytest
from paretoscope.base.errors import ModelError
from paretoscope.export.tflite import fitted


def test_token_ids_are_given_in_the_type_that_a_file_wants() -> None:
    ids = np.array([[0, 199, 2**31 - 1]])
    found = fitted(ids, np.dtype(np.int32), "tokens")
    assert found.dtype == np.int32 and np.array_equal(found, ids)
    assert fitted(ids, np.dtype(np.int64), "tokens") is ids
    floats = np.zeros(3, np.float32)
    assert fitted(floats, np.dtype(np.int32), "x") is floats


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_ids_that_do_not_fit_are_refused(value: int) -> None:
    with pytest.raises(ModelError, match="the input tokens of the file takes int32"):
        fitted(np.array([1, value]), np.dtype(np.int32), "tokens")
