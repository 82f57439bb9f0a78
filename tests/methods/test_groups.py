import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.methods import groups, kmeans
from paretoscope.model.statistics import LayerStatistics
from paretoscope.model.tensors import Codebook, Integers, Plain

examples = settings(derandomize=True, deadline=None, database=None, max_examples=100)

ENTRIES = np.float32([-4, -1, 2, 8])
# Uses: -4 twice, -1 once, 2 five times, 8 once; and two zeros.
WEIGHT = np.float32([[-4.2, -3.9, 0, 1.9, 2.1], [2, 0, 2, 9, 2.2], [-0.9, 0, 0, 0, 0]])
INDICES = np.array([[1, 1, 0, 3, 3], [3, 0, 3, 4, 3], [2, 0, 0, 0, 0]], np.uint8)


def book(kind: str = "floats") -> Codebook:
    if kind == "floats":
        return Codebook(INDICES, Plain(ENTRIES))
    return Codebook(INDICES, Integers(ENTRIES.astype(np.int8), np.float32(1).reshape(()), 5))


@st.composite
def shared(draw):
    """A layer shared by k-means, with its codebook."""
    count = draw(st.integers(1, 80))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    weight = (rng.standard_t(2, count) * (rng.random(count) < 0.8)).astype(np.float32)
    layer = LayerStatistics.of("layer", weight)
    clusters = draw(st.integers(2, 12))
    entries = kmeans.fit(layer, np.count_nonzero(weight < 0), np.count_nonzero(weight > 0), clusters)
    return weight, Codebook(kmeans.assign(weight, entries), Plain(entries))


@pytest.mark.parametrize("kind", ["floats", "integers"])
class TestByHand:
    def test_a_small_group_becomes_zero(self, kind):
        result = groups.drop(book(kind), 2, 0, "zero", WEIGHT)
        assert result.entries.decode().tolist() == [-4, 2]
        assert result.decode().tolist() == [[-4, -4, 0, 2, 2], [2, 0, 2, 0, 2], [0, 0, 0, 0, 0]]

    def test_a_small_group_moves_to_the_nearest_and_never_to_zero(self, kind):
        result = groups.drop(book(kind), 2, 0, "nearest", WEIGHT)
        assert result.decode().tolist() == [[-4, -4, 0, 2, 2], [2, 0, 2, 2, 2], [2, 0, 0, 0, 0]]

    @pytest.mark.parametrize(("rarest", "left"), [(1, [-4, 2, 8]), (2, [-4, 2]), (3, [2]), (9, [2])])
    def test_the_rarest_go_first_entries_first(self, kind, rarest, left):
        assert groups.drop(book(kind), 0, rarest, "zero", WEIGHT).entries.decode().tolist() == left

    def test_both_rules_take_the_union(self, kind):
        assert groups.drop(book(kind), 2, 1, "zero", WEIGHT).entries.decode().tolist() == [-4, 2]
        assert groups.drop(book(kind), 2, 3, "zero", WEIGHT).entries.decode().tolist() == [2]

    def test_one_group_stays(self, kind):
        assert groups.drop(book(kind), 10**9, 0, "nearest", WEIGHT).decode().tolist() == (2 * (INDICES > 0)).tolist()

    def test_nothing_to_drop(self, kind):
        for population in (0, 1):
            assert np.array_equal(groups.drop(book(kind), population, 0, "zero", WEIGHT).decode(), book(kind).decode())

    def test_type_of_the_entries_stays(self, kind):
        entries = groups.drop(book(kind), 2, 0, "nearest", WEIGHT).entries
        assert type(entries) is type(book(kind).entries) and entries.shape == (2,)
        if kind == "integers":
            assert entries.codes.dtype == np.int8 and entries.bits == 5 and entries.scale == 1


@given(shared(), st.integers(0, 12), st.integers(0, 12), st.sampled_from(["zero", "nearest"]))
@examples
def test_slow_twin(layer, population, rarest, moved):
    weight, codebook = layer
    result = groups.drop(codebook, population, rarest, moved, weight)
    entries = codebook.entries.values.tolist()
    uses = [int((codebook.indices == symbol).sum()) for symbol in range(1, len(entries) + 1)]
    ranked = sorted(range(len(entries)), key=lambda i: (uses[i], i))
    gone = {i for rank, i in enumerate(ranked) if uses[i] < population or rank < rarest} - set(ranked[-1:])
    left = [entry for i, entry in enumerate(entries) if i not in gone]
    assert result.entries.values.tolist() == left
    for value, symbol, after in zip(weight.tolist(), codebook.indices.tolist(), result.decode().tolist(), strict=True):
        if symbol == 0:
            assert after == 0
        elif symbol - 1 not in gone:
            assert after == entries[symbol - 1]
        else:
            assert after == (0 if moved == "zero" else min(left, key=lambda entry: abs(value - entry)))


@given(shared(), st.integers(0, 12), st.integers(0, 12), st.sampled_from(["zero", "nearest"]))
@examples
def test_form_of_the_result(layer, population, rarest, moved):
    weight, codebook = layer
    before = codebook.indices.tobytes(), codebook.entries.values.tobytes(), weight.tobytes()
    result = groups.drop(codebook, population, rarest, moved, weight)
    assert (codebook.indices.tobytes(), codebook.entries.values.tobytes(), weight.tobytes()) == before
    assert result.indices.dtype == np.uint8 and result.shape == codebook.shape
    if codebook.entries.shape[0]:
        assert 1 <= result.entries.shape[0] <= codebook.entries.shape[0]
    if moved == "nearest":
        assert np.array_equal(result.indices == 0, codebook.indices == 0)


def test_an_empty_codebook_stays():
    empty = Codebook(np.zeros((2, 3), np.uint8), Plain(np.zeros(0, np.float32)))
    assert groups.drop(empty, 5, 1, "nearest", np.zeros((2, 3), np.float32)).entries.shape == (0,)


def test_256_entries_become_narrow_symbols():
    entries = np.arange(1, 257, dtype=np.float32)
    codebook = Codebook(np.concatenate([np.arange(1, 257), np.arange(2, 257)]).astype(np.uint16), Plain(entries))
    result = groups.drop(codebook, 0, 1, "nearest", codebook.decode())
    assert result.indices.dtype == np.uint8 and result.entries.values.tolist() == entries[1:].tolist()
    assert result.decode()[0] == 2


def test_a_weight_that_rounding_made_zero_stays_zero():
    codebook = Codebook(np.array([0, 1, 1, 2], np.uint8), Plain(np.float32([1, 2])))
    assert groups.drop(codebook, 2, 0, "nearest", np.float32([0.4, 1, 1, 2])).decode().tolist() == [0, 1, 1, 1]


def test_many_equally_rare_groups_go_in_their_order():
    entries = np.arange(1, 201, dtype=np.float32)
    codebook = Codebook(np.tile(np.arange(1, 201, dtype=np.uint8), 2), Plain(entries))
    result = groups.drop(codebook, 0, 120, "zero", np.tile(entries, 2))
    assert result.entries.values.tolist() == entries[120:].tolist()
