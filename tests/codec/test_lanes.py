"""Lanes of context streams: which tensor goes where depends on sizes alone, and a lane knows nothing of the others."""

import struct

import numpy as np
import pytest
from framing import pack, sections, unpack
from paretoscope import codec
from paretoscope.base.errors import ArtefactError
from paretoscope.codec import lanes
from paretoscope.model.tensors import Integers
from samples import packed


@pytest.fixture
def small_lanes(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "CODES_PER_LANE", 100)


def lanes_of(section: bytes) -> list[bytes]:
    lengths = struct.unpack_from(f"<{section[0]}I", section, 1)
    starts = np.cumsum([1 + 4 * section[0], *lengths])
    return [section[start : start + length] for start, length in zip(starts[:-1], lengths, strict=True)]


@pytest.mark.parametrize("coder", ["context", "smallest"])
def test_models_of_many_lanes_come_back(small_lanes, coder):
    model = packed(coder)
    data = codec.write(model)
    assert len(lanes_of(sections(data)[b"S"])) > 4
    again = codec.read(data)
    for name in model.order:
        assert again.decode(name).tobytes() == model.decode(name).tobytes(), name
    assert codec.write(again) == data


def test_the_largest_go_first_to_the_emptiest():
    assert lanes.lanes_of(list("abcdef"), [1, 9, 4, 4, 5, 0], 2) == [["b", "d"], ["a", "c", "e", "f"]]
    assert lanes.lanes_of(list("abc"), [5, 5, 5], 3) == [["a"], ["b"], ["c"]]
    assert lanes.lanes_of([], [], 1) == [[]]


def test_the_number_of_threads_does_not_change_a_byte(small_lanes, monkeypatch):
    model, written = packed("context"), set()
    for cores in (1, 2, 64, None):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        written.add(codec.write(model))
    assert len(written) == 1


def test_a_lane_is_independent_of_the_others(assemble, monkeypatch):
    draw = np.random.default_rng(0)
    weights = {
        name: Integers(draw.integers(-7, 8, (10, 10)).astype(np.int8), np.ones(10, np.float32), 4) for name in "ab"
    }
    monkeypatch.setattr(lanes, "CODES_PER_LANE", 200)
    first = lanes_of(sections(codec.write(assemble(weights, coder="context")))[b"S"])
    weights["a"] = Integers(-weights["a"].codes, np.ones(10, np.float32), 4)
    second = lanes_of(sections(codec.write(assemble(weights, coder="context")))[b"S"])
    assert len(first) == len(second) == 2
    assert first[0] != second[0] and first[1] == second[1]


@pytest.mark.parametrize("count", [0, 2, 17, 255])
def test_a_number_of_lanes_that_does_not_suit_the_codes_is_refused(count):
    header, streams = unpack(codec.write(packed("context")))
    with pytest.raises(ArtefactError, match=rf"must begin with 1 to 1 lanes.*got {count} lanes"):
        codec.read(pack(header, bytes([count]) + streams[1:]))


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 10**6])
def test_lanes_that_overflow_their_section_are_refused(length):
    header, streams = unpack(codec.write(packed("context")))
    with pytest.raises(ArtefactError, match="lanes must lie within their section"):
        codec.read(pack(header, streams[:1] + struct.pack("<I", length) + streams[5:]))
    for short in (b"", streams[:1], streams[:4]):
        with pytest.raises(ArtefactError, match="must begin with"):
            codec.read(pack(header, short))
