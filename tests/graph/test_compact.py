"""Graphs as plain data of few bytes: what is left out is told by the tensors."""

import json

import own_networks
import pytest
import torch
from paretoscope.base.batch import call, head, tensors_in
from paretoscope.graph import compact
from paretoscope.graph.graph_module import GraphModule


@pytest.mark.parametrize("name", tuple(own_networks.MAKERS))
def test_a_graph_is_read_back_but_for_the_names_of_its_values(name):
    found = own_networks.imported(name)
    module = found.module().eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    data = compact.packed(found.graph, shapes)
    back = compact.unpacked(json.loads(json.dumps(data)), shapes, found.graph.ties)
    assert (back.layers, back.tensors, back.inputs) == (found.graph.layers, found.graph.tensors, found.graph.inputs)
    assert [node.operator for node in back.nodes] == [node.operator for node in found.graph.nodes]
    assert compact.packed(back, shapes) == data
    other = GraphModule(back).eval()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        samples = head(own_networks.data(name).calibration, 4)
        pairs = zip(tensors_in(call(other, samples)), tensors_in(call(module, samples)), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
