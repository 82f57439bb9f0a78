"""Weights are found by what they do, whatever the network calls them."""

import pytest
import torch
from own_networks import MAKERS, imported
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.programs import import_module
from paretoscope.model import weights
from paretoscope.model.kinds import LayerKind
from paretoscope.model.weights import Weight
from torch import nn
from torch.nn import functional as F

PRODUCT, LINEAR, CONVOLUTION, EMBEDDING = (
    LayerKind.PRODUCT, LayerKind.LINEAR, LayerKind.CONVOLUTION, LayerKind.EMBEDDING,
)  # fmt: skip
INDEX = torch.tensor([0, 2, 1, 5])

# The shape of a parameter w, what is made of it with x (n, 5, 4) and t (n, 5), indices up to 5, and what it is.
CASES = {
    # x @ w has its outputs on the second axis of w, F.linear(x, w) on the first.
    "right": ((4, 6), lambda w, x, t: x @ w, Weight(PRODUCT, 1)),
    "right, turned": ((6, 4), lambda w, x, t: x @ w.t(), Weight(PRODUCT)),
    "right, axes exchanged": ((6, 4), lambda w, x, t: x @ w.transpose(0, 1), Weight(PRODUCT)),
    "linear": ((6, 4), lambda w, x, t: F.linear(x, w), Weight(LINEAR)),
    "linear, turned": ((4, 6), lambda w, x, t: F.linear(x, w.t()), Weight(LINEAR, 1)),
    "left": ((6, 4), lambda w, x, t: w @ x.transpose(1, 2), Weight(PRODUCT)),
    "with a sum": ((4, 6), lambda w, x, t: torch.addmm(x[0, 0, 0], x[:, 0], w), Weight(PRODUCT, 1)),
    "einsum": ((4, 6), lambda w, x, t: torch.einsum("nlc,co->nlo", x, w), Weight(PRODUCT, 1)),
    "einsum, first": ((6, 4), lambda w, x, t: torch.einsum("oc,nlc->nlo", w, x), Weight(PRODUCT)),
    "einsum, heads": ((4, 6), lambda w, x, t: torch.einsum("nlc,chd->nlhd", x, w.view(4, 2, 3)), Weight(PRODUCT, 1)),
    # Parts of a weight, as stacked projections are used.
    "halves": ((8, 4), lambda w, x, t: F.linear(x, w[:4]) + F.linear(x, w[4:]), Weight(LINEAR)),
    "chunks": ((8, 4), lambda w, x, t: sum(F.linear(x, each) for each in w.chunk(2)), Weight(LINEAR)),
    "a part": ((4, 6), lambda w, x, t: x @ w.reshape(4, 2, 3)[:, 0], Weight(PRODUCT, 1)),
    # A weight that is scaled before it is used is one.
    "scaled": ((4, 6), lambda w, x, t: x @ (w * 0.5), Weight(PRODUCT, 1)),
    "convolution": ((4, 4, 3), lambda w, x, t: F.conv1d(x.transpose(1, 2), w), Weight(CONVOLUTION)),
    "transposed": ((4, 4, 3), lambda w, x, t: F.conv_transpose1d(x.transpose(1, 2), w), Weight(CONVOLUTION, 1)),
    "grouped": (
        (4, 4, 3),
        lambda w, x, t: F.conv_transpose1d(x.transpose(1, 2), w, None, 1, 0, 0, 2),
        Weight(CONVOLUTION, 2),
    ),
    # Rows that the inputs choose, and rows that do not depend on them.
    "looked up": ((6, 4), lambda w, x, t: F.embedding(t, w), Weight(EMBEDDING)),
    "indexed": ((6, 4), lambda w, x, t: w[t], Weight(EMBEDDING)),
    "places": ((6, 4), lambda w, x, t: w[INDEX], None),
    # What is added, joined or multiplied value by value is the rest; so are vectors.
    "added": ((1, 6, 4), lambda w, x, t: x + w[:, :5], None),
    "scale": ((5, 4), lambda w, x, t: x * w, None),
    "token": ((1, 6, 4), lambda w, x, t: torch.cat([w.expand(x.shape[0], -1, -1), x], 1), None),
    "token, mapped": ((1, 6, 4), lambda w, x, t: w.expand(x.shape[0], -1, -1) @ x.transpose(1, 2), None),
    "vector": ((4,), lambda w, x, t: x @ w, None),
}


class Cases(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape, _, _ in CASES.values())

    def forward(self, x, t):
        made = [use(w, x, t) for w, (_, use, _) in zip(self.w, CASES.values(), strict=True)]
        return x.sum((1, 2)) + sum(each.sum() for each in made)


@pytest.fixture(scope="module")
def cases() -> dict[str, Weight]:
    """Exported at once: that takes a second, however much is in it."""
    module = import_module(Cases().eval(), (torch.randn(2, 5, 4), torch.randint(0, 6, (2, 5)))).module()
    assert isinstance(module, GraphModule)
    return weights.find(module)


@pytest.mark.parametrize("case", CASES)
def test_a_parameter_is_what_it_does(cases, case):
    assert cases.get(f"w.{list(CASES).index(case)}") == CASES[case][2]


def kinds(name: str) -> dict[str, str]:
    return {key: str(weight.kind) for key, weight in weights.find(imported(name).module()).items()}


def test_layers_of_an_imported_network_are_found_by_their_kind():
    assert set(kinds("lstm").values()) == {"recurrent", "linear"} and len(kinds("lstm")) == 2 * 2 * 2 + 1
    assert kinds("sensor") == {
        "body.0.weight": "conv", "body.4.weight": "depthwise conv", "body.6.weight": "conv", "head.weight": "linear",
    }  # fmt: skip
    assert kinds("text")["emb.weight"] == "embedding" and "pos" not in kinds("text")
    assert kinds("text")["enc.layers.1.self_attn.in_proj_weight"] == "linear"
    assert weights.turned(imported("bare").module()) == {"w1": 1, "w2": 1}
    assert weights.turned(imported("unet").module()) == {"up.weight": 1}


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_is_described_once(name):
    module = imported(name).module()
    described = weights.described(module)
    assert list(described) == [key for key, _ in module.named_parameters()]
    weight_bytes = sum(module.get_parameter(key).numel() for key in described if key in weights.names(module))
    assert weight_bytes >= 0.85 * sum(each.numel() for each in module.parameters())


def test_of_other_modules_embeddings_and_recurrent_layers_are_the_rest():
    module = nn.ModuleDict({"table": nn.Embedding(4, 3), "rnn": nn.GRU(3, 2), "out": nn.Linear(2, 2)})
    assert weights.names(module) == {"out.weight"}
    assert set(weights.described(module).values()) == {
        "embeddings", "recurrent layers", "linear layers", "biases and other vectors",
    }  # fmt: skip
