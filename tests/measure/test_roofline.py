import dataclasses

import numpy as np
import own_networks
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.measure.layers import OTHER, layer_table
from paretoscope.measure.roofline import (
    LayerWork,
    estimate,
    layer_work,
    module_work,
    peak_activation_bytes,
    resident_bytes,
)
from paretoscope.measure.subject import Subject
from paretoscope.model.tensors import Integers, Plain
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import tasks
from torch import nn


@dataclasses.dataclass
class Numbers:
    """Hardware of round numbers: 100 operations/s, 1,000 of integers, 10 bytes/s, or 20 for sets below 50 bytes."""

    call_s: float = 7.0

    def peak(self, kind: str, integer: bool) -> float:
        return 1000.0 if integer else 100.0

    def bandwidth_at(self, size: float) -> float:
        return 20.0 if size < 50 else 10.0

    def activation_bandwidth(self, kind: str, size: float) -> float:
        return 1.0 if kind == OTHER else self.bandwidth_at(size)

    def overhead(self, kind: str) -> float:
        return 2.0


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5, bias=False),
    ).eval()


SHAPE = (4, 8, 8)


def plain(module: nn.Module) -> dict[str, Plain]:
    names = [name for name, tensor in module.named_parameters() if tensor.ndim > 1]
    return {name: Plain(module.get_parameter(name).detach().numpy()) for name in names}


def test_work_of_a_network_is_known():
    module = network()
    conv, linear, other = module_work(module, SHAPE, plain(module))
    assert (conv.name, conv.kind, conv.nodes) == ("0.weight", "conv", 1)
    assert conv.macs == 8 * 4 * 4 * 4 * 9
    assert (conv.weights, conv.weight_bytes) == (288, 4 * (288 + 8))
    assert (conv.input_bytes, conv.output_bytes) == (4 * 4 * 64, 4 * 8 * 16)
    assert (linear.name, linear.kind, linear.macs) == ("5.weight", "linear", 32 * 5)
    assert (linear.weight_bytes, linear.input_bytes, linear.output_bytes) == (4 * 160, 4 * 32, 4 * 5)
    # Pooling reads 8 x 4 x 4 values and writes 8 x 2 x 2; flattening moves nothing.
    assert (other.name, other.kind, other.macs, other.nodes) == (OTHER, OTHER, 0, 2)
    assert (other.input_bytes, other.output_bytes) == (4 * 128, 4 * 32)
    assert conv.flops == 2 * conv.macs
    assert conv.bytes == conv.weight_bytes + conv.activation_bytes == 1184 + 1536
    assert conv.intensity == conv.flops / conv.bytes


def test_a_batch_multiplies_all_but_the_weights():
    module = network()
    for one, five in zip(
        module_work(module, SHAPE, plain(module)), module_work(module, SHAPE, plain(module), 5), strict=True
    ):
        assert (five.macs, five.activation_bytes) == (5 * one.macs, 5 * one.activation_bytes)
        assert (five.weight_bytes, five.nodes) == (one.weight_bytes, one.nodes)


def test_integer_layers_have_a_byte_a_weight_and_a_byte_an_activation():
    module = network()
    codes = Integers(np.ones((8, 4, 3, 3), np.int8), np.float32(0.1), 8)
    weights = {**plain(module), "0.weight": codes}
    conv, linear, other = module_work(module, SHAPE, weights, number_format="int8")
    assert conv.integer
    # The bias is an int32.
    assert conv.weight_bytes == 288 + 4 * 8
    assert conv.input_bytes == 4 * 64
    assert not linear.integer
    assert linear.weight_bytes == 4 * 160
    assert not other.integer
    # Without integer kernels the same weights run as floats.
    assert module_work(module, SHAPE, weights) == module_work(module, SHAPE, plain(module))


def test_the_images_of_another_size_are_more_work():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    small, large = (module_work(module, (3, side, side), plain(module)) for side in (8, 16))
    assert large[0].macs == 4 * small[0].macs
    assert large[1] == small[1]
    with pytest.raises(ModelError, match="Choose another size"):
        module_work(network(), (4, 20, 20), plain(network()))


@pytest.mark.parametrize("batch", [0, 1.5, True])
def test_a_batch_must_be_a_number_of_at_least_one(batch):
    with pytest.raises(ModelError, match="batch must be a whole number of at least 1"):
        module_work(network(), SHAPE, plain(network()), batch)


def test_an_unknown_number_format_is_refused():
    with pytest.raises(ModelError, match="must be fp32 or int8; got fp16"):
        module_work(network(), SHAPE, plain(network()), number_format="fp16")


def test_work_of_a_subject_agrees_with_its_table_of_layers(subject):
    compressed = subject.compress(Recipe())
    work = layer_work(subject, compressed)
    assert [(row.name, row.kind, row.macs) for row in layer_table(subject)] == [
        (row.name, row.kind, row.macs) for row in work
    ]
    assert sum(row.weight_bytes for row in work) == 4 * subject.parameters


