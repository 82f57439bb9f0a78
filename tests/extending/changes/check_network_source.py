"""The origin opens a network by how it is written, which is then a model like any other."""

from pathlib import Path

import paretoscope
import pytest
from paretoscope.cli.main import app
from paretoscope.networks.origins import find_origin
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))


def test_its_networks_are_added_and_evaluated() -> None:
    assert find_origin("mlp:8-6-2").name == "perceptron"
    network = paretoscope.add_network("mine", "mlp:8-6-2")
    assert (network.input_shape, network.outputs) == ((8,), ((2,),))
    assert sum(each.numel() for each in network.load().parameters()) == 8 * 6 + 6 + 6 * 2 + 2
    assert paretoscope.evaluate(paretoscope.compress("mine")).figures.harm == 0
    with pytest.raises(paretoscope.CompressionError, match="they are random"):
        paretoscope.add_network("other", "mlp:8-6-2", weights="mine.safetensors")
    with pytest.raises(paretoscope.CompressionError, match="mlp:INPUTS-WIDTH"):
        paretoscope.add_network("other", "mlp:8")


def test_the_command_line_has_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.psc"
    for command in (["add", "mine", "mlp:20-50-3"], ["compress", "mine", "--bits", "8", "--out", str(file)]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.stderr
    done = CliRunner().invoke(app, ["add", "again", str(file)])
    assert done.exit_code == 0 and done.stdout.startswith("Added again"), done.stderr
