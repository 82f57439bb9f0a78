"""Damaged, foreign and hostile files: an ArtefactError or a compressed model, and never anything else."""

import copy
import io
import json
import random
import struct
import tracemalloc
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

from compression import codec
from compression.codec import artefact
from compression.codec.artefact import MAGIC
from compression.errors import ArtefactError
from compression.pipeline import CompressedModel, compress
from compression.recipe import Recipe
from compression.tensors import Codebook, Integers, Plain

CODERS = ("ans", "huffman")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f0001050101"
    "27186360000000004945 4e44ae426082".replace(" ", "")
)


def frame(packed: bytes, streams: bytes, version: int = 1) -> bytes:
    """A file of these two sections, with right lengths and checksums."""
    framed = [struct.pack("<II", len(part), zlib.crc32(part)) + part for part in (packed, streams)]
    return MAGIC + struct.pack("<H", version) + b"".join(framed)


def pack(header: bytes | dict[str, Any], streams: bytes, version: int = 1) -> bytes:
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return frame(zlib.compress(text), streams, version)


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<I", data, 10)
    return json.loads(zlib.decompress(data[18 : 18 + length])), data[18 + length + 8 :]


def numbers(*values: int, words: bytes = b"") -> bytes:
    """A block of streams with these numbers, Elias gamma coded, and this payload."""
    bits = "".join("0" * (len(f"{value + 1:b}") - 1) + f"{value + 1:b}" for value in values)
    data = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    return struct.pack("<I", len(data)) + data + words


def header_of(*tensors: list[Any], weights: list[str] | None = None, coder: str = "ans", **more: Any) -> dict[str, Any]:
    return {
        "architecture": "made-up",
        "source": "0" * 64,
        "recipe": {"version": 1, "code": {"coder": coder}},
        "weights": [tensor[0] for tensor in tensors] if weights is None else weights,
        "tensors": list(tensors),
        **more,
    }


# A tensor of one fp32 value, zero: its count of zeros and of escapes, then no scales, entries or other values.
ONE_VALUE = numbers(1, 0, *[0] * 6)


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


@pytest.mark.parametrize("version", [0, 2, 256, 65535])
def test_another_version_is_refused(file, version):
    header, streams = unpack(file)
    with pytest.raises(ArtefactError, match=f"must have version 1; this one has {version}"):
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
    "no fields": {},
    "a name twice": header_of(["w", "f4", [1]], ["w", "f4", [1]], weights=["w"]),
    "a weight twice": header_of(["w", "f4", [1]], weights=["w", "w"]),
    "a weight that is no tensor": header_of(["w", "f4", [1]], weights=["w", "v"]),
    "a name that is a number": header_of([1, "f4", [1]]),
    "a name that is a list": header_of([["w"], "f4", [1]], weights=[]),
    "a name that cannot be written": header_of(["\ud800", "f4", [1]]),
    "an architecture that cannot be written": header_of(["w", "f4", [1]], architecture="\udfff"),
    "an architecture that is a number": header_of(["w", "f4", [1]], architecture=3),
    "a source that is null": header_of(["w", "f4", [1]], source=None),
    "weights that are a number": header_of(["w", "f4", [1]], weights=3),
    "tensors that are a number": header_of() | {"tensors": 3},
    "a tensor of two fields": header_of(["w", "f4"]),
    "a tensor of four fields": header_of(["w", "f4", [1], 0]),
    "a kind that is null": header_of(["w", None, [1]]),
    "an unknown kind": header_of(["w", "f8", [1]]),
    "a kind with more after it": header_of(["w", "f4x", [1]]),
    "a weight of half floats": header_of(["w", "f2", [1]]),
    "a weight of counters": header_of(["w", "i8", [1]]),
    "codes outside the weights": header_of(["w", "q8t", [1]], weights=[]),
    "a codebook outside the weights": header_of(["w", "k2f", [1]], weights=[]),
    "17 bits": header_of(["w", "q17t", [1]]),
    "17 bits with a zero point": header_of(["w", "a17t", [1]]),
    "one bit with a zero point": header_of(["w", "a1t", [1]]),
    "one bit with zero points": header_of(["w", "a01c", [1]]),
    "zero points outside the weights": header_of(["w", "a8t", [1]], weights=[]),
    "zero points without an axis": header_of(["w", "a8c", []]),
    "no bits": header_of(["w", "q0t", [1]]),
    "32 bits": header_of(["w", "q32t", [1]]),
    "bits of too many digits": header_of(["w", f"q{'8' * 5000}t", [1]]),
    "257 entries": header_of(["w", "k257f", [1]]),
    "entries of 17 bits": header_of(["w", "k2q17", [1]]),
    "entries with a zero point": header_of(["w", "k2a4", [1]]),
    "channels without an axis": header_of(["w", "q8c", []]),
    "a shape that is a number": header_of(["w", "f4", 1]),
    "a negative size": header_of(["w", "f4", [-1]]),
    "a size that is a float": header_of(["w", "f4", [1.0]]),
    "a size that is true": header_of(["w", "f4", [True]]),
    "a size that is null": header_of(["w", "f4", [None]]),
    "a size beyond any": header_of(["w", "f4", [10**300]]),
    "a product of too many digits": header_of(["w", "f4", [2**30] * 500]),
    "65 axes": header_of(["w", "f4", [1] * 65]),
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
    model = codec.read(pack(header_of(["w", "f4", [1]]), ONE_VALUE))
    assert model.weights["w"].values.tolist() == [0.0]


