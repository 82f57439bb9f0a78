import pytest
import torch
from data_sources import Input
from paretoscope.base.batch import length, parts
from paretoscope.base.errors import DataError
from paretoscope.data import drawn as module
from paretoscope.data.data import Part
from paretoscope.data.drawn import drawn

INPUTS = [Input("x", (500,)), Input("tokens", (40,), "int64"), Input("mask", (40,), "bool")]


def test_they_are_marked_and_fit_the_inputs() -> None:
    data = drawn(INPUTS, 50, below=(1, 7, 1))
    assert data.drawn and not data.labelled and list(data.labels(Part.TEST)) == []
    for part in Part:
        floats, tokens, mask = parts(next(iter(data.samples(part, 1000))))
        assert (floats.shape, tokens.shape, mask.dtype) == ((50, 500), (50, 40), torch.bool)
        assert abs(float(floats.mean())) < 0.05 and abs(float(floats.std()) - 1) < 0.05
        assert tokens.dtype == torch.int64 and tokens.unique().tolist() == list(range(7))
        assert 0.4 < float(mask.float().mean()) < 0.6
    assert length(data.calibration) == 50


def test_a_seed_draws_the_same_and_both_parts_differ() -> None:
    first, again, other = drawn(INPUTS, 5), drawn(INPUTS, 5), drawn(INPUTS, 5, seed=1)
    assert first.digest == again.digest != other.digest
    assert not torch.equal(parts(first.train)[0], parts(first.test)[0])
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    drawn(INPUTS, 5)
    assert torch.equal(torch.rand(1), before)


def test_small_types_hold_what_is_drawn() -> None:
    (found,) = parts(next(iter(drawn([Input("x", (4000,), "uint8")], 2, below=100_000).samples(Part.TEST))))
    assert found.dtype == torch.uint8 and int(found.max()) > 200


def test_large_inputs_get_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 4000)
    assert drawn([Input("x", (100,))], 64).length(Part.TEST) == 10
    assert drawn([Input("x", (10_000,))], 64).length(Part.TEST) == 1


def test_a_mask_whose_bound_is_none_hides_nothing() -> None:
    data = drawn(INPUTS, 5, below=(1, 7, 0))
    assert bool(parts(data.train)[2].all()) and parts(data.train)[2].dtype == torch.bool


@pytest.mark.parametrize(("n", "below"), [(0, 256), (5, -1), (5, (1, 2))])
def test_nothing_can_be_drawn_of_nothing(n: int, below: int | tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="drawn"):
        drawn(INPUTS, n, below=below)
