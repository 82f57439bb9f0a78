import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures import pareto
from paretoscope.measure.board import Timed, milliseconds
from paretoscope.recipe.recipe import Recipe

# Few distinct values, so that ties and duplicates are the rule.
PLACES = st.lists(st.tuples(st.integers(1, 6), st.integers(790, 796)), max_size=24)


def size_bytes(record):
    return record.size.artefact


def slowness(record):
    """The time as a share of the baseline's beside it, as the plots place it."""
    (found,) = milliseconds(Timed((record.latency,), (0,)), 1.0)
    return found


def figure(record):
    return record.figures.value


def front(records, *, x=size_bytes):
    """The records on the front, by its columns."""
    columns = (np.array([of(record) for record in records], float) for of in (x, figure))
    return [records[place] for place in pareto.front(*columns, lambda place: records[place].digests.recipe)]


def dominates(one, other, x, y):
    return x(one) <= x(other) and y(one) >= y(other) and (x(one) < x(other) or y(one) > y(other))


def records_at(places, make_record):
    return [
        make_record(Recipe.of(sparsity=i / 100), size=1000 * size, correct=correct, ms=size / 10)
        for i, (size, correct) in enumerate(places)
    ]


@pytest.mark.slow
@given(places=PLACES)
def test_front_is_what_nothing_dominates(places, make_record):
    records = records_at(places, make_record)
    for x in (size_bytes, slowness):
        undominated = [r for r in records if not any(dominates(other, r, x, figure) for other in records)]
        found = front(records, x=x)
        assert {(x(r), figure(r)) for r in found} == {(x(r), figure(r)) for r in undominated}
        for record in found:
            same = [r for r in undominated if (x(r), figure(r)) == (x(record), figure(record))]
            assert record.digests.recipe == min(r.digests.recipe for r in same)


@pytest.mark.slow
@given(places=PLACES, seed=st.integers(0, 2**16))
def test_front_does_not_depend_on_the_order(places, seed, make_record):
    records = records_at(places, make_record)
    shuffled = random.Random(seed).sample(records, len(records))
    assert front(shuffled) == front(records)


@given(places=PLACES)
def test_front_climbs_from_left_to_right(places, make_record):
    found = front(records_at(places, make_record))
    assert all(size_bytes(a) < size_bytes(b) and figure(a) < figure(b) for a, b in pairwise(found))


def test_a_record_that_is_not_timed_is_not_in_the_race(make_record):
    timed = make_record(Recipe.of(bits=8), correct=700)
    better = make_record(Recipe.of(bits=4), correct=790, ms=None)
    assert front([timed, better], x=slowness) == [timed]
    assert front([]) == []


def test_the_front_goes_over_speed_ups_not_over_times_of_different_moments(make_record):
    # While the machine was slow "no change" took 0.1145 ms; int8, at another moment, 0.0695 ms: yet it is slower.
    unchanged = make_record(Recipe(), ms=0.1145, baseline_ms=0.1145, number_format="fp32")
    int8 = make_record(Recipe.of(bits=8, activations=8), correct=779, ms=0.0695, baseline_ms=0.056)
    assert front([unchanged, int8], x=slowness) == [unchanged]


def test_a_speed_up_that_is_not_known_is_not_in_the_race(make_record):
    timed = make_record(Recipe.of(bits=8))
    wide = make_record(Recipe.of(bits=4), correct=790, ms=0.1, ends=(0.91, 6.33))
    assert np.isnan(slowness(wide))
    assert front([timed, wide], x=slowness) == [timed]
