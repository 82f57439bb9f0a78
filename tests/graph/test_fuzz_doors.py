"""Files changed at random, seeded: each is refused with a remedy, or is a network or data.

`benchmarks.fuzz_doors` does the same 20,000 times.
"""

import pytest

from benchmarks.fuzz_doors import DOORS, KERAS, keras_missing, outcome, sources

# Of each door in the suite; a file of Keras is looked through in a process of its own.
MUTATIONS, OF_KERAS = 150, 50

pytestmark = pytest.mark.slow


def test_a_file_that_keeps_hdf5_busy_for_ever_is_refused() -> None:
    if missing := keras_missing():
        pytest.skip(missing)
    assert not outcome("h5 bytes", sources(), 396)


def test_an_output_that_is_nothing_is_refused() -> None:
    assert not outcome("pt2 json", sources(), 5750)


@pytest.mark.parametrize("door", DOORS)
def test_changed_files_are_refused_or_read(door: str) -> None:
    if door in KERAS and (missing := keras_missing()):
        pytest.skip(missing)
    files = sources()
    seeds = range(OF_KERAS if door in KERAS else MUTATIONS)
    opened = [outcome(door, files, seed) for seed in seeds]
    assert 0 < sum(opened) < len(seeds)
