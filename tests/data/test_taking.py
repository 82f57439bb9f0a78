"""Single samples are those of the split by their numbers, wherever they come from."""

import numpy as np
import pytest
import torch
from paretoscope.base.batch import parts
from paretoscope.data import library
from paretoscope.data.data import Data, Part
from paretoscope.data.dataset import load_data
from paretoscope.data.drawn import drawn
from paretoscope.data.prepared import prepare
from paretoscope.data.taking import taken
from paretoscope.networks.network import Input


def of_library(tmp_path) -> Data:
    values = np.random.default_rng(0).normal(size=(40, 3, 4)).astype(np.float32)
    np.savez(tmp_path / "set.npz", x=values, y=np.arange(40) % 2)
    return prepare(library.add("mine", str(tmp_path / "set.npz")).samples, [Input("x", (3, 4))])


def of_zoo(tmp_path) -> Data:
    return load_data("digits", (1, 8, 8))


def of_two_inputs(tmp_path) -> Data:
    return drawn([Input("a", (2,)), Input("b", (3,), "int64")], 12)


@pytest.mark.parametrize("make", [of_library, of_zoo, of_two_inputs])
def test_samples_by_their_numbers(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    data = make(tmp_path)
    n = data.length(Part.TEST)
    places = [n - 1, 0, n // 2, 0]
    found = parts(taken(data, Part.TEST, places))
    whole = [torch.cat(each) for each in zip(*(parts(chunk) for chunk in data.samples(Part.TEST)), strict=True)]
    for one, all_of_it in zip(found, whole, strict=True):
        assert torch.equal(one, all_of_it[places])
