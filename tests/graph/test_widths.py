"""Cuts: a network without some units answers as the whole one does whose units there are zero."""

import copy

import numpy as np
import own_networks
import pytest
import torch
from paretoscope.base.batch import call, head, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.graph.programs import import_module
from paretoscope.graph.widths import Widths
from paretoscope.methods.structured import graph_cut
from paretoscope.model import structure
from torch import nn
from torch.nn import functional as F

CUT = ("residual", "sensor", "text", "unet", "bare", "two", "detector", "regression")


class Shuffled(nn.Module):
    """Channel shuffle, halves, a squeeze, dense connections, groups and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.down, self.up = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.c, self.t = nn.Conv2d(8, 12, 1), nn.ConvTranspose2d(20, 6, 2, 2)
        self.norm, self.slope, self.head = nn.GroupNorm(3, 6), nn.PReLU(6), nn.Linear(6 * 16, 5)

    def forward(self, x):
        x = self.a(x)
        x = torch.cat([x, self.b(F.relu(x))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        left, right = x.chunk(2, 1)
        x = self.slope(self.norm(self.t(torch.cat([left, self.c(right)], 1))))
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


class Heads(nn.Module):
    """Attention as vision transformers have it: one matrix for queries, keys and values, heads in a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.head = nn.Linear(12, 96), nn.Linear(32, 12), nn.Linear(12, 3)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, 32))
        return self.head(x.mean(1))


def module_of(name: str) -> tuple[GraphModule, torch.Tensor]:
    if name in CUT:
        return own_networks.imported(name).module().eval(), head(own_networks.data(name).calibration, 6)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module, x = (Shuffled(), torch.randn(6, 3, 8, 8)) if name == "shuffled" else (Heads(), torch.randn(6, 7, 12))
        return import_module(module.eval(), x[:2]).module().eval(), x


def exact(widths: Widths) -> list:
    """Groups that no layer normalisation sees: it divides by what is left."""
    layers = widths.graph.layers
    return [
        group
        for group in widths.groups()
        if all(layers.get(name.rpartition(".")[0], ("",))[0] != "LayerNorm" for name, _ in group.axes)
    ]


@pytest.mark.parametrize("name", [*CUT, "shuffled", "heads"])
def test_a_cut_network_answers_as_one_with_zeros(name):
    module, x = module_of(name)
    zeroed, widths = copy.deepcopy(module), Widths.of(module.graph)
    groups = exact(widths)
    gone = np.concatenate([group.units[::2][: len(group.units) - 1] for group in groups])
    with torch.no_grad():
        state = zeroed.state_dict()
        for (tensor, axis), labels in widths.axes.items():
            if not tensor.endswith("running_var"):
                index = np.flatnonzero(np.isin(widths.roots[labels], gone))
                state[tensor].index_fill_(axis, torch.from_numpy(index), 0.0)
        before = sum(p.numel() for p in module.parameters())
        graph_cut.cut(module, widths, gone)
        assert sum(p.numel() for p in module.parameters()) < before
        for ours, theirs in zip(tensors_in(call(module, x)), tensors_in(call(zeroed, x)), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", [*CUT, "shuffled", "heads"])
def test_what_is_left_builds_from_its_graph_alone(name):
    module, x = module_of(name)
    graph_cut.remove(module, 0.4, "l2")
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    built = structure.build("nobody knows it", structure.Structure(), shapes, module.graph)
    built.load_state_dict(module.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(tensors_in(call(built, x)), tensors_in(call(module, x)), strict=True):
            assert torch.equal(ours, theirs)


def test_a_graph_is_followed_once():
    module, _ = module_of("residual")
    assert Widths.of(copy.deepcopy(module).graph) is Widths.of(module.graph)
    assert Widths.of(NetworkGraph.from_json(module.graph.to_json())) is not Widths.of(module.graph)
    assert copy.deepcopy(module).origin is module.graph


def test_heads_go_as_a_whole():
    module, _ = module_of("heads")
    widths = Widths.of(module.graph)
    sizes = {group.axes[0][0]: len(group.units) for group in widths.groups()}
    assert sizes["qkv.weight"] == 4
    graph_cut.remove(module, 0.5, "l2")
    assert module.get_submodule("qkv").out_features == 48 and module.get_submodule("proj").in_features == 16


def test_depthwise_and_grouped_convolutions_keep_what_they_are():
    module, _ = module_of("sensor")
    graph_cut.remove(module, 0.5, "l1")
    depthwise = module.get_submodule("body.4")
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == 8
    module, _ = module_of("shuffled")
    graph_cut.remove(module, 0.5, "l1")
    assert module.get_submodule("b").groups == 2 and module.get_submodule("norm").num_channels % 2 == 0


def test_recurrent_networks_stay_as_they_are():
    module = own_networks.imported("lstm").module().eval()
    with pytest.raises(ModelError, match="none"):
        graph_cut.remove(module, 0.5, "l2")


def test_the_least_important_units_go():
    module, _ = module_of("regression")
    with torch.no_grad():
        module.get_submodule("net.0").weight[5:13] = 0.0
    kept = module.get_submodule("net.0").weight[[*range(5), *range(13, 32)]].clone()
    graph_cut.remove(module, 0.25, "l2")
    assert torch.equal(module.get_submodule("net.0").weight, kept)
