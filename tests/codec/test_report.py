"""What is said of a file is what is in it, and its bytes add up."""

import dataclasses
import json
import math

import numpy as np
import pytest
from framing import sections
from paretoscope import codec
from paretoscope.cli.main import app
from paretoscope.codec.report import report, text
from paretoscope.methods.pipeline import compress
from paretoscope.model.tensors import Integers, Plain
from paretoscope.recipe.recipe import CODERS, Recipe
from typer.testing import CliRunner

MEASURED = codec.Figures(797, 780, 790, 0.015625, "0123456789abcdef")


def assert_adds_up(data: bytes) -> None:
    found = report(data)
    parts = dataclasses.asdict(found.totals)
    assert parts.pop("file") == len(data) == sum(parts.values())
    assert found.totals.codes == sum(row.bytes or 0 for row in found.tensors)
    assert found.totals.codes + found.totals.side == codec.streams_length(data)
    assert found.totals.header == len(sections(data)[b"H"])
    assert min(parts.values()) >= 0


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("settings", [{}, {"bits": 4}, {"sparsity": 0.8, "clusters": 16, "bits": 8}], ids=str)
def test_the_bytes_add_up(little, settings, coder):
    assert_adds_up(codec.write(compress(little, Recipe.of(coder=coder, **settings)), MEASURED))


def test_padding_is_counted(assemble):
    data = codec.write(assemble({"w": Integers(np.zeros((4, 10**6), np.int8), np.ones(4, np.float32), 8)}))
    assert report(data).totals.padding > 900
    assert_adds_up(data)


def test_bits_and_entropy_of_equal_codes_are_known(assemble):
    """All 16 symbols equally often: 4 bits each, whatever the order-0 coder."""
    draw = np.random.default_rng(0)
    codes = draw.permutation(np.repeat(np.arange(-8, 8), 1000)).astype(np.int8).reshape(16, -1)
    weight = Integers(codes, np.ones(16, np.float32), 4, np.zeros(16, np.int8))
    for coder in ("ans", "huffman"):
        (row,) = report(codec.write(assemble({"w": weight}, coder=coder))).tensors
        assert row.entropy == pytest.approx(4)
        assert row.bits == pytest.approx(4, abs=0.01)
        assert row.bytes == pytest.approx(16000 * 4 / 8, abs=16)
        assert row.zeros == 1 / 16


def test_what_is_no_code_has_no_entropy(assemble):
    empty = Integers(np.zeros((2, 0), np.int8), np.ones(2, np.float32), 8)
    model = assemble({"w": Plain(np.ones((2, 2), np.float32)), "e": empty}, {"b": Plain(np.ones(2, np.float32))})
    rows = {row.name: row for row in report(codec.write(model)).tensors}
    assert rows["w"].entropy is None and rows["w"].bits is not None
    assert rows["e"].bits is None and rows["b"].bytes is None


def test_the_terminal_says_the_same(little, tmp_path):
    path = tmp_path / "model.psc"
    path.write_bytes(codec.write(compress(little, Recipe.of(bits=4, sparsity=0.5)), MEASURED))
    found = report(path.read_bytes())
    run = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert json.loads(run.stdout) == json.loads(json.dumps(found.to_dict()))
    assert math.isfinite(json.loads(run.stdout)["tensors"][0]["bits"])
    run = CliRunner().invoke(app, ["inspect", str(path)])
    assert run.stdout.rstrip("\n") == text(found)
    for words in ("little", "50 % sparse, 4 bits", "780 of 797 correct", f"= {found.totals.file:,} bytes", "4.weight"):
        assert words in run.stdout
    run = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert run.exit_code == 1 and "Error" in run.stderr
