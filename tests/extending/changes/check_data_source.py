"""The source writes samples, which a network is judged on; every network may name them."""

from pathlib import Path

import own_files
import paretoscope
import pytest
from paretoscope.data import library
from paretoscope.data.sources import find_origin


def test_a_network_is_measured_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    assert find_origin("blobs:4x20").name == "blobs"
    program = own_files.write_program(tmp_path / "bare.pt2", "bare")
    network = paretoscope.add_network("bare", str(program), data="blobs:4x20")
    assert network.task == "classification" and len(library.open("bare")) == 800
    record = paretoscope.evaluate(paretoscope.compress(network), network)
    assert record.figures.n == 400 and record.dataset == "bare"
    assert library.add("again", "blobs:4x20").samples.digest == library.open("bare").digest
    with pytest.raises(paretoscope.CompressionError, match="Blobs"):
        library.add("wrong", "blobs:0x20")
