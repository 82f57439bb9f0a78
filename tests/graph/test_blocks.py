"""Blocks of graphs: found by what they compute, dropped by a change of the graph."""

import own_networks
import pytest
import torch
from paretoscope.base.batch import call, head
from paretoscope.graph.blocks import blocks_of, without
from paretoscope.graph.programs import import_module
from paretoscope.graph.shapes import shapes_of
from paretoscope.model import structure
from torch import nn
from torch.nn import functional as F


def samples(name: str):
    return head(own_networks.data(name).calibration, 5)


def test_blocks_are_called_after_their_layers():
    single, whole = blocks_of(own_networks.imported("residual").graph)
    assert list(single) == ["blocks.0", "blocks.1"] and not whole
    single, whole = blocks_of(own_networks.imported("text").graph)
    assert len(single) == 4 and list(whole) == ["enc.layers.0", "enc.layers.1"]
    assert single.keys() >= {"enc.layers.0.self_attn", "enc.layers.1.self_attn"}


@pytest.mark.parametrize("name", ["lstm", "gru", "sensor", "language", "unet", "bare", "two", "detector", "regression"])
def test_networks_without_residual_sums_have_none(name):
    assert blocks_of(own_networks.imported(name).graph) == ({}, {})


def test_a_dropped_block_is_the_identity():
    module = own_networks.imported("residual").module().eval()
    twin = own_networks.module("residual")
    structure.drop(module, "blocks.0")
    assert structure.blocks(module) == ("blocks.1",)
    assert not any(key.startswith("blocks.0") for key in module.state_dict())
    with torch.no_grad():
        x = samples("residual")
        inner = F.relu(twin.bn(twin.stem(x)))
        expected = twin.head(twin.blocks[1](inner).mean((2, 3)))
        assert torch.allclose(call(module, x), expected, atol=1e-6)


def test_a_block_is_dropped_for_a_while():
    module = own_networks.imported("text").module().eval()
    before = module.graph
    with torch.no_grad():
        whole = call(module, samples("text"))
        with structure.dropped(module, "enc.layers.0.self_attn"):
            assert not torch.allclose(call(module, samples("text")), whole)
        assert torch.equal(call(module, samples("text")), whole) and module.graph is before


def test_several_go_together_unless_one_is_gone():
    module = own_networks.imported("text").module().eval()
    assert structure.several(module) == ("enc.layers.0", "enc.layers.1")
    structure.drop(module, "enc.layers.0.self_attn")
    assert structure.several(module) == ("enc.layers.1",)
    structure.drop(module, "enc.layers.1")
    assert structure.blocks(module) == ("enc.layers.0.linear1",)
    shapes_of(module.graph)


class _Sums(nn.Module):
    """Sums that are no blocks: of two branches, of other shapes, of an input with what has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        y = self.a(x) + self.b(x)
        y = y + self.c(y)
        return y + torch.tanh(y)


def test_other_sums_are_no_blocks():
    graph = import_module(_Sums().eval(), torch.randn(2, 4)).graph
    assert blocks_of(graph) == ({}, {})


def test_what_is_not_negative_needs_no_relu_after_the_block():
    graph = own_networks.imported("residual").graph
    single, _ = blocks_of(graph)
    relus = sum(node.operator == "aten.relu.default" for node in graph.nodes)
    left = without(graph, single["blocks.1"])
    assert sum(node.operator == "aten.relu.default" for node in left.nodes) == relus - 1
