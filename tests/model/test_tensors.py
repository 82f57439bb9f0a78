import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.base.errors import ModelError
from paretoscope.model.tensors import Codebook, Integers, Plain, as_integers

examples = settings(derandomize=True, deadline=None, database=None, max_examples=60)

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
SCALES = st.floats(2.0**-60, 2.0**60, width=32)


@st.composite
def integers(draw, bits=(1, 2, 3, 4, 5, 6, 7, 8, 16), shapes=SHAPES):
    bits = draw(st.sampled_from(bits))
    top = max(1, 2 ** (bits - 1) - 1)
    kind = np.int8 if bits <= 8 else np.int16
    codes = draw(arrays.arrays(kind, shapes, elements=st.integers(-top, top)))
    scale_shape = draw(st.sampled_from([(), (codes.shape[0],)]))
    return Integers(codes, draw(arrays.arrays(np.float32, scale_shape, elements=SCALES)), bits)


@st.composite
def affine(draw, bits=(2, 3, 4, 7, 8, 9, 12, 16)):
    """With zero points, over all codes."""
    bits = draw(st.sampled_from(bits))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    kind = np.int8 if bits <= 8 else np.int16
    codes = draw(arrays.arrays(kind, SHAPES, elements=st.integers(low, high)))
    shape = draw(st.sampled_from([(), (codes.shape[0],)]))
    scale = draw(arrays.arrays(np.float32, shape, elements=SCALES))
    return Integers(codes, scale, bits, draw(arrays.arrays(kind, shape, elements=st.integers(low, high))))


@st.composite
def codebooks(draw, bits=(1, 2, 4, 8, 16)):
    bits = draw(st.sampled_from(bits))
    top = max(1, 2 ** (bits - 1) - 1)
    values = draw(st.lists(st.integers(-top, top).filter(bool), max_size=9, unique=True))
    codes = np.array(sorted(values), np.int8 if bits <= 8 else np.int16)
    indices = draw(arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, len(codes))))
    return Codebook(indices, Integers(codes, np.float32(draw(SCALES)).reshape(()), bits))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal in type, shape and every bit."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_plain_decodes_to_itself(kind):
    values = np.arange(-6, 6).reshape(3, 4).astype(kind)
    assert same(Plain(values).decode(), values)
    assert Plain(values).shape == (3, 4)


def test_plain_keeps_every_bit():
    values = np.array([-0.0, 1e-45, 3.4028235e38, np.inf, -np.inf, np.nan], np.float32)
    assert same(Plain(values).decode(), values)


def test_plain_of_halves_decodes_to_floats_of_the_same_value():
    halves = np.array([-0.0, 6e-8, 0.1, 65504.0, -2.5], np.float16)
    decoded = Plain(halves).decode()
    assert decoded.dtype == np.float32
    assert [float(value) for value in decoded] == [float(value) for value in halves]


def test_integers_by_hand():
    codes = np.array([[1, -2, 0], [127, 3, -127]], np.int8)
    one = Integers(codes, np.float32(0.5).reshape(()), 8)
    assert one.decode().tolist() == [[0.5, -1.0, 0.0], [63.5, 1.5, -63.5]]
    each = Integers(codes, np.array([0.5, 2.0], np.float32), 8)
    assert each.decode().tolist() == [[0.5, -1.0, 0.0], [254.0, 6.0, -254.0]]
    assert one.shape == (2, 3) and one.decode().dtype == np.float32


@given(integers())
@examples
def test_integers_are_code_times_scale(tensor):
    decoded = tensor.decode()
    assert decoded.dtype == np.float32 and decoded.shape == tensor.shape == tensor.codes.shape
    for place in np.ndindex(tensor.shape):
        scale = tensor.scale if tensor.scale.ndim == 0 else tensor.scale[place[0]]
        # The product of an integer below 2**15 and a float32 is exact in float64: one rounding, to nearest.
        assert decoded[place] == np.float32(float(tensor.codes[place]) * float(scale))


