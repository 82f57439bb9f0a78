"""The files are written, run again and checked; those that are wrong are not given away."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import paretoscope
import pytest
from paretoscope.cli.main import app
from paretoscope.export import formats
from typer.testing import CliRunner

NAME = "lenet-300-100"


def test_it_is_written_run_and_verified(tmp_path: Path) -> None:
    small = paretoscope.compress(NAME, paretoscope.Recipe.of(sparsity=0.5))
    checked = paretoscope.convert(small, "npz", tmp_path / "small.npz")
    assert checked.passed and (checked.n, checked.differing, checked.largest) == (797, 0, 0)
    with np.load(tmp_path / "small.npz") as arrays:
        assert set(arrays.files) == set(small.order)
        assert (arrays["fc1.weight"] == small.decode("fc1.weight")).all()


def test_wrong_files_are_not_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz = formats.get("npz")
    monkeypatch.setitem(formats._added, "npz", replace(npz, write=lambda original: {"a.npz": b"nothing"}))
    with pytest.raises(paretoscope.CompressionError, match="npz failed its check"):
        paretoscope.convert(paretoscope.compress(NAME, "int8"), "npz", tmp_path / "small.npz")
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "small.npz"
    done = CliRunner().invoke(app, ["export", NAME, "--bits", "8", "--format", "npz", "--out", str(file)])
    assert done.exit_code == 0 and "npz" in done.stdout and file.exists()
