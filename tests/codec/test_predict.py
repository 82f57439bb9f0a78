"""Steps of scales, told from codes: closed forms, the standalone reader as a twin, and what cannot be."""

import math

import numpy as np
import pytest
from framing import sections
from paretoscope import codec
from paretoscope.base.errors import ArtefactError
from paretoscope.codec import predict, reader
from paretoscope.model import powers
from paretoscope.model.tensors import Integers
from samples import path


def rows(draw: np.random.Generator, spreads: np.ndarray, columns: int) -> np.ndarray:
    return np.rint(spreads[:, None] * draw.standard_normal((len(spreads), columns))).astype(np.int16)


def test_the_level_is_the_root_mean_square():
    codes = rows(np.random.default_rng(0), np.array([2.0, 30.0, 400.0, 9000.0]), 2000)
    exact = 32 * np.log2(np.sqrt(np.square(codes.astype(float)).mean(axis=1)))
    # Logarithms are linear within an octave: at most 2.8 of their 32 units off, halved.
    assert np.abs(predict.levels(codes, 4) - exact).max() < 3
    # Twice the codes, an octave more, but for rounding.
    assert np.abs(predict.levels(2 * codes.astype(np.int32), 4) - predict.levels(codes, 4) - 32).max() <= 1


def test_levels_of_corners():
    assert predict.levels(np.zeros((3, 5), np.int16), 3).tolist() == [-48] * 3
    assert predict.levels(np.zeros((3, 0), np.int16), 3).tolist() == [-48] * 3
    assert predict.levels(np.zeros((0, 3), np.int16), 0).shape == (0,)
    largest = predict.levels(np.full(1 << 20, 2**15 - 1, np.int16), 1)
    # Its sum of squares is limited to 2**48, its mean square to 2**28.
    assert largest.tolist() == [32 * 14]


def by_twin(values: list[np.ndarray], tensors: list[np.ndarray], scales: list[int]) -> np.ndarray:
    class Tensor:
        def __init__(self, name: int) -> None:
            self.name, self.scales = name, scales[name]

    source = iter(values)
    return reader.steps_of([Tensor(i) for i in range(len(tensors))], dict(enumerate(tensors)), lambda n: next(source))


@pytest.mark.parametrize("unit", [1, 3, 32])
def test_steps_come_back_and_the_twin_agrees(unit):
    draw = np.random.default_rng(unit)
    tensors = [rows(draw, draw.uniform(0, 40, n), 30) for n in (60, 1, 7)]
    tensors[0][5] = 0
    found = [predict.levels(codes, len(codes)) for codes in tensors]
    steps = (unit * draw.integers(powers.LEAST // 32, powers.GREATEST // 32, 68)).astype(np.int16)
    steps[[2, 3]], steps[5] = (unit, 2 * unit), powers.ZERO // unit * unit
    values = predict.to_values(steps, found)
    assert values[0].tolist() == [unit]
    assert predict.from_values(unit, values[1], found).tolist() == steps.tolist()
    assert by_twin(values, tensors, [60, 1, 7]).tolist() == steps.tolist()


def test_what_follows_from_the_codes_is_foreseen():
    """Scales in inverse proportion to the codes: nothing is left but the first, and rounding."""
    draw = np.random.default_rng(1)
    spreads = 2.0 ** draw.integers(3, 9, 200)
    codes = rows(draw, spreads, 4000)
    steps = (-32 * np.log2(spreads) - 99 + np.arange(200) % 2).astype(np.int16)
    left = predict.to_values(steps, [predict.levels(codes, 200)])[1]
    assert np.abs(left[:8]).max() < 128 and np.abs(left[30:]).max() <= 4 < np.ptp(steps)


def test_no_steps_and_steps_of_nothing():
    assert predict.to_values(np.zeros(0, np.int16), []) == []
    unit, values = predict.to_values(np.zeros(2, np.int16), [np.zeros(2, np.int64)])
    assert (unit.tolist(), values.tolist()) == ([32], [0, 0])


@pytest.mark.parametrize("value", [2**15 - 1, -(2**15)])
def test_values_that_run_away_end_beyond_every_step(value):
    values = np.full(10**5, value)
    steps = predict.from_values(1, values, [np.zeros(10**5, np.int64)])
    assert powers.from_steps(steps) is None
    assert np.abs(steps).max() <= 2**17 and steps[-1] == 2**15
    assert powers.from_steps(predict.from_values(value, values, [])) is None


def test_a_file_whose_steps_cannot_be_is_refused(assemble, monkeypatch):
    model = assemble(
        {"w": Integers(np.eye(3, dtype=np.int8), powers.from_steps(np.array([5, 6, 7])), 4)}, coder="context"
    )
    monkeypatch.setattr(predict, "to_values", lambda steps, found: [np.array([1]), np.array([5000, 5000, 5000])])
    data = codec.write(model)
    monkeypatch.undo()
    with pytest.raises(ArtefactError, match="steps of scales must be in"):
        codec.read(data)
    with pytest.raises(reader.Damaged, match="steps of scales must be possible"):
        reader.read(data)


def test_it_saves_a_fifth_where_scales_go_with_codes(assemble):
    draw = np.random.default_rng(3)
    noise, spreads = 8 * draw.standard_normal(2000), np.exp(draw.normal(2, 1, 2000))
    scale = powers.nearest(2.0 ** (noise / 32) / spreads)
    codes = path(np.rint(spreads[:, None] * draw.laplace(size=(2000, 20))).astype(int).clip(-999, 999)).astype(np.int16)
    sizes = []
    for own in (scale, np.float32(1.001) * scale, powers.from_steps(np.full(2000, 1))):
        model = assemble({"w": Integers(codes, own, 12, trellis=True)}, coder="context")
        sizes.append(len(sections(codec.write(model))[b"S"]))
    side, other = sizes[0] - sizes[2], sizes[1] - sizes[2]
    # The entropy of the noise and of its estimates, against that of the spreads.
    assert side < 2000 * math.log2(8 * 4.13 * 1.6) / 8 and side < 0.6 * other
