"""The graph as data: its JSON comes back as it was, and hostile JSON is refused in one message."""

import json
import random

import own_networks
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import NetworkGraph, Value, named_inputs


@pytest.mark.parametrize("name", own_networks.MAKERS)
def test_a_graph_comes_back_as_it_was(name: str) -> None:
    graph = own_networks.imported(name).graph
    again = NetworkGraph.from_json(graph.to_json())
    assert again == graph and again.to_json() == graph.to_json()


def changed(name: str, change) -> str:
    data = json.loads(own_networks.imported(name).graph.to_json())
    change(data)
    return json.dumps(data)


def _node(data, *args, operator="aten.relu.default", name="new"):
    data["nodes"].append([name, operator, [*args], {}])


HOSTILE = {
    "an operator": (lambda d: _node(d, operator="os.system"), r"os\.system"),
    "an unknown value": (lambda d: _node(d, {"value": "nowhere"}), "nowhere"),
    "an unknown tensor": (lambda d: _node(d, {"tensor": "nowhere.weight"}), "nowhere"),
    "a method of a layer": (lambda d: _node(d, {"tensor": "net.0.forward"}), r"net\.0\.forward"),
    "a name twice": (lambda d: d["nodes"].append(d["nodes"][0]), "twice"),
    "a cycle": (lambda d: d["nodes"].reverse(), "made before"),
    "a name with a call": (lambda d: _node(d, name="x()"), "letters"),
    "a path with a step up": (lambda d: d["layers"].update({"..": d["layers"]["net.0"]}), "letters"),
    "memory by numbers": (lambda d: _node(d, [2**20, 2**20], operator="aten.zeros.default"), "at most"),
    "a giant input": (lambda d: d["inputs"][0].update(shape=[2**40]), "axes"),
    "a negative axis": (lambda d: d["inputs"][0].update(shape=[-1]), "axes"),
    "a type": (lambda d: d["inputs"][0].update(dtype="object"), "object"),
    "a layer as large as memory": (
        lambda d: d["layers"].update(
            {"net.9": ["Linear", {"in_features": 2**24, "out_features": 2**24, "bias": True}]}
        ),
        "numbers",
    ),
    "no list": (lambda d: d.update(nodes={"a": 1}), "parts"),
    "another version": (lambda d: d.update(version=99), "version"),
    "a part less": (lambda d: d.pop("layers"), "parts"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_graphs_are_refused(what: str) -> None:
    change, said = HOSTILE[what]
    with pytest.raises(ModelError, match=said):
        NetworkGraph.from_json(changed("regression", change))


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"version": 1}', "\x00"])
def test_what_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        NetworkGraph.from_json(text)


VALUES = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**400,
    0.5,
    float("nan"),
    "",
    "x",
    "layer:net.0",
    [],
    {},
    [[]],
    {"value": 3},
)


def test_changed_graphs_are_read_or_refused() -> None:
    """Places changed at random in the JSON of two networks; whatever is read is a graph that is written again."""
    draw, read = random.Random(5), 0
    texts = [own_networks.imported(name).graph.to_json() for name in ("regression", "lstm")]
    for _ in range(600):
        data = json.loads(draw.choice(texts))
        node = data
        while True:
            key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
            if not isinstance(node[key], (dict, list)) or not node[key] or draw.random() < 0.2:
                break
            node = node[key]
        node[key] = draw.choice(VALUES)
        try:
            again = NetworkGraph.from_json(json.dumps(data))
            with torch.device("meta"):
                GraphModule(again)
        except ModelError as error:
            assert 20 < len(str(error)) < 1000
        else:
            read += 1
            assert NetworkGraph.from_json(again.to_json()).to_json() == again.to_json()
    assert 0 < read < 500


def test_inputs_are_named_as_a_file_names_them() -> None:
    graph = named_inputs(own_networks.imported("two").graph, ["image:0", "1"])
    assert [each.name for each in graph.inputs] == ["image_0", "input_1"]
    graph.check()
    assert any(Value("image_0") in node.args for node in graph.nodes)