@given(affine())
@examples
def test_a_zero_point_is_where_zero_lies(tensor):
    decoded = tensor.decode()
    assert decoded.dtype == np.float32 and decoded.shape == tensor.codes.shape
    for place in np.ndindex(tensor.shape):
        scale, zero = (each if each.ndim == 0 else each[place[0]] for each in (tensor.scale, tensor.zero))
        # At most 17 bits times 24: exact in float64, rounded once.
        assert decoded[place] == np.float32((int(tensor.codes[place]) - int(zero)) * float(scale))


def test_a_zero_point_of_zero_changes_nothing():
    codes, scale = np.array([[-128, 127, 0]], np.int8), np.array([0.5], np.float32)
    one, other = Integers(codes, scale, 8), Integers(codes, scale, 8, np.zeros(1, np.int8))
    assert same(one.decode(), other.decode())


@given(codebooks())
@examples
def test_a_codebook_is_a_look_up_with_zero_in_front(tensor):
    decoded = tensor.decode()
    assert decoded.dtype == np.float32 and decoded.shape == tensor.shape == tensor.indices.shape
    table = [0.0, *tensor.entries.decode().tolist()]
    assert decoded.reshape(-1).tolist() == [table[index] for index in tensor.indices.reshape(-1)]


def test_a_codebook_of_256_entries_reaches_the_last():
    entries = np.arange(1, 257, dtype=np.float32)
    tensor = Codebook(np.arange(257, dtype=np.uint16), Plain(entries))
    assert same(tensor.decode(), np.arange(257, dtype=np.float32))


def test_an_empty_codebook_decodes_to_zeros():
    tensor = Codebook(np.zeros((2, 3), np.uint8), Plain(np.zeros(0, np.float32)))
    assert same(tensor.decode(), np.zeros((2, 3), np.float32))


class TestAsIntegers:
    @given(integers(bits=(1, 2, 3, 4, 5, 6, 7, 8)) | codebooks(bits=(1, 2, 4, 8)))
    @examples
    def test_decodes_to_the_same_floats(self, tensor):
        result = as_integers(tensor)
        assert result.codes.dtype == np.int8
        assert result.bits <= 8
        assert same(result.decode(), tensor.decode())

    def test_integers_are_taken_as_they_are(self):
        tensor = Integers(np.ones((2, 2), np.int8), np.float32(1).reshape(()), 4)
        assert as_integers(tensor) is tensor

    @given(affine(bits=(2, 4, 8)))
    @examples
    def test_zero_points_stay(self, tensor):
        assert as_integers(tensor) is tensor

    @pytest.mark.parametrize("entries", [np.zeros(0, np.float32), np.zeros(0, np.int8)], ids=["float", "integer"])
    def test_a_tensor_of_zeros_lies_on_every_grid(self, entries):
        """What a layer becomes that pruning took away entirely: no entry at all."""
        kept = Plain(entries) if entries.dtype == np.float32 else Integers(entries, np.float32(1).reshape(()), 8)
        result = as_integers(Codebook(np.zeros((2, 3), np.uint8), kept))
        assert result.codes.dtype == np.int8 and result.bits <= 8
        assert same(result.decode(), np.zeros((2, 3), np.float32))

    @pytest.mark.parametrize(
        "tensor",
        [
            Plain(np.ones((2, 2), np.float32)),
            Integers(np.ones((2, 2), np.int16), np.float32(1).reshape(()), 16),
            Integers(np.ones((2, 2), np.int16), np.float32(1).reshape(()), 9, np.array(0, np.int16)),
            Codebook(np.ones((2, 2), np.uint8), Plain(np.ones(1, np.float32))),
            Codebook(np.ones((2, 2), np.uint8), Integers(np.ones(1, np.int16), np.float32(1).reshape(()), 16)),
        ],
        ids=["floats", "16 bits", "9 bits with a zero point", "codebook of floats", "codebook of 16 bits"],
    )
    def test_refuses_what_is_wider(self, tensor):
        message = r"^integer kernels need weights of at most 8 bits; .*\. Quantize to 8 bits or fewer\.$"
        with pytest.raises(ModelError, match=message):
            as_integers(tensor)
