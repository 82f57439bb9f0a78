"""Folding, merging and factoring in imported networks: the graph is changed, the answers are not."""

import own_networks
import pytest
import torch
from paretoscope.base.batch import call, head
from paretoscope.graph.programs import import_module
from paretoscope.methods import fold, lowrank
from paretoscope.model import structure
from torch import nn


def rebuilt(module):
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    made = structure.build("nobody knows it", structure.Structure(), shapes, module.graph)
    made.load_state_dict(module.state_dict())
    return made


@pytest.mark.parametrize(("name", "count"), [("residual", 3), ("sensor", 1), ("unet", 3)])
def test_normalisation_is_folded(name, count):
    module, samples = own_networks.imported(name).module().eval(), head(own_networks.data(name).calibration, 5)
    with torch.no_grad():
        before = call(module, samples)
        assert len(fold.fold(module)) == count
        assert torch.allclose(call(module, samples), before, atol=1e-5)
        assert torch.equal(call(rebuilt(module), samples), call(module, samples))
    assert not any(kind.startswith("BatchNorm") for kind, _ in module.graph.layers.values())


def layers() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    return {
        "Linear": (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), torch.randn(5, 4)),
        "Conv3d": (nn.Sequential(nn.Conv3d(2, 6, 3, groups=2), nn.BatchNorm3d(6)), torch.randn(5, 2, 4, 4, 4)),
        "grouped": (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), torch.randn(5, 4, 4, 4)),
        "ConvTranspose1d": (nn.Sequential(nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6)), torch.randn(5, 4, 6)),
    }


@pytest.mark.parametrize("name", ["Linear", "Conv3d", "grouped", "ConvTranspose1d"])
def test_every_kind_of_layer_takes_its_normalisation(name):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        network, x = layers()[name]
        for _ in range(5):
            network.train()(x)
        network[1].weight.uniform_(0.5, 2)
        network[1].bias.uniform_(-1, 1)
        module = import_module(network.eval(), x[:2]).module().eval()
        before = module(x)
        assert fold.fold(module) == (("0", "1"),)
        assert torch.allclose(module(x), before, atol=1e-5) and torch.equal(rebuilt(module)(x), module(x))


def test_linear_maps_are_merged_and_factored():
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        network = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8))
        network[3].weight.copy_(torch.outer(torch.randn(8), torch.randn(8)))
        x = torch.randn(5, 6)
        module = import_module(network.eval(), x[:2]).module().eval()
        before = module(x)
        assert fold.merge(module)[0] == ()  # two thin layers are fewer weights
        assert lowrank.factor(module, 1 - 1e-9)[0] == (("3", 1),)
        assert torch.allclose(module(x), before, atol=1e-5) and torch.equal(rebuilt(module)(x), module(x))
        assert set(module.state_dict()) >= {"3.0.weight", "3.1.weight", "3.1.bias"}
        wide = import_module(nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4)).eval(), x[:2]).module().eval()
        before = wide(x)
        assert fold.merge(wide)[0] == (("0", "1"),)
        assert torch.allclose(wide(x), before, atol=1e-5) and list(wide.state_dict()) == ["0.weight", "0.bias"]
