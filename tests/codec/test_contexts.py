"""The context coder: round trips, its slow twin, pinned bytes, what it saves and what hostile bytes do."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.codec import context_kernels as kernels
from paretoscope.codec import context_tables as tables
from paretoscope.codec.contexts import EFFORTS, LARGEST_CODE, LARGEST_VALUE, ContextDecoder, ContextEncoder
from paretoscope.codec.reader import ContextDecoder as SlowDecoder
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks.zoo.model import load_model
from paretoscope.recipe.recipe import Recipe
from samples import path

EACH = pytest.mark.parametrize("effort", EFFORTS)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def encode(items: list, effort: str) -> bytes:
    encoder = ContextEncoder(effort)
    for item, trellis in items:
        if item.ndim == 3:
            encoder.add(item, trellis)
        else:
            encoder.add_values(item)
    return encoder.finish()


def decode(decoder: object, items: list) -> list[np.ndarray]:
    found = [decoder.take(i.shape, t) if i.ndim == 3 else decoder.take_values(len(i)) for i, t in items]
    decoder.close()
    return found


def assert_round_trip(items: list, effort: str, slow: bool = False) -> bytes:
    data = encode(items, effort)
    decoders = [ContextDecoder(data, effort)] + [SlowDecoder(data, effort)] * slow
    for decoder in decoders:
        for found, (item, _) in zip(decode(decoder, items), items, strict=True):
            np.testing.assert_array_equal(found, item)
    return data


def normal(shape: tuple[int, ...], spread: float, seed: int = 0) -> np.ndarray:
    return np.rint(spread * np.random.default_rng(seed).standard_normal(shape)).astype(np.int32)


def mixture() -> list:
    """Small tensors of every kind, with side values between them: a stream that visits all branches."""
    smooth = np.cumsum(normal((6, 40), 3.0), axis=1).astype(np.int32)
    images = np.cumsum(np.cumsum(normal((12, 8, 8), 1.0, 5), axis=1), axis=2).reshape(12, 64, 1).astype(np.int32)
    kernels = np.cumsum(normal((10, 6, 9), 2.0, 1), axis=2).astype(np.int32)
    sparse = normal((9, 20, 1), 30.0, 2) * (np.random.default_rng(3).random((9, 20, 1)) < 0.1)
    wide = normal((4, 7, 5), 9000.0, 4).clip(-LARGEST_CODE, LARGEST_CODE)
    powers = np.array([5, 6, 6, 5, 7, -3, 0, 1 << 40, -(1 << 60)])
    return [
        (smooth[:, :, None], False),
        (np.arange(-20, 20), False),
        (kernels, False),
        (path(normal((9, 5, 9), 1.5, 7)), True),
        (powers, False),
        (images, False),
        (np.zeros((3, 0, 2), np.int32), False),
        (sparse.astype(np.int32), False),
        (wide, False),
        (np.array([LARGEST_VALUE, -LARGEST_VALUE, 0, 1]), False),
        (path(normal((6, 30, 1), 6.0, 8)), True),
        (np.zeros(0, np.int64), False),
        (np.zeros((5, 5, 1), np.int32), False),
        (np.array([[[LARGEST_CODE]]], np.int32), False),
    ]


@pytest.mark.slow
@EACH
def test_slow_twin_decodes_the_same(effort):
    assert_round_trip(mixture(), effort, slow=True)


@EACH
@QUICK
@given(data=st.data())
def test_round_trip_of_anything(effort, data):
    shapes = st_numpy.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=7)
    bound = data.draw(st.sampled_from([1, 3, 100, LARGEST_CODE]))
    tensors = st_numpy.arrays(np.int32, shapes, elements=st.integers(-bound, bound))
    values = st_numpy.arrays(np.int64, st.integers(0, 9), elements=st.integers(-LARGEST_VALUE, LARGEST_VALUE))
    paths = st_numpy.arrays(np.int32, shapes, elements=st.integers(-9, 9)).map(lambda numbers: (path(numbers), True))
    plain = (tensors | values).map(lambda item: (item, False))
    assert_round_trip(data.draw(st.lists(plain | paths, max_size=4)), effort)


@EACH
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32])
def test_types_of_codes_do_not_matter(effort, kind):
    codes = normal((5, 6, 4), 20.0)
    assert encode([(codes.astype(kind), False)], effort) == encode([(codes, False)], effort)


@EACH
def test_views_are_coded_as_they_look(effort):
    codes = normal((8, 6, 4), 5.0)
    assert_round_trip([(codes.transpose(1, 0, 2)[:, ::2], False)], effort)


@EACH
@pytest.mark.parametrize("recipe", [Recipe.of(bits=4), Recipe.of(bits=8)], ids=["4 bits", "8 bits"])
def test_real_weights_come_back_below_their_entropy(effort, recipe):
    compressed = compress(ModelStatistics.of(load_model("lenet-300-100"), "lenet-300-100"), recipe)
    items = [(tensor.codes.astype(np.int32)[:, :, None], False) for tensor in compressed.weights.values()]
    data = assert_round_trip(items, effort)
    assert 8 * len(data) < 0.95 * sum(entropy_bits(codes) for codes, _ in items)


@pytest.mark.slow
@EACH
def test_slow_twin_on_real_weights(effort):
    compressed = compress(ModelStatistics.of(load_model("resnet-20"), "resnet-20"), Recipe.of(bits=4))
    tensors = list(compressed.weights.values())[:3]
    items = [(tensor.codes.reshape(*tensor.shape[:2], -1).astype(np.int32), False) for tensor in tensors]
    assert_round_trip(items, effort, slow=True)


def entropy_bits(codes: np.ndarray) -> float:
    _, counts = np.unique(codes, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


@EACH
@pytest.mark.parametrize("spread", [0.15, 0.5, 2.0, 8.0])
def test_codes_without_structure_cost_their_entropy(effort, spread):
    codes = normal((400, 1000, 1), spread)
    data = encode([(codes, False)], effort)
    assert 8 * len(data) < 1.002 * entropy_bits(codes) + 8 * 48


@EACH
def test_dead_columns_are_nearly_free(effort):
    codes = normal((300, 200, 1), 3.0)
    codes[:, ::2] = 0
    alive = entropy_bits(codes[:, 1::2])
    assert 8 * len(encode([(codes, False)], effort)) < 1.03 * alive


@EACH
def test_strong_rows_are_learnt(effort):
    codes = np.rint(normal((100, 300, 1), 100.0) * np.geomspace(0.005, 0.2, 100)[:, None, None]).astype(np.int32)
    assert 8 * len(encode([(codes, False)], effort)) < 1.04 * sum(entropy_bits(row) for row in codes)
    assert 8 * len(encode([(codes, False)], effort)) < 0.9 * entropy_bits(codes)


@EACH
def test_images_in_rows_are_predicted(effort):
    """White noise smoothed in both directions of an image of width 16: the column above is 16 codes back."""
    noise = np.random.default_rng(0).standard_normal((64, 17, 17))
    smooth = noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1] + noise[:, :-1, :-1]
    codes = np.rint(3 * smooth).astype(np.int32).reshape(64, 256, 1)
    assert 8 * len(encode([(codes, False)], effort)) < 0.94 * entropy_bits(codes)


@EACH
def test_small_tensors_learn_from_those_before(effort):
    encoder = ContextEncoder(effort)
    bits = [encoder.add(normal((16, 16, 9), 2.0, seed)) for seed in range(12)]
    entropies = [entropy_bits(normal((16, 16, 9), 2.0, seed)) for seed in range(12)]
    assert sum(bits[6:]) < 1.005 * sum(entropies[6:])
    assert sum(bits) / 8 <= len(encoder.finish()) < sum(bits) / 8 + 2


@EACH
def test_zeros_take_next_to_nothing(effort):
    encoder = ContextEncoder(effort)
    assert 0 < encoder.add(np.zeros((1000, 1000, 1), np.int32)) < 200
    assert len(encoder.finish()) < 26


@EACH
def test_nothing_takes_nothing(effort):
    encoder = ContextEncoder(effort)
    assert encoder.add(np.zeros((0, 5, 1), np.int32)) == encoder.add_values(np.zeros(0, np.int64)) == 0
    assert encoder.finish() == b""
    ContextDecoder(b"", effort).close()


@EACH
def test_close_values_are_cheaper_than_far_ones(effort):
    steps = 1000 + np.cumsum(normal((200,), 1.5))
    assert ContextEncoder(effort).add_values(steps) < 0.5 * ContextEncoder(effort).add_values(normal((200,), 900.0))


PINNED = {
    "context": "04ba321c1d996bcbfccb3ff5c59a8d9e40fa61d7171e",
    "smallest": "04ba9617737813b3cc2ff456a192aa8ba458e9030a",
}


@EACH
def test_bytes_are_pinned(effort):
    items = [(normal((6, 4, 1), 2.0), False), (np.arange(5), False), (path(normal((3, 2, 4), 1.0)), True)]
    assert encode(items, effort).hex() == PINNED[effort]


PINNED_DIGEST = {
    "context": "314842d3317b4a90",
    "smallest": "2935cf2815b3b82a",
}


@EACH
def test_bytes_of_every_branch_are_pinned(effort):
    assert hashlib.sha256(encode(mixture(), effort)).hexdigest()[:16] == PINNED_DIGEST[effort]


@EACH
@QUICK
@given(data=st.binary(max_size=200), trellis=st.booleans())
def test_hostile_bytes_decode_or_are_refused(effort, data, trellis):
    shape = (6, 5, 3)
    decoder = ContextDecoder(data, effort)
    try:
        codes = decoder.take(shape, trellis)
        values = decoder.take_values(7)
        decoder.close()
    except ArtefactError:
        return
    assert codes.shape == shape and np.abs(codes).max() <= LARGEST_CODE
    assert len(values) == 7


@EACH
@pytest.mark.parametrize("byte", [0, 85, 255])
def test_endless_bytes_end(effort, byte):
    decoder = ContextDecoder(bytes([byte]) * 100_000, effort)
    with pytest.raises(ArtefactError):
        for trellis in (False, True):
            decoder.take((50, 40, 9), trellis)
            decoder.take_values(1000)
        decoder.close()


@EACH
def test_no_other_bytes_decode_to_the_same(effort):
    items = mixture()
    data = encode(items, effort)
    ends = [data[:-1], data[: len(data) // 2], b"", data + b"\0", data + b"x"]
    flipped = [bytes([*data[:i], data[i] ^ 1 << i % 8, *data[i + 1 :]]) for i in range(0, len(data), 97)]
    for damaged in ends + flipped:
        try:
            found = decode(ContextDecoder(damaged, effort), items)
        except ArtefactError:
            continue
        assert any(not np.array_equal(array, item) for array, (item, _) in zip(found, items, strict=True))


@EACH
def test_bytes_left_over_are_refused(effort):
    decoder = ContextDecoder(encode([(normal((4, 4, 1), 2.0), False)], effort) + b"\0", effort)
    decoder.take((4, 4, 1))
    with pytest.raises(ArtefactError, match="left over"):
        decoder.close()


@EACH
def test_a_short_stream_stops_before_a_large_tensor_is_done(effort):
    with pytest.raises(ArtefactError, match="ends early"):
        ContextDecoder(b"\x12\x34\x56\x78", effort).take((1000, 3000, 1))


@EACH
def test_codes_off_the_trellis_are_refused(effort):
    codes = path(normal((9, 5, 1), 2.0))
    codes[0, 2, 0] = 1
    with pytest.raises(ModelError, match="path"):
        ContextEncoder(effort).add(codes, trellis=True)


@EACH
def test_too_large_codes_and_values_are_refused(effort):
    with pytest.raises(ModelError, match="32769"):
        ContextEncoder(effort).add(np.full((1, 1, 1), LARGEST_CODE + 1, np.int32))
    with pytest.raises(ModelError, match="63 bits"):
        ContextEncoder(effort).add_values(np.array([-(1 << 63)]))


def test_effort_is_checked():
    with pytest.raises(ModelError, match="'fast'"):
        ContextEncoder("fast")


def test_a_changed_table_is_noticed(monkeypatch):
    """Compiled code keeps the tables that it was compiled with."""
    assert kernels.tables_checksum() == kernels.TABLES
    for name, changed in (("CLAMP", 2814), ("RATE", tables.RATE + np.uint16(1)), ("RATIO_STEPS", (1, 2))):
        with monkeypatch.context() as patch:
            patch.setattr(tables, name, changed)
            assert kernels.tables_checksum() != kernels.TABLES
    monkeypatch.setattr(kernels, "NEXT", kernels.NEXT[::-1])
    assert kernels.tables_checksum() != kernels.TABLES


@pytest.mark.slow
def test_with_changed_tables_nothing_is_imported():
    script = (
        "import importlib; from paretoscope.codec import context_kernels, context_tables; context_tables.CLAMP -= 1; "
        "importlib.reload(context_kernels)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "ImportError: tables of the context coder must have the checksum" in done.stderr
