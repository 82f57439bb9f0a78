"""Figures, padding, the preset dictionary and scales as steps."""

import re
from pathlib import Path

import numpy as np
import pytest
from framing import frame, sections
from paretoscope import codec
from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.codec import container, reader
from paretoscope.codec.container import DICTIONARY, Figures
from paretoscope.methods.pipeline import compress
from paretoscope.model.powers import GREATEST, LEAST, MANTISSAS, ZERO
from paretoscope.model.tensors import Integers
from paretoscope.model.trellis import NEXT
from paretoscope.recipe.recipe import Recipe

SPECIFICATION = Path(codec.__file__).with_name("FORMAT.md").read_text()
MEASURED = Figures(n=797, correct=780, baseline_correct=790, mean_kl=0.015625, dataset="0123456789abcdef")


def test_figures_come_back_and_do_not_change_the_length(little):
    model = compress(little, Recipe.of(bits=4))
    without, measured = codec.write(model), codec.write(model, MEASURED)
    assert len(without) == len(measured)
    assert codec.read_figures(without) is None
    assert codec.read_figures(measured) == MEASURED
    assert codec.write(codec.read(measured)) == without
    assert sections(measured)[b"F"].hex() == "1d0300000c030000160300000000803c0123456789abcdef"


@pytest.mark.parametrize(
    "change",
    [{"n": 0}, {"n": 2**32}, {"correct": 798}, {"correct": -1}, {"baseline_correct": 798}, {"mean_kl": -0.1},
     {"mean_kl": float("nan")}, {"mean_kl": float("inf")}, {"mean_kl": 1e39}, {"dataset": "0123"},
     {"dataset": "g" * 16}, {"n": 797.0}],
    ids=str,
)  # fmt: skip
def test_figures_that_cannot_be_are_not_written(little, change):
    figures = Figures(**{**{name: getattr(MEASURED, name) for name in Figures.__slots__}, **change})
    with pytest.raises(ModelError, match="figures must be"):
        codec.write(compress(little, Recipe()), figures)


@pytest.mark.parametrize(
    "payload",
    ["1d0300000c030000160300000000803c0123456789abcdef00", "1d", "", "0000000000000000000000000000000000000000000000ff",
     "01000000020000000100000000000000" + "00" * 8, "01000000010000000100000000000080" + "00" * 7 + "01",
     "01000000010000000100000000000080bf"[:32] + "00" * 8, "0100000001000000010000000000c07f" + "00" * 8,
     "0100000001000000010000000000807f" + "00" * 8],
)  # fmt: skip
def test_figures_that_no_writer_writes_are_refused(little, payload):
    found = sections(codec.write(compress(little, Recipe())))
    data = frame(found[b"H"], found[b"S"], figures=bytes.fromhex(payload))
    if payload.startswith("01000000010000000100000000000080") and not payload.endswith("bf"):
        assert codec.read_figures(data).mean_kl == 0
        return
    with pytest.raises(ArtefactError, match="figures"):
        codec.read(data)
    with pytest.raises(ArtefactError, match="figures"):
        codec.read_figures(data)


@pytest.mark.parametrize(("values", "streams", "padding"), [
    (0, 0, 0), (2**16, 0, 0), (2**16 + 1, 0, 1), (2**16 + 1, 1, 0), (2**16 + 4096, 0, 1), (2**16 + 4097, 0, 2),
    (100_000_000, 10, 24389),
])  # fmt: skip
def test_padding_is_what_the_values_need(values, streams, padding):
    assert container.padding_length(values, streams) == padding


def test_sections_in_another_order_are_refused(little):
    data = codec.write(compress(little, Recipe()))
    found = sections(data)
    starts = {name: data.index(name + len(part).to_bytes(4, "little")) for name, part in found.items()}
    parts = {name: data[starts[name] :][: 9 + len(part)] for name, part in found.items()}
    assert data == data[:10] + parts[b"H"] + parts[b"F"] + parts[b"S"]
    for order in (b"HSF", b"FHS", b"HS", b"HF", b"HFSS", b"HFFS", b"HFSH", b"SFH", b""):
        shuffled = data[:10] + b"".join(parts[bytes([name])] for name in order)
        with pytest.raises(ArtefactError):
            codec.read(shuffled)


def test_the_specification_lists_the_dictionary_and_the_tables():
    listed = re.search(r"## 9.*?```\n(.*?)\n```", SPECIFICATION, re.DOTALL)[1]
    assert listed.replace("\n", "").encode() == DICTIONARY == reader.DICTIONARY
    assert f"these {len(DICTIONARY):,} bytes" in SPECIFICATION
    mantissas = re.findall(r"[0-9A-F]{6}", re.search(r"## 5.*?## 6", SPECIFICATION, re.DOTALL)[0])
    assert [int(text, 16) for text in mantissas] == MANTISSAS.tolist() == reader.MANTISSAS.tolist()
    assert f"{LEAST} to {GREATEST}, or {ZERO}" in SPECIFICATION
    rows = [re.search(rf"\| k {parity} \| (.*) \|", SPECIFICATION)[1].split(" | ") for parity in ("even", "odd")]
    assert [(int(even), int(odd)) for even, odd in zip(*rows, strict=True)] == list(NEXT)


def test_the_dictionary_makes_headers_smaller(little):
    """A small model saves at least 100 bytes by it; there it counts."""
    import zlib

    data = codec.write(compress(little, Recipe.of(bits=8)))
    packed = sections(data)[b"H"]
    text = zlib.decompressobj(-15, zdict=DICTIONARY).decompress(packed)
    assert len(zlib.compress(text, 9)) - len(packed) > 100


def test_scales_that_are_powers_are_stored_as_steps(assemble):
    codes = np.random.default_rng(0).integers(-7, 8, (64, 9)).astype(np.int8)
    powers = np.float32(2.0 ** (np.arange(-40, 24) / 32))
    other = powers * np.float32(1.001)
    sizes = []
    for scale in (powers, other):
        model = assemble({"w": Integers(codes, scale, 4)})
        data = codec.write(model)
        assert codec.read(data).weights["w"].scale.tobytes() == scale.tobytes()
        sizes.append(len(data))
    assert sizes[0] < sizes[1] - 64
