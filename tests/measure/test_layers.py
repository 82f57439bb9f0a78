import json

import own_networks
import pytest
import torch
from paretoscope import codec
from paretoscope.measure.layers import OTHER, count_macs, layer_kinds, layer_table, layer_times
from paretoscope.model import weights
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from torch import nn


def test_the_table_adds_up(subject):
    rows = layer_table(subject)
    assert [row.name for row in rows] == [*subject.statistics.layers, OTHER]
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in subject.model.parameters())
    assert sum(row.bytes for row in rows) == len(codec.write(subject.compress(Recipe())))
    assert sum(row.size_share for row in rows) == pytest.approx(1)
    assert sum(row.time_share for row in rows) == pytest.approx(1)
    assert all(row.time_share > 0 for row in rows[:-1])
    assert json.loads(json.dumps([row.to_dict() for row in rows]))[0]["kind"] == "linear"


def test_the_table_of_a_fully_connected_net_is_known(subject):
    first, *_, last = layer_table(subject)
    assert (first.name, first.kind, first.shape) == ("fc1.weight", "linear", (300, 784))
    assert first.parameters == first.macs == 300 * 784
    assert (last.kind, last.parameters, last.macs) == (OTHER, 410, 0)


def test_sizes_are_those_of_the_compressed_model(subject):
    dense, sparse = layer_table(subject), layer_table(subject, subject.compress(Recipe.of(bits=4)))
    assert all(small.bytes < large.bytes / 5 for small, large in zip(sparse[:-1], dense[:-1], strict=True))
    assert [row.macs for row in sparse] == [row.macs for row in dense]


def test_macs_of_convolutions():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()
    assert count_macs(net, torch.zeros(1, 4, 10, 10)) == {
        "0.weight": 8 * 5 * 5 * 4 * 3 * 3,
        "1.weight": 8 * 5 * 5 * 3 * 3,
        "4.weight": 5 * 8,
    }


class Attention(nn.Module):
    def __init__(self, separate: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, kdim=4 if separate else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        key = tokens[..., :4] if self.attention.in_proj_weight is None else tokens
        return self.attention(tokens, key, tokens, need_weights=False)[0].mean(1)


def test_macs_of_attention():
    tokens, width = 9, 6
    macs = count_macs(Attention(separate=False).eval(), torch.zeros(1, width, 3, 3))
    assert macs == {
        "attention.in_proj_weight": 3 * tokens * width * width,
        "attention.out_proj.weight": tokens * width * width,
        OTHER: 2 * tokens * tokens * width,
    }


def test_macs_of_attention_with_projections_of_their_own():
    tokens, width = 9, 6
    macs = count_macs(Attention(separate=True).eval(), torch.zeros(1, width, 3, 3))
    assert macs == {
        "attention.q_proj_weight": tokens * width * width,
        "attention.k_proj_weight": tokens * width * 4,
        "attention.v_proj_weight": tokens * width * width,
        "attention.out_proj.weight": tokens * width * width,
        OTHER: 2 * tokens * tokens * width,
    }


@pytest.mark.parametrize("name", zoo.models_of("digits"))
def test_every_layer_of_the_zoo_has_a_kind_computation_and_time(name):
    model = zoo.build(name)
    found = [each for each in model.state_dict() if each in weights.names(model)]
    image = torch.zeros(1, *zoo.models.get(name).input_shape)
    kinds, macs = layer_kinds(model), count_macs(model, image)
    times = layer_times(model, found, image, runs=4)
    assert set(found) <= set(kinds)
    assert set(found) == set(macs) - {OTHER}
    assert set(times) == {*found, OTHER}
    assert all(times[weight] > 0 for weight in found)


def test_kinds_tell_depthwise_convolutions_and_attention_apart():
    assert layer_kinds(zoo.build("mobilenet-v2"))["features.1.conv.0.0.weight"] == "depthwise conv"
    kinds = layer_kinds(zoo.build("vit-tiny"))
    layer = "encoder.layers.encoder_layer_0"
    assert kinds[f"{layer}.self_attention.in_proj_weight"] == "attention projection"
    assert kinds[f"{layer}.self_attention.out_proj.weight"] == "attention projection"
    assert kinds[f"{layer}.mlp.0.weight"] == "linear"
    assert kinds["conv_proj.weight"] == "conv"
    assert layer_kinds(nn.Conv2d(1, 1, 3)) == {"weight": "conv"}


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_macs_of_recurrent_layers(kind, gates):
    length, inputs, hidden = 7, 5, 6
    macs = count_macs(kind(inputs, hidden, batch_first=True).eval(), torch.zeros(1, length, inputs))
    assert macs == {
        "weight_ih_l0": length * gates * hidden * inputs,
        "weight_hh_l0": length * gates * hidden * hidden,
    }


def test_macs_of_transposed_convolutions():
    macs = count_macs(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2).eval(), torch.zeros(1, 4, 5, 5))
    assert macs == {"weight": 5 * 5 * 4 * (6 // 2) * 3 * 3}


def test_macs_of_bare_weights_and_of_two_inputs():
    assert count_macs(own_networks.module("bare"), torch.zeros(1, 20)) == {"w1": 20 * 32, "w2": 32 * 4}
    macs = count_macs(own_networks.module("two"), (torch.zeros(1, 8), torch.zeros(1, 1, 12, 12)))
    assert macs == {"a.weight": 8 * 16, "c.weight": 12 * 12 * 8 * 9, "o.weight": 24 * 3}
