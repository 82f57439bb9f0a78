"""Mutations of real files, seeded: each is refused with an ArtefactError or decodes, and takes bounded memory.

Three ways: raw bytes; a section with its checksum put right; the header's JSON with its checksum put right. A raw
mutation that is read must decode to exactly what was written; the others to some valid model. What is mutated is a file
with a tensor of every kind, and as often each of seven small ones among which its tensors are dealt out: they are read
many times faster.
"""

import json
import math
import random
from typing import Any

import mutations
import numpy as np
import pytest
from framing import deflate, frame, inflate, sections
from memory import tracing
from paretoscope import codec
from paretoscope.base.errors import ArtefactError
from paretoscope.codec import container, reader
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, Integers
from paretoscope.model.trellis import follows
from paretoscope.recipe.recipe import CODERS
from samples import packed, parts

pytestmark = pytest.mark.slow

# Mutations for each coder; 24,000 over all four.
RAW, SECTIONS, HEADERS, READER = 2_000, 2_000, 2_000, 120
PARTS = 7
# What reading may take: FORMAT.md, "Memory".
FIXED, PER_HEADER_BYTE, PER_VALUE = 1 << 24, 1 << 12, 64


@pytest.fixture(scope="module", params=CODERS)
def files(request) -> list[bytes]:
    figures = codec.Figures(797, 790, 795, 0.01, "0123456789abcdef")
    whole = packed(request.param, sparsity=0.5, clusters=4, bits=4)
    return [codec.write(each, figures) for each in (whole, *parts(whole, PARTS))]


@pytest.fixture(scope="module", autouse=True)
def few_values():
    """So that headers changed at random declare too much more often than not."""
    patch = pytest.MonkeyPatch()
    patch.setattr(container, "FREE_VALUES", 1 << 12)
    yield
    patch.undo()


def outcome(data: bytes, traced: bool = False) -> CompressedModel | None:
    """The model; None where it is refused with a message for a person. Anything else that is raised fails the test."""
    if traced:
        with tracing() as peak:
            model = outcome(data)
            assert peak() < FIXED + PER_HEADER_BYTE * len(data) + PER_VALUE * (len(data) + (1 << 12))
            return model
    try:
        model = codec.read(data)
        for name in model.order:
            model.decode(name)
        return model
    except ArtefactError as error:
        assert 20 < len(str(error)) < 1000 and str(error).encode()
        return None


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The data with one to four places flipped, cut, doubled, moved or made up."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place, length = draw.randrange(len(changed) + 1), draw.choice((1, 1, 2, 4, 8, 40))
        match draw.randrange(6):
            case 0:
                del changed[place : place + length]
            case 1:
                changed[place:place] = draw.randbytes(length)
            case 2:
                changed[place : place + length] = draw.choice((b"\0", b"\xff")) * length
            case 3:
                other = draw.randrange(len(changed) + 1)
                changed[place : place + length] = changed[other : other + length]
            case 4 if changed:
                del changed[place:]
            case _ if changed:
                changed[place % len(changed)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def test_raw_bytes(files):
    draw, read = random.Random(1), 0
    for i in range(RAW):
        file = draw.choice(files)
        changed = damaged(file, draw)
        model = outcome(changed, traced=i % 50 == 0)
        if model is not None:
            read += 1
            assert codec.write(model, codec.read_figures(changed)) == file
    # Some mutations change nothing.
    assert read < RAW / 10


def test_sections_with_their_checksums_put_right(files):
    draw, read = random.Random(2), 0
    for i in range(SECTIONS):
        found = sections(draw.choice(files))
        changed = dict(found)
        name = draw.choice((b"H", b"F", b"S", b"S", b"S", b"S"))
        changed[name] = damaged(found[name], draw)
        data = frame(changed[b"H"], changed[b"S"], figures=changed[b"F"])
        model = outcome(data, traced=i % 50 == 0)
        if model is not None:
            read += 1
            assert_sound(model)
    assert 0 < read < SECTIONS


def test_the_standalone_reader_raises_its_own_error_and_reads_what_we_read(files):
    """Raw bytes, streams and headers in turn, checksums put right; it is slow, so there are fewer."""
    draw, read = random.Random(4), 0
    for i in range(READER):
        file = draw.choice(files)
        found = sections(file)
        header = json.loads(inflate(found[b"H"]))
        if i % 3 == 0:
            data = damaged(file, draw)
        elif i % 3 == 1:
            data = frame(found[b"H"], damaged(found[b"S"], draw), figures=found[b"F"])
        else:
            data = frame(deflate(json.dumps(mutated(header, draw) or header).encode()), found[b"S"])
        try:
            arrays = reader.read(data)
        except reader.Damaged as error:
            assert 20 < len(str(error)) < 1000
            arrays = None
        model = outcome(data)
        if model is not None:
            read += 1
            assert arrays is not None and list(arrays) == list(model.order)
            assert all(arrays[name].tobytes() == model.decode(name).tobytes() for name in model.order)
    assert 0 < read < READER


VALUES = (
    *(None, True, False, -1, 0, 1, 2, 3, 5, 16, 100, 257, 2**15, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308),
    *(math.nan, math.inf, -math.inf),
    *("", "w", "q", "k", "f4", "f2", "i8", "w4", "b1", "u2", "q1t", "q8c", "q16c", "q8cp", "a4c", "a12t", "d4tp"),
    *("d12c", "k0f", "k2f", "k256f", "k0q1", "k3q16", "k3q4p", "rq8t", "rq16c", "BF16", "F64", "F8_E5M2", *CODERS),
    *([], [0], [3], [2**20, 0], [0, 2**30, 2**30], [2**32, 2**32], [1] * 65, {}, {"version": 1}, [["w", "w4", [2]]]),
)


def mutated(value: Any, draw: random.Random) -> Any:
    """A copy of a header with one place in it changed."""
    return mutations.mutated(value, draw, VALUES, 0.85)


def test_headers_with_their_checksums_put_right(files):
    draw, read = random.Random(3), 0
    for i in range(HEADERS):
        found = sections(draw.choice(files))
        changed = header = json.loads(inflate(found[b"H"]))
        for _ in range(draw.randint(1, 3)):
            changed = mutated(changed, draw) or header
        data = frame(deflate(json.dumps(changed).encode()), found[b"S"], figures=found[b"F"])
        model = outcome(data, traced=i % 10 == 0)
        if model is not None:
            read += 1
            assert_sound(model)
    assert 0 < read < HEADERS / 2


def assert_sound(model: CompressedModel) -> None:
    """A valid model: its codes keep their rules, and it is written and read again."""
    for name, tensor in (*model.weights.items(), *model.rest.items()):
        grid = tensor.entries if isinstance(tensor, Codebook) else tensor
        if isinstance(grid, Integers):
            top = 2 ** (grid.bits - 1) if grid.zero is not None else max(1, 2 ** (grid.bits - 1) - 1)
            assert np.abs(grid.codes.astype(int)).max(initial=0) <= top, name
            assert not grid.trellis or not grid.shape or follows(grid.codes), name
    again = codec.read(codec.write(model))
    assert again.order == model.order
    for name in model.order:
        assert again.decode(name).tobytes() == model.decode(name).tobytes(), name
