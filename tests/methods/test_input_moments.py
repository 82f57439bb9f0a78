"""Second moments of inputs beyond layers: products, views of weights, recurrent layers, networks of several inputs."""

import numpy as np
import pytest
import torch
from own_networks import data, imported
from paretoscope.base.batch import head
from paretoscope.methods import input_moments
from paretoscope.methods.input_moments import hessians, products
from paretoscope.methods.unrolled import inputs_of
from paretoscope.model import weights
from torch import nn
from torch.nn import functional as F


def moments(rows: torch.Tensor) -> np.ndarray:
    rows = rows.reshape(-1, rows.shape[-1]).double()
    return (rows.T @ rows / len(rows)).numpy()


class Uses(nn.Module):
    """One parameter and one function of it and of x."""

    def __init__(self, shape, use) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self._use = nn.Parameter(torch.randn(shape)), use

    def forward(self, x):
        return self._use(self.weight, x)


X = torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "turned", "use"),
    [
        ((4, 6), True, lambda w, x: x @ w),
        ((6, 4), False, lambda w, x: x @ w.t()),
        ((6, 4), False, lambda w, x: w @ x.mT),
        ((4, 6), True, lambda w, x: torch.addmm(torch.zeros(6), x.reshape(-1, 4), w)),
        ((4, 6), True, lambda w, x: torch.einsum("nlc,co->nlo", x, w)),
        ((4, 6), True, lambda w, x: torch.einsum("nlc,chd->nlhd", x, w.view(4, 2, 3))),
        ((4, 6), True, lambda w, x: F.linear(x, w.t())),
        ((6, 4), False, lambda w, x: F.linear(x, w[:3]) + F.linear(x, w[3:])),
        ((6, 4), False, lambda w, x: sum(F.linear(x, each) for each in w.chunk(3))),
    ],
)
def test_products_and_views_have_the_moments_of_their_inputs(monkeypatch, shape, turned, use):
    monkeypatch.setattr(weights, "turned", lambda module: {"weight": 1} if turned else {})
    found = hessians(Uses(shape, use), X, ["weight"])["weight"]
    assert found.shape == (1, 4, 4)
    np.testing.assert_allclose(found[0], moments(X), rtol=1e-5)


def test_parts_of_a_weight_with_inputs_of_their_own_have_moments_of_their_own():
    """As attention to others: the first third sees one input, the others another."""

    def use(w, x):
        return F.linear(x, w[:2]) + F.linear(3 * x[:, :2], w[2:]).sum()

    found = hessians(Uses((6, 4), use), X, ["weight"])["weight"]
    assert found.shape == (3, 4, 4)
    for group, inputs in zip(found, (X, 3 * X[:, :2], 3 * X[:, :2]), strict=True):
        np.testing.assert_allclose(group, moments(inputs), rtol=1e-5)


def test_a_view_that_leaves_out_columns_is_not_taken_for_inputs(monkeypatch):
    """It has its outputs in order, and only the first and the third of the inputs."""
    monkeypatch.setattr(weights, "turned", lambda module: {"weight": 1})
    found = hessians(Uses((4, 4), lambda w, x: x[..., :2] @ w.view(2, 8)[:, :4]), X, ["weight"])["weight"]
    assert not found.any()


CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_layers_agree_with_cells_step_by_step(kind, batch_first):
    torch.manual_seed(2)
    layer = KINDS[kind](4, 3, num_layers=2, bidirectional=True, batch_first=batch_first).eval()
    start = torch.randn(4, 7, 3)
    state = (start, torch.randn(4, 7, 3)) if kind == "lstm" else start
    before = torch.get_rng_state()
    with torch.no_grad():
        found = dict(inputs_of(layer, X if batch_first else X.transpose(0, 1), state))
        assert torch.equal(before, torch.get_rng_state())
        inputs = X
        for number in range(2):
            outputs = []
            for direction, suffix in enumerate(("", "_reverse")):
                cell = CELLS[kind](inputs.shape[2], 3)
                for leaf, tensor in cell.named_parameters():
                    tensor.copy_(layer.get_parameter(f"{leaf}_l{number}{suffix}"))
                place = 2 * number + direction
                h = (start[place], state[1][place]) if kind == "lstm" else start[place]
                steps, seen = {}, {}
                for t in reversed(range(5)) if direction else range(5):
                    seen[t] = h[0] if kind == "lstm" else h
                    h = cell(inputs[:, t], h)
                    steps[t] = h[0] if kind == "lstm" else h
                outputs.append(torch.stack([steps[t] for t in range(5)], 1))
                torch.testing.assert_close(found[f"weight_ih_l{number}{suffix}"], inputs)
                torch.testing.assert_close(
                    found[f"weight_hh_l{number}{suffix}"], torch.stack([seen[t] for t in range(5)], 1)
                )
            inputs = torch.cat(outputs, 2)


def test_a_network_of_several_inputs_and_one_with_a_table():
    batch = head(data("two").calibration, 6)
    module = imported("two").module()
    found = hessians(module, batch, weights.names(module))
    np.testing.assert_allclose(found["a.weight"][0], moments(batch[0]), rtol=1e-5)
    text = imported("text").module()
    # Rows of a table are looked up: nothing is multiplied with them.
    assert set(hessians(text, head(data("text").calibration, 4), weights.names(text))) == (
        weights.names(text) - {"emb.weight"}
    )


@pytest.mark.parametrize("size", [6, 7, 8, 13])
def test_large_products_are_those_of_all_columns(monkeypatch, size):
    """Blocks whose last is shorter, against the plain product; integers, so that no order of sums matters."""
    monkeypatch.setattr(input_moments, "MIRRORED", 7)
    monkeypatch.setattr(input_moments, "ROWS", 3)
    columns = torch.randint(-9, 10, (2, size, 31), generator=torch.Generator().manual_seed(size)).float()
    assert torch.equal(products(columns), columns @ columns.mT)


def test_large_products_are_those_of_all_columns_within_rounding():
    columns = torch.rand(1, input_moments.MIRRORED + 300, 200, generator=torch.Generator().manual_seed(0))
    found, exact = products(columns), columns.double() @ columns.double().mT
    assert torch.equal(found, found.mT)
    assert torch.allclose(found.double(), exact, rtol=1e-5)
