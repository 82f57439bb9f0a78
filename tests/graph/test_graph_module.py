"""A graph as a module: whoever replaces a part of it is heard, copies stand alone, values are let go of."""

import copy
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import own_networks
import pytest
import torch
from paretoscope.base.batch import call, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import GraphInput, NetworkGraph, Node, TensorSpec, Value
from torch import nn


def network(name: str) -> GraphModule:
    return own_networks.imported(name).module()


def sample(name: str, n: int = 3):
    return own_networks._drawn(name, n, seed=9)


def outputs(module: nn.Module, batch) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(tensors_in(call(module, batch)))


def test_a_replaced_layer_is_called() -> None:
    module, x = network("residual"), sample("residual")
    module.set_submodule("blocks.0.bn", nn.Identity())
    wanted = copy.deepcopy(own_networks.module("residual"))
    wanted.blocks[0].bn = nn.Identity()
    torch.testing.assert_close(outputs(module, x), outputs(wanted, x))


def test_a_replaced_parent_is_called() -> None:
    module, other, x = network("residual"), network("residual"), sample("residual")
    outputs(module, x)
    with torch.no_grad():
        other.get_submodule("blocks.0.a").weight.zero_()
    module.set_submodule("blocks.0", other.get_submodule("blocks.0"))
    torch.testing.assert_close(outputs(module, x), outputs(other, x))


def test_a_replaced_parameter_is_used() -> None:
    module, x = network("bare"), sample("bare")
    before = outputs(module, x)
    module._parameters["w2"] = nn.Parameter(2 * module.w2.detach())
    torch.testing.assert_close(outputs(module, x)[0], 2 * before[0])


def test_a_copy_stands_alone_and_shares_the_graph() -> None:
    module, x = network("language"), sample("language")
    before = outputs(module, x)
    other = copy.deepcopy(module)
    assert other.graph is module.graph and other.out.weight is other.emb.weight is not module.emb.weight
    with torch.no_grad():
        other.emb.weight.zero_()
    assert torch.equal(outputs(module, x)[0], before[0]) and not outputs(other, x)[0].any()


def test_a_state_dict_of_other_values_is_loaded_and_meta_takes_no_values() -> None:
    module, x = network("sensor"), sample("sensor")
    state = {name: torch.zeros_like(tensor) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state)
    assert not outputs(module, x)[0].any()
    assert outputs(module.to("meta"), x.to("meta"))[0].shape == (3, 4)


def test_ties_stay_ties() -> None:
    module = network("language")
    assert module.out.weight is module.emb.weight
    assert len(list(module.parameters())) == len(list(own_networks.module("language").parameters()))


def test_threads_do_not_see_each_other() -> None:
    module = network("two")
    batches = [own_networks._drawn("two", 2, seed=i) for i in range(12)]
    wanted = [outputs(module, each)[0] for each in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: outputs(module, each)[0], batches))
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_training_is_that_of_its_layers() -> None:
    module, x = network("residual"), sample("residual", 8)
    mean = module.bn.running_mean.clone()
    module.train()(x)
    assert not torch.equal(module.bn.running_mean, mean)
    module.eval()
    assert torch.equal(outputs(module, x)[0], outputs(module, x)[0])


def test_values_die_after_their_last_reader() -> None:
    alive: list[weakref.ref] = []
    most = 0

    class Watched(nn.Module):
        def forward(self, x):
            nonlocal most
            made = x + 1
            alive.append(weakref.ref(made))
            gc.collect()
            most = max(most, sum(each() is not None for each in alive))
            return made

    nodes = [Node("v0", "layer:l0", (Value("x"),))]
    nodes += [Node(f"v{i}", f"layer:l{i}", (Value(f"v{i - 1}"),)) for i in range(1, 6)]
    kinds = {f"l{i}": ("Linear", {"in_features": 2, "out_features": 2, "bias": False}) for i in range(6)}
    module = GraphModule(NetworkGraph((GraphInput("x", (2,)),), tuple(nodes), Value("v5"), kinds, {}))
    for i in range(6):
        module.set_submodule(f"l{i}", Watched())
    assert torch.equal(module(torch.zeros(1, 2)), torch.full((1, 2), 6.0))
    assert most == 2  # what a node reads and what it gives


def test_several_outputs_are_a_tuple_and_inputs_are_counted() -> None:
    assert isinstance(network("detector")(sample("detector")), tuple)
    with pytest.raises(ModelError, match="takes 2 inputs; got 1"):
        network("two")(torch.zeros(1, 8))


def test_names_of_a_modules_own_parts_are_refused() -> None:
    graph = NetworkGraph((GraphInput("x", (2,)),), (), Value("x"), {}, {"forward": TensorSpec("buffer", (1,))})
    with pytest.raises(ModelError, match="forward"):
        GraphModule(graph)