def test_an_empty_tensor_of_axes_beyond_any_is_refused():
    no_values = numbers(*[0] * 7)
    assert codec.read(pack(header_of(["w", "f4", [0, 3]]), no_values)).weights["w"].shape == (0, 3)
    with pytest.raises(ArtefactError):
        codec.read(pack(header_of(["w", "f4", [0, 2**30, 2**30, 2**30]]), no_values))


@pytest.mark.parametrize("packed", [b"", b"abc", zlib.compress(b"{}")[:-1], zlib.compress(b"{}") + b"more"])
def test_a_header_that_is_not_one_zlib_stream_is_refused(packed):
    with pytest.raises(ArtefactError):
        codec.read(frame(packed, ONE_VALUE))


def test_a_header_that_unpacks_to_more_than_the_limit_is_refused():
    bomb = pack(b" " * (artefact.MAX_HEADER_BYTES + 1), b"")
    assert len(bomb) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError, match=f"longer than {artefact.MAX_HEADER_BYTES}"):
            codec.read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * artefact.MAX_HEADER_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "tensors",
    [
        [["w", "f4", [1001]]],
        [["w", "q8t", [7, 11, 13]]],
        [["w", "i8", [1001]]],
        [["v", "f2", [600]], ["w", "f2", [600]]],
        [["w", "q8c", [1001, 0]]],
        [["v", "q8c", [600, 0]], ["w", "q16c", [0, 600][::-1]]],
        [["w", "f4", [2**30]]],
        [["w", "f4", [2**29, 2**29]]],
    ],
    ids=str,
)
def test_more_values_than_the_limit_are_refused_before_any_is_read(monkeypatch, tensors):
    """Scales count as values: a tensor of no codes may still declare a scale for each of a billion channels."""
    monkeypatch.setattr(artefact, "MAX_VALUES", 1000)

    def no_reader(*_: object) -> None:
        raise AssertionError("the streams were opened")

    monkeypatch.setattr(artefact, "StreamReader", no_reader)
    weights = [name for name, kind, _ in tensors if kind not in ("f2", "i8")]
    with pytest.raises(ArtefactError):
        codec.read(pack(header_of(*tensors, weights=weights), numbers(0, 0, 0, 0)))


def test_a_refusal_of_a_giant_allocates_little():
    data = pack(header_of(*[[f"w{i}", "q8t", [2**28]] for i in range(8)]), numbers(*[0, 1, 0] * 8, *[0] * 12))
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError, match="at most"):
            codec.read(data)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_header_of_many_tensors_is_read_in_linear_time():
    """Counted, not timed: looking a name up in a list of them compares it with all before it."""

    class Name(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, other)

    names = [f"w{i}" for i in range(300)]
    header = json.dumps(header_of(*[[name, "f4", [0]] for name in names])).encode()
    original = json.loads

    def loads(text: bytes) -> Any:
        data = original(text)
        data["weights"] = [Name(name) for name in data["weights"]]
        return data

    artefact.json.loads, Name.compared = loads, 0
    try:
        codec.read(pack(header, numbers(*[0] * 400)))
    except ArtefactError:
        pass
    finally:
        artefact.json.loads = original
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
    assert_reads_or_refuses(pack(header_of(["w", "k0f", [4]], coder=coder), numbers(*[0] * 9)))
    for extra in range(8):
        assert_reads_or_refuses(pack(header_of(["w", "k0f", [4]], coder=coder), numbers(*[0] * (2 + extra))))


def test_a_number_of_many_thousand_digits_is_refused():
    bits = "0" * 20_000 + "1" * 20_001
    data = int(bits.ljust(40_008, "0"), 2).to_bytes(5001, "big")
    with pytest.raises(ArtefactError):
        codec.read(pack(header_of(["w", "f4", [2]]), struct.pack("<I", len(data)) + data))


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
    "ans",
    "huffman",
)
VALUES += ([], [0], [3], [2**20, 0], [0, 2**30, 2**30], [1] * 65, {}, {"version": 1}, [["w", "f4", [2]]])


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


def test_headers_changed_at_random_are_read_or_refused(file, monkeypatch):
    monkeypatch.setattr(artefact, "MAX_VALUES", 2**16)
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


def test_numbers_changed_at_random_are_read_or_refused(little, monkeypatch):
    """Only the numbers: they hold tables and counts, where a wrong value does most."""
    monkeypatch.setattr(artefact, "MAX_VALUES", 2**16)
    draw = random.Random(13)
    for coder in CODERS:
        data = codec.write(compress(little, Recipe.of(sparsity=0.8, clusters=4, bits=8, coder=coder)))
        header, streams = unpack(data)
        (length,) = struct.unpack_from("<I", streams)
        for _ in range(100):
            changed = bytearray(streams)
            changed[4 + draw.randrange(min(length, 60))] = draw.randrange(256)
            assert_reads_or_refuses(pack(header, bytes(changed)))
