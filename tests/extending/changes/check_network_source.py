"""The source opens a network, which is evaluated, saved and read again by its name."""

from pathlib import Path

import paretoscope
import pytest
import torch
from paretoscope.cli.main import app
from paretoscope.networks import sources
from typer.testing import CliRunner

NAME = "lenet-300-100-untrained"


def test_its_networks_are_opened_and_evaluated(tmp_path: Path) -> None:
    assert sources.sources.names() == ("zoo", "untrained")
    network = paretoscope.open_network(NAME)
    one, other = network.load().state_dict(), network.load().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    record = paretoscope.evaluate(paretoscope.compress(NAME, "int8"))
    assert record.model == NAME and record.baseline.value < 0.3
    with pytest.raises(paretoscope.CompressionError, match="got 'lenet-6-untrained'"):
        paretoscope.open_network("lenet-6-untrained")


def test_the_command_line_has_them(tmp_path: Path) -> None:
    file = tmp_path / "untrained.psc"
    done = CliRunner().invoke(app, ["compress", NAME, "--bits", "8", "--out", str(file)])
    assert done.exit_code == 0, done.stderr
    done = CliRunner().invoke(app, ["evaluate", str(file), "--runtime", "none"])
    assert done.exit_code == 0 and done.stdout.startswith(f"{NAME} on digits: 8 bits")
