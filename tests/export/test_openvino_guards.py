"""OpenVINO's low-precision passes are wrong for some graphs of ours; with guards it computes the integer network."""

import numpy as np
import onnx
import pytest
import torch
from compressed_models import compress_module, noise
from paretoscope.base.libraries import onnxruntime
from paretoscope.data.arrays import ArrayData
from paretoscope.export import Original, openvino, produce
from paretoscope.export.openvino_guards import guarded
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.integer.blueprint import IntegerNetwork, simulate
from paretoscope.runtimes.integer.onnx_int8 import write_int8
from paretoscope.tasks.agreement import Agreement
from torch import nn
from torch.nn import functional as F

INT8 = Recipe.of(bits=8, activations=8)


class Tokens(nn.Module):
    """Patches, a token of its own in front, linear layers over tokens: what a vision transformer does around attention.

    The product of a linear layer is reshaped, the batch is read from the input, and the convolution has a bias.
    """

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.norm = nn.LayerNorm(12)
        self.a, self.b = nn.Linear(12, 20), nn.Linear(20, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = x + self.b(F.gelu(self.a(self.norm(x))))
        return self.head(x[:, 0] + x.mean(1))


class Dense(nn.Module):
    """Maps beside each other that are of unlike sizes: what a DenseNet does."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.c = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        a = F.relu(self.a(x))
        both = torch.cat([a, self.b(a)], 1)
        return self.head(F.relu(self.c(F.relu(self.norm(both)))).mean((2, 3)))


def made(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind().train()
        if isinstance(module, Dense):
            with torch.no_grad():
                module.b.weight.mul_(0.002), module.b.bias.mul_(0.002)
                for _ in range(20):
                    module(torch.randn(64, 3, 16, 16))
        else:
            with torch.no_grad():
                module.patches.bias.mul_(10)
        return module.eval()


def network(kind: type[nn.Module]) -> IntegerNetwork:
    module = made(kind)
    return simulate(module, (3, 16, 16), compress_module(module, INT8).weights, noise(32, 3, 16, 16))


@pytest.mark.parametrize("kind", [Tokens, Dense])
def test_guards_change_no_value(kind: type[nn.Module]) -> None:
    graph = write_int8(network(kind))
    x = noise(4, 3, 16, 16, seed=1)
    plain, careful = (
        onnxruntime.InferenceSession(each).run(None, {"images": x})[0] for each in (graph, guarded(graph))
    )
    np.testing.assert_allclose(careful, plain, rtol=0, atol=0.02 * np.abs(plain).max())
    assert guarded(graph) == guarded(graph)
    kinds = [node.op_type for node in onnx.load_model_from_string(guarded(graph)).graph.node]
    assert "Max" in kinds


def test_a_graph_without_such_places_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    plain = write_int8(simulate(module, (3, 16, 16), compress_module(module, INT8).weights, noise(8, 3, 16, 16)))
    assert all(node.op_type != "Max" for node in onnx.load_model_from_string(guarded(plain)).graph.node)


def original(kind: type[nn.Module]) -> Original:
    from paretoscope.graph.programs import import_module
    from paretoscope.networks.imported import network_of

    imported = import_module(made(kind), torch.randn(2, 3, 16, 16))
    parts = [torch.from_numpy(noise(n, 3, 16, 16, seed=n)) for n in (40, 30, 20)]
    subject = Subject.of(network_of("own", imported.graph, lambda: imported.state), ArrayData.of(*parts), Agreement(()))
    return Original(subject, subject.compress(INT8))


@pytest.mark.skipif(not openvino.OPENVINO_INT8.available(), reason="OpenVINO is not installed")
def test_openvino_computes_the_integer_network() -> None:
    """Without guards its answers have nothing to do with the network's, and it says so of none."""
    given = original(Tokens)
    graph = write_int8(given.network)
    plain = openvino._off(openvino._write(graph, "plain"), given)
    careful = openvino._off(openvino._write(guarded(graph), "careful"), given)
    assert careful < openvino.MEAN < plain
    checked = produce(given.compressed, "openvino-int8", given.subject, original=given)
    assert checked.verification.passed, checked.verification.problem


@pytest.mark.skipif(not openvino.OPENVINO_INT8.available(), reason="OpenVINO is not installed")
def test_a_graph_that_openvino_computes_is_written_without_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    given = original(Dense)
    monkeypatch.setattr(openvino, "guarded", lambda graph: pytest.fail("guards were written"))
    assert openvino._off(openvino._write_int8(given), given) < openvino.MEAN
