"""Tests of the trellis: its structure, and what follows it."""

import numpy as np
import pytest
from paretoscope.base.errors import ModelError
from paretoscope.model.trellis import NEXT, follows, join, split


def test_every_state_is_reached_from_two_and_leads_to_two():
    assert len(NEXT) == 8
    assert all(len(set(pair)) == 2 for pair in NEXT)
    reached = [state for pair in NEXT for state in pair]
    assert sorted(reached) == sorted(2 * list(range(8)))


def test_it_is_the_convolutional_code_of_its_name():
    # Parity checks 13 and 4, octal: z0 + D z0 + D^3 z0 + D^2 z1 = 0, z0 telling the quantizer, z1 the parity.
    rng = np.random.default_rng(0)
    state, z0, z1 = 0, [], []
    for parity in rng.integers(0, 2, 200):
        z0.append(state >> 2)
        z1.append(int(parity))
        state = NEXT[state][parity]
    for n in range(3, 200):
        assert (z0[n] + z0[n - 1] + z0[n - 3] + z1[n - 2]) % 2 == 0


def walk(indices):
    """Codes of one path from its indices, step by step."""
    state, codes = 0, []
    for k in indices:
        codes.append(2 * k - np.sign(k) * (state >= 4))
        state = NEXT[state][k & 1]
    return codes


def test_codes_of_any_indices_follow_the_trellis():
    rng = np.random.default_rng(1)
    codes = np.array([walk(rng.integers(-4, 5, 30)) for _ in range(20)]).T.reshape(30, 4, 5)
    assert follows(codes)
    assert follows(codes.astype(np.int8))
    assert follows(np.zeros((5, 3, 2), np.int8))
    assert follows(np.zeros((0, 3), np.int8))
    assert follows(np.zeros((), np.int8))


@pytest.mark.parametrize("codes", [[1], [3], [0, 1], [2, 0, 0, 2]])
def test_codes_that_no_path_has_do_not(codes):
    assert not follows(np.array(codes).reshape(-1, 1))
    with pytest.raises(ModelError, match="must follow a path"):
        split(np.array(codes))


def test_indices_are_parted_by_their_quantizer_and_put_together_again():
    k = np.random.default_rng(2).integers(-9, 10, (40, 15))
    codes = np.array([walk(column) for column in k.T]).T
    even, odd = split(codes.astype(np.int8).reshape(40, 3, 5))
    # A slow twin: the state of each place, from the codes above it.
    odds = np.array([[_state(column[:row]) >= 4 for column in k.T] for row in range(40)])
    assert even.tolist() == k[~odds].tolist() and odd.tolist() == k[odds].tolist()
    np.testing.assert_array_equal(join(even, odd, (40, 3, 5)), codes.reshape(40, 3, 5))


def _state(indices):
    state = 0
    for k in indices:
        state = NEXT[state][k & 1]
    return state


def test_indices_that_do_not_fit_are_not_put_together():
    even, odd = split(np.array([[2, 0], [0, 0], [0, 0], [3, 2]]))
    assert len(odd) and join(even, odd, (4, 2)) is not None
    fewer, more = even[:-1], np.append(even, 1)
    for parts in ((fewer, odd), (more, odd), (even, odd[:-1]), (even, np.append(odd, 1)), (fewer, np.append(odd, 1))):
        assert join(*parts, (4, 2)) is None


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0), (7,)])
def test_any_shape_comes_back(shape):
    even, odd = split(np.zeros(shape, np.int8))
    assert join(even, odd, shape).shape == shape and len(odd) == 0
