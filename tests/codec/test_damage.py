"""Damaged, foreign and hostile files: an ArtefactError or a compressed model, and never anything else."""

import copy
import io
import json
import math
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from framing import deflate, frame, numbers, pack, sections, unpack
from memory import tracing
from paretoscope import codec
from paretoscope.base.errors import ArtefactError
from paretoscope.codec import container
from paretoscope.codec.container import MAGIC
from paretoscope.codec.header import Header
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import Recipe
from safetensors.numpy import save as save_safetensors

CODERS = ("ans", "huffman")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f0001050101"
    "27186360000000004945 4e44ae426082".replace(" ", "")
)


def header_of(*tensors: list[Any], coder: str = "ans", **more: Any) -> dict[str, Any]:
    return {
        "architecture": "made-up",
        "source": "0" * 64,
        "recipe": {"version": 1, "code": {"coder": coder}},
        "tensors": list(tensors),
        **more,
    }


# A tensor of one fp32 value, zero: its count of zeros and of escapes.
ONE_VALUE = numbers(1, 0)


@pytest.fixture(params=CODERS, scope="module")
def file(request, assemble) -> bytes:
    """A small file with every kind of tensor in it."""
    draw = np.random.default_rng(7)
    codes = draw.integers(-3, 4, (4, 30)).astype(np.int8)
    codes[:, 5:25] = 0
    return codec.write(
        assemble(
            {
                "q": Integers(codes, draw.random(4, np.float32), 3),
                "k": Codebook((np.abs(codes) % 3).astype(np.uint8), Plain(np.array([-1, 1], np.float32))),
                "g": Codebook(
                    (codes != 0).astype(np.uint8), Integers(np.array([5], np.int8), np.array(0.5, np.float32), 4)
                ),
                "w": Integers(draw.integers(-300, 300, (2, 5)).astype(np.int16), np.array(0.1, np.float32), 16),
                "a": Integers(codes, draw.random(4, np.float32), 3, np.array([-4, 3, 0, 1], np.int8)),
                "z": Integers(
                    draw.integers(-300, 300, (2, 5)).astype(np.int16),
                    np.array(0.1, np.float32),
                    11,
                    np.array(-900, np.int16),
                ),
                "f": Plain(draw.normal(size=(3, 3)).astype(np.float32)),
            },
            {
                "b": Plain(draw.normal(size=4).astype(np.float32)),
                "h": Plain(np.ones(3, np.float16)),
                "n": Plain(np.array(12)),
            },
            request.param,
        )
    )


def assert_reads_or_refuses(data: bytes) -> bool:
    """Whether the file was read; anything but a model or an ArtefactError propagates and fails the test."""
    try:
        model = codec.read(data)
    except ArtefactError as error:
        assert str(error)
        return False
    assert isinstance(model, CompressedModel)
    for name in model.order:
        model.decode(name)
    return True


def test_what_the_mutations_start_from_is_whole(file):
    assert assert_reads_or_refuses(file)
    header, streams = unpack(file)
    assert assert_reads_or_refuses(pack(header, streams))


def test_a_file_cut_at_any_length_is_refused(file):
    for length in range(len(file)):
        with pytest.raises(ArtefactError):
            codec.read(file[:length])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_any_changed_byte_is_noticed(file, mask):
    for position in range(len(file)):
        damaged = bytearray(file)
        damaged[position] ^= mask
        with pytest.raises(ArtefactError):
            codec.read(bytes(damaged))


@pytest.mark.parametrize("extra", [b"\0", b"\n", b"more bytes"])
def test_an_extended_file_is_refused(file, extra):
    with pytest.raises(ArtefactError, match=f"{len(extra)} bytes follow"):
        codec.read(file + extra)


def zip_of_text() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("weights.txt", "0.5")
    return target.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89", id="one byte"),
        pytest.param(PIXEL, id="png"),
        pytest.param(zip_of_text(), id="zip"),
        pytest.param(b"accuracy,size\n0.98,44959\n", id="text"),
        pytest.param(b'{"version": 1}', id="json"),
        pytest.param(bytes(5000), id="zeros"),
        pytest.param(save_safetensors({"w": np.zeros((3, 3), np.float32)}), id="safetensors"),
        pytest.param(MAGIC[::-1] * 20, id="magic reversed"),
    ],
)
def test_a_foreign_file_is_refused_with_a_remedy(data):
    with pytest.raises(ArtefactError, match="Pass a file that was exported as an artefact"):
        codec.read(data)