def test_a_simplified_subject_has_less_work(subject):
    before = layer_work(subject, subject.compress(Recipe()))
    half = subject.compress(Recipe.of(nodes=0.5))
    after = layer_work(subject, half)
    assert [row.name for row in after] == [row.name for row in before]
    assert sum(row.macs for row in after) < 0.6 * sum(row.macs for row in before)
    assert [row.weights for row in after[:-1]] == [int(np.prod(shape)) for shape in _shapes(half)]


def _shapes(compressed) -> list[tuple[int, ...]]:
    return [tensor.shape for tensor in compressed.weights.values()]


def test_integer_work_of_a_subject(subject):
    compressed = subject.compress(Recipe.of(bits=8, activations=8))
    work = layer_work(subject, compressed, batch=2, number_format="int8")
    assert all(row.integer for row in work[:-1])
    assert work[0].weight_bytes == 300 * 784 + 4 * 300
    assert work[0].input_bytes == 2 * 784


LAYERS = [
    LayerWork("a", "conv", macs=500, weights=5, weight_bytes=20, input_bytes=8, output_bytes=12),
    LayerWork("b", "linear", macs=50, weights=20, weight_bytes=80, input_bytes=12, output_bytes=8, integer=True),
    LayerWork(OTHER, OTHER, macs=0, weights=0, weight_bytes=0, input_bytes=4, output_bytes=4, nodes=3),
]


def test_an_estimate_by_hand():
    assert peak_activation_bytes(LAYERS) == 20
    assert resident_bytes(LAYERS) == 120
    found = estimate(LAYERS, Numbers())
    a, b, other = found.layers
    # Weights come at 10 bytes/s, as all are more than 50 bytes; activations, at 20.
    assert (a.compute_s, a.memory_s, a.overhead_s) == pytest.approx((10, 20 / 10 + 20 / 20, 2))
    assert (b.compute_s, b.memory_s, b.overhead_s) == pytest.approx((0.1, 80 / 10 + 20 / 20, 2))
    assert (other.compute_s, other.memory_s, other.overhead_s) == pytest.approx((0, 8 / 1, 6))
    assert [layer.bound for layer in found.layers] == ["compute", "memory", "memory"]
    assert [layer.roof_s for layer in found.layers] == pytest.approx([10, 9, 8])
    assert [layer.seconds for layer in found.layers] == pytest.approx([12, 11, 14])
    assert (found.call_s, found.seconds) == pytest.approx((7, 44))


@pytest.mark.parametrize(("nodes", "bound"), [(1, "memory"), (4, "memory"), (5, "overhead")])
def test_overhead_is_the_bound_where_it_takes_most(nodes, bound):
    (layer,) = estimate([dataclasses.replace(LAYERS[2], nodes=nodes)], Numbers()).layers
    assert layer.bound == bound


def test_nothing_to_do_takes_a_call():
    assert estimate([], Numbers()).seconds == 7
    assert LayerWork("a", "conv", 0, 0, 0, 0, 0).intensity == 0


def test_a_sparse_layer_has_the_work_of_its_nonzeros():
    layer = LayerWork(
        "a", "linear", macs=10_000, weights=10_000, weight_bytes=40_400, input_bytes=400, output_bytes=400
    )
    sparse = layer.sparse(0.05)
    assert (sparse.macs, sparse.weight_bytes) == (500, 400 + 8 * 500)
    assert sparse.activation_bytes == layer.activation_bytes
    assert layer.sparse(1).weight_bytes == 400 + 80_000
    codes = dataclasses.replace(layer, weight_bytes=10_400, integer=True).sparse(0.5)
    assert (codes.weight_bytes, codes.integer) == (400 + 40_000, False)
    with pytest.raises(ModelError, match=r"must be in \[0, 1\]; got 5"):
        layer.sparse(5)


def test_attention_counts_its_products_with_the_rest():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0][:, 0]

    module = Net().eval()
    inner, outer, other = module_work(module, (6, 3, 3), plain(module))
    assert (inner.kind, inner.macs) == ("attention projection", 3 * 9 * 36)
    assert outer.macs == 9 * 36
    assert other.macs == 2 * 81 * 6
    assert other.bytes > 0


def test_a_network_of_several_inputs_has_the_work_of_its_layers():
    data = own_networks.data("two")
    subject = Subject.of(own_networks.network("two"), data, tasks.get("classification")(()))
    rows = {each.name: each for each in layer_work(subject, subject.compress(Recipe()))}
    assert list(rows) == ["a.weight", "c.weight", "o.weight", "other"]
    # A vector of 8 to 16; 3 x 3 from 1 to 8 channels over 12 x 12; 24 to 3.
    assert [each.macs for each in rows.values()] == [8 * 16, 9 * 8 * 144, 24 * 3, 0]
