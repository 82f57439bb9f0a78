"""Layers of a graph: each kind is made from its settings, and settings of no layer are refused."""

import pytest
from paretoscope.base.errors import ModelError
from paretoscope.graph import layers
from torch import nn

CONV = {"in_channels": 4, "out_channels": 6, "kernel_size": [3], "stride": [1], "padding": [1], "dilation": [1]}
LINEAR = {"in_features": 3, "out_features": 2, "bias": True}


def test_a_layer_is_the_module_of_its_name() -> None:
    made = layers.make("Conv1d", {**CONV, "groups": 2, "bias": False}, "a")
    assert isinstance(made, nn.Conv1d) and made.groups == 2 and made.bias is None
    assert tuple(layers.make("Linear", LINEAR, "a").weight.shape) == (2, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**LINEAR, "device": "cuda"},
        {**LINEAR, "in_features": -1},
        {**LINEAR, "in_features": 2**40},
        {**LINEAR, "in_features": "3"},
        {**LINEAR, "in_features": True},
        {**LINEAR, "bias": 1},
    ],
)
def test_settings_of_no_layer_are_refused(settings) -> None:
    with pytest.raises(ModelError, match=r"head"):
        layers.make("Linear", settings, "head")


def test_what_torch_cannot_make_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ModelError, match=r"PyTorch can make"):
        layers.make("Conv1d", {**CONV, "groups": 3, "bias": True}, "a")
    with pytest.raises(ModelError, match=r"must be one of Linear"):
        layers.make("Module", {}, "a")