@pytest.mark.parametrize("version", [0, 1, 3, 256, 65535])
def test_another_version_is_refused(file, version):
    header, streams = unpack(file)
    told = f"newer version of this program: it has format {version}," if version > 2 else f"has format {version}, of an"
    with pytest.raises(ArtefactError, match=told):
        codec.read(pack(header, streams, version))


HOSTILE_HEADERS = {
    "no text": b"",
    "not json": b"{",
    "not text": b"\xff\xfe",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "a number of too many digits": b"9" * 5000,
    "deep": b"[" * 100_000,
    "deep in an object": b'{"tensors":' + b"[" * 17 + b"]" * 17 + b"}",
    "deep behind a string of closing brackets": b'{"' + b"]" * 5000 + b'":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a key twice": json.dumps(header_of(["w", "w4", [1]])).encode()[:-1] + b',"source":"0"}',
    "a key twice, deep": json.dumps(header_of()).encode().replace(b'"version": 1', b'"version": 1, "version": 1'),
    "not a number": json.dumps(header_of(structure=math.nan)).encode(),
    "infinity": json.dumps(header_of(structure=math.inf)).encode(),
    "a number beyond any": json.dumps(header_of()).encode().replace(b'"version": 1', b'"version": 1e400'),
    "no fields": {},
    "an unknown field": header_of(["w", "w4", [1]], weights=["w"]),
    "a name twice": header_of(["w", "w4", [1]], ["w", "w4", [1]]),
    "a name that is a number": header_of([1, "w4", [1]]),
    "a name that is a list": header_of([["w"], "w4", [1]]),
    "a name that cannot be written": header_of(["\ud800", "w4", [1]]),
    "an architecture that cannot be written": header_of(["w", "w4", [1]], architecture="\udfff"),
    "an architecture that is a number": header_of(["w", "w4", [1]], architecture=3),
    "an architecture without a name": header_of(["w", "w4", [1]], architecture=""),
    "a source that is null": header_of(["w", "w4", [1]], source=None),
    "tensors that are a number": header_of() | {"tensors": 3},
    "tensors that are an object": header_of() | {"tensors": {"w": 1}},
    "a tensor that is text": header_of("w4w"),
    "a tensor of two fields": header_of(["w", "w4"]),
    "a type beside an architecture": header_of(["w", "w4", [1], "BF16"]),
    "a type that is unknown": header_of(["w", "w4", [1], "C64"], architecture=None),
    "a type that is a list": header_of(["w", "w4", [1], ["BF16"]], architecture=None),
    "a type that does not suit": header_of(["w", "w4", [1], "F8_E4M3"], architecture=None),
    "two types": header_of(["w", "w4", [1], "BF16", "BF16"], architecture=None),
    "a kind that is null": header_of(["w", None, [1]]),
    "an unknown kind": header_of(["w", "f3", [1]]),
    "a kind with more after it": header_of(["w", "w4x", [1]]),
    "a kind with a line end": header_of(["w", "w4\n", [1]]),
    "codes of the rest with a zero point": header_of(["w", "ra8t", [1]]),
    "codes of the rest in a trellis": header_of(["w", "rd8t", [1]]),
    "17 bits": header_of(["w", "q17t", [1]]),
    "17 bits with a zero point": header_of(["w", "a17t", [1]]),
    "one bit with a zero point": header_of(["w", "a1t", [1]]),
    "one bit in a trellis": header_of(["w", "d1t", [1]]),
    "bits with a nought before": header_of(["w", "q08t", [1]]),
    "zero points without an axis": header_of(["w", "a8c", []]),
    "no bits": header_of(["w", "q0t", [1]]),
    "32 bits": header_of(["w", "q32t", [1]]),
    "bits of too many digits": header_of(["w", f"q{'8' * 5000}t", [1]]),
    "257 entries": header_of(["w", "k257f", [1]]),
    "floats in steps": header_of(["w", "k2fp", [1]]),
    "entries of 17 bits": header_of(["w", "k2q17", [1]]),
    "entries with a zero point": header_of(["w", "k2a4", [1]]),
    "channels without an axis": header_of(["w", "q8c", []]),
    "a shape that is a number": header_of(["w", "w4", 1]),
    "a shape that is text": header_of(["w", "w4", "1"]),
    "a negative size": header_of(["w", "w4", [-1]]),
    "a size that is a float": header_of(["w", "w4", [1.0]]),
    "a size that is true": header_of(["w", "w4", [True]]),
    "a size that is null": header_of(["w", "w4", [None]]),
    "a size beyond any": header_of(["w", "w4", [10**300]]),
    "a product of too many digits": header_of(["w", "w4", [2**30] * 500]),
    "a product that overflows 64 bits to 1": header_of(["w", "w4", [2**32 + 1, 2**32 - 1, 1]]),
    "65 axes": header_of(["w", "w4", [1] * 65]),
    "no recipe": {key: value for key, value in header_of().items() if key != "recipe"},
    "a recipe that is null": header_of(recipe=None),
    "a recipe of another version": header_of(recipe={"version": 2}),
    "a recipe with 95 for a sparsity": header_of(recipe={"version": 1, "prune": {"sparsity": 95}}),
    "a recipe with a sparsity beyond any": header_of(recipe={"version": 1, "prune": {"sparsity": 10**400}}),
    "a recipe with an unknown coder": header_of(recipe={"version": 1, "code": {"coder": "zip"}}),
}


