"""The standalone reader, written from the specification: it must find in every file what the program finds."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from framing import sections
from paretoscope import codec
from paretoscope.codec import lanes, reader, streams
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.trellis import NEXT
from paretoscope.recipe.recipe import CODERS, Recipe
from samples import packed

SCRIPT = Path(reader.__file__)


def assert_reads_the_same(model: CompressedModel) -> None:
    found = reader.read(codec.write(model))
    assert list(found) == list(model.order)
    for name, array in found.items():
        expected = model.decode(name)
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape), name
        assert array.tobytes() == expected.tobytes(), name


def test_it_depends_on_numpy_and_constriction_alone():
    tree = ast.parse(SCRIPT.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    outside = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert outside == {"numpy", "constriction"}


def test_its_trellis_is_ours():
    assert reader.TRELLIS == NEXT


@pytest.mark.parametrize("coder", CODERS)
def test_every_kind_as_a_process_of_its_own(tmp_path, coder):
    model = packed(coder)
    file, out = tmp_path / "model.psc", tmp_path / "out.npz"
    file.write_bytes(codec.write(model))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(file), str(out)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with np.load(out, allow_pickle=False) as found:
        assert list(found) == list(model.order)
        for name in model.order:
            assert found[name].dtype == model.decode(name).dtype, name
            assert found[name].shape == model.decode(name).shape, name
            assert found[name].tobytes() == model.decode(name).tobytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("coder", CODERS)
def test_every_corner_of_the_family(assemble, edge_cases, coder):
    assert_reads_the_same(assemble(edge_cases, coder=coder))


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("settings", [{}, {"bits": 8, "symmetric": False}, {"clusters": 200, "sparsity": 0.7}], ids=str)
def test_a_network(little, settings, coder):
    assert_reads_the_same(compress(little, Recipe.of(coder=coder, rest="fp16", **settings)))


def test_equal_code_lengths_are_those_of_the_program():
    for alphabet in range(2, streams.MAX_ALPHABET + 1):
        assert reader.equal_lengths(alphabet) == streams._equal_lengths(alphabet).tolist()


@pytest.mark.parametrize("coder", CODERS)
def test_damage_is_refused(tmp_path, coder):
    data = codec.write(packed(coder))
    header = len(sections(data)[b"H"])
    for position in (0, 9, 12, 20, 40, 19 + header, 60 + header, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(reader.Damaged):
            reader.read(bytes(damaged))
    for shorter in (b"", data[:10], data[:-1], data + b"\0"):
        with pytest.raises(reader.Damaged):
            reader.read(shorter)
    (tmp_path / "bad.psc").write_bytes(data[:-1])
    arguments = [sys.executable, str(SCRIPT), str(tmp_path / "bad.psc"), str(tmp_path / "out.npz")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("coder", ["context", "smallest"])
def test_lanes_are_read(monkeypatch, coder):
    monkeypatch.setattr(lanes, "CODES_PER_LANE", 100)
    monkeypatch.setattr(reader, "CODES_PER_LANE", 100)
    model = packed(coder)
    section = sections(codec.write(model))[b"S"]
    assert section[0] == 1 + sum(int(np.prod(t.shape)) for n, t in model.weights.items() if n != "w4") // 100 > 4
    assert_reads_the_same(model)