@pytest.mark.parametrize("header", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_a_header_that_no_writer_writes_is_refused(header):
    # The streams suit a tensor of one fp32 value: the header alone is at fault.
    with pytest.raises(ArtefactError):
        codec.read(pack(header, ONE_VALUE))


def test_the_streams_beside_the_hostile_headers_suit_a_good_one():
    model = codec.read(pack(header_of(["w", "w4", [1]]), ONE_VALUE))
    assert model.weights["w"].values.tolist() == [0.0]


def test_an_empty_tensor_of_axes_beyond_any_is_refused():
    assert codec.read(pack(header_of(["w", "w4", [0, 3]]), numbers())).weights["w"].shape == (0, 3)
    with pytest.raises(ArtefactError):
        codec.read(pack(header_of(["w", "w4", [0, 2**30, 2**30, 2**30]]), numbers()))


@pytest.mark.parametrize("packed", [b"", b"abc", deflate(b"{}")[:-1], deflate(b"{}") + b"more", zlib.compress(b"{}")])
def test_a_header_that_is_not_one_deflate_stream_is_refused(packed):
    with pytest.raises(ArtefactError):
        codec.read(frame(packed, ONE_VALUE))


def test_a_header_that_unpacks_to_more_than_its_limit_is_refused():
    bomb = pack(b" " * (container.MAX_TEXT + 1), b"")
    assert len(bomb) < 10_000
    with tracing() as peak, pytest.raises(ArtefactError, match="longer than"):
        codec.read(bomb)
    assert peak() < 2 * (container.TEXT_FREE + container.TEXT_PER_BYTE * len(bomb))


@pytest.mark.parametrize("size", [1, 2**30, 2**40, 10**18])
def test_more_values_than_the_streams_may_hold_are_refused_before_any_is_read(monkeypatch, size):
    """Scales count as values: a tensor of no codes may still declare a scale for each of a billion channels."""
    for place in ("order_zero", "lanes"):
        monkeypatch.setattr(
            f"paretoscope.codec.{place}.StreamReader", lambda *_: pytest.fail("the streams were opened")
        )
    over = max(size, 2**16 + 4096 * len(ONE_VALUE) + 1)
    for tensors in (
        [["w", "w4", [over]]],
        [["w", "q8t", [over, 0]]],
        [["w", "q8c", [over, 0]]],
        [["w", "i8", [over]]],
        [["v", "f2", [over // 2]], ["w", "f2", [over // 2 + 1]]],
    ):
        with tracing() as peak, pytest.raises(ArtefactError):
            codec.read(pack(header_of(*tensors), ONE_VALUE))
        assert peak() < 2**20


def test_padding_is_what_the_values_need_and_nothing_else(assemble):
    """A layer of nothing but zeros takes less than a byte; padding pays for the memory that it claims."""
    count = 2**16 + 4096 * 50
    data = codec.write(assemble({"w": Integers(np.zeros((4, count // 4), np.int8), np.ones(4, np.float32), 8)}))
    found = sections(data)
    assert list(found) == [b"H", b"F", b"S", b"P"]
    assert found[b"P"] == bytes(50 - len(found[b"S"]))
    assert np.count_nonzero(codec.read(data).weights["w"].codes) == 0
    for padding in (b"", found[b"P"][1:], found[b"P"] + b"\0", found[b"P"][1:] + b"\1"):
        with pytest.raises(ArtefactError, match="padding"):
            codec.read(frame(found[b"H"], found[b"S"], padding=padding))


def test_the_caller_may_accept_less(file):
    values = Header.unpack(sections(file)[b"H"]).values
    codec.read(file, limit=values)
    with pytest.raises(ArtefactError, match=f"at most {values - 1} values here; this one declares {values}"):
        codec.read(file, limit=values - 1)


def test_no_file_may_declare_more_than_a_billion_values_unasked(assemble, monkeypatch):
    data = codec.write(assemble({"w": Integers(np.zeros((1, 1001), np.int8), np.ones(1, np.float32), 8)}))
    monkeypatch.setattr(container, "MAX_VALUES", 1000)
    with pytest.raises(ArtefactError, match="at most 1000"):
        codec.read(data)
    assert codec.read(data, limit=1001).weights["w"].shape == (1, 1001)


def test_a_header_of_many_tensors_is_read_in_linear_time():
    """Counted, not timed: looking a name up in a list of them compares it with all before it."""

    class Name(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, other)

    names = [Name(f"w{i}") for i in range(300)]
    data = header_of(*[[name, "w4", [0]] for name in names], ties=[[i + 1, Name(f"t{i}"), "w0"] for i in range(300)])
    assert len(Header._read(data).tensors) == 300
    assert Name.compared < 20 * len(names)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("table", [(1, 3), (2, 3, 0), (2, 2, 2), (2, 0, 4)])
def test_an_index_outside_its_codebook_is_refused(coder, table):
    """Two entries and zero make an alphabet of three: no table may reach symbol 3."""
    streams = numbers(0, *table, *[1] * 20, words=b"\x01\x02\x03\x04")
    with pytest.raises(ArtefactError, match="at most"):
        codec.read(pack(header_of(["w", "k2f", [2, 2]], coder=coder), streams))


@pytest.mark.parametrize("coder", CODERS)
def test_an_empty_codebook_in_equal_codes_is_read_or_refused(coder):
    assert_reads_or_refuses(pack(header_of(["w", "k0f", [4]], coder=coder), numbers(*[0] * 2)))
    for extra in range(8):
        assert_reads_or_refuses(pack(header_of(["w", "k0f", [4]], coder=coder), numbers(*[0] * (2 + extra))))


def test_a_number_of_many_thousand_digits_is_refused():
    bits = "0" * 20_000 + "1" * 20_001
    data = int(bits.ljust(40_008, "0"), 2).to_bytes(5001, "big")
    with pytest.raises(ArtefactError):
        codec.read(pack(header_of(["w", "w4", [2]]), struct.pack("<I", len(data)) + data))


VALUES = (None, True, False, -1, 0, 1, 2, 3, 5, 16, 100, 257, 2**15, 2**31, 10**400, 0.5, -0.0, 1e308)
VALUES += (
    "",
    "w",
    "q",
    "k",
    "f4",
    "f2",
    "i8",
    "q1t",
    "q8c",
    "q16c",
    "a4c",
    "a12t",
    "k0f",
    "k2f",
    "k256f",
    "k0q1",
    "k3q16",
    "d4tp",
    "rq8t",
    "w4",
    "b1",
    "u2",
    "BF16",
    "ans",
    "huffman",
)
VALUES += ([], [0], [3], [2**20, 0], [0, 2**30, 2**30], [1] * 65, {}, {"version": 1}, [["w", "w4", [2]]])


def mutated(value: Any, draw: random.Random) -> Any:
    """A copy of plain data with one place in it changed."""
    value = copy.deepcopy(value)
    node, path = value, []
    while isinstance(node, (dict, list)) and node and (not path or draw.random() < 0.85):
        key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        path.append((node, key))
        node = node[key]
    parent, key = path[-1]
    match draw.randrange(4):
        case 0 if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(draw.choice(parent)))
        case 1:
            del parent[key]
        case _:
            parent[key] = copy.deepcopy(draw.choice(VALUES))
    return value


@pytest.mark.slow
def test_headers_changed_at_random_are_read_or_refused(file):
    draw = random.Random(11)
    header, streams = unpack(file)
    header["recipe"] |= Recipe.of(sparsity=0.5, clusters=4, bits=4).to_dict() | {"code": header["recipe"]["code"]}
    read = 0
    for _ in range(500):
        changed = header
        for _ in range(draw.randint(1, 3)):
            changed = mutated(changed, draw) or header
        read += assert_reads_or_refuses(pack(changed, streams))
    assert 0 < read < 250


@pytest.mark.slow
def test_streams_changed_at_random_are_read_or_refused(file):
    draw = random.Random(12)
    header, streams = unpack(file)
    read = 0
    for _ in range(500):
        changed = bytearray(streams)
        for _ in range(draw.randint(1, 4)):
            match draw.randrange(4):
                case 0 if changed:
                    del changed[draw.randrange(len(changed)) :][: draw.randint(1, 4)]
                case 1:
                    position = draw.randint(0, len(changed))
                    changed[position:position] = draw.randbytes(draw.choice([1, 4, 8]))
                case 2:
                    changed[:4] = struct.pack("<I", draw.randint(0, len(changed)))
                case _ if changed:
                    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        read += assert_reads_or_refuses(pack(header, bytes(changed)))
    assert read < 500


def test_numbers_changed_at_random_are_read_or_refused(little):
    """Only the numbers: they hold tables and counts, where a wrong value does most."""
    draw = random.Random(13)
    for coder in CODERS:
        data = codec.write(compress(little, Recipe.of(sparsity=0.8, clusters=4, bits=8, coder=coder)))
        header, streams = unpack(data)
        (length,) = struct.unpack_from("<I", streams)
        for _ in range(100):
            changed = bytearray(streams)
            changed[4 + draw.randrange(min(length, 60))] = draw.randrange(256)
            assert_reads_or_refuses(pack(header, bytes(changed)))


# One scale without words: wide values of which none is zero, four bytes of one symbol each.
ONE_SCALE = (0, 1, 0, 1, 0, 1, 0, 1, 126)


@pytest.mark.parametrize("coder", CODERS)
def test_paths_that_the_trellis_has_are_read(coder):
    # The greatest index 1; one of the odd quantizer; streams of one symbol each: 1 in rows 0 and 1, -1 in row 2.
    streams = numbers(1, 1, 0, 1, 2, 0, 1, 0, *ONE_SCALE)
    found = codec.read(pack(header_of(["w", "d4t", [3, 1]], coder=coder), streams)).weights["w"]
    assert found.trellis and found.codes.tolist() == [[2], [2], [-1]]
    zeros = codec.read(pack(header_of(["w", "d4t", [3, 1]], coder=coder), numbers(0, *ONE_SCALE))).weights["w"]
    assert zeros.codes.tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(
    ("count", "message"),
    [((5,), "at most 4 here; got 5"), ((1, 4), "at most 3 here; got 4"),
     ((1, 0, 0, 1, 2, 0), "0 of 3 codes must be of the odd quantizer"),
     ((1, 3, 0, 0, 1, 2), "3 of 3 codes must be of the odd quantizer"),
     ((4, 0, 0, 1, 8, 0), "must be in -7..7; got 8..8")],
    ids=str,
)  # fmt: skip
def test_paths_that_the_trellis_has_not_are_refused(count, message, coder):
    with pytest.raises(ArtefactError, match=message):
        codec.read(pack(header_of(["w", "d4t", [3, 1]], coder=coder), numbers(*count, *ONE_SCALE)))
