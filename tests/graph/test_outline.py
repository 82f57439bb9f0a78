"""Outlines: what gets a box, what is told with another, and what is left out."""

import torch
from paretoscope.graph.outline import Outline, outline
from paretoscope.graph.programs import import_module
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.deep(x))
        return self.head(x.mean(dim=(2, 3)).reshape(x.shape[0], -1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


def of(module: nn.Module, example: Tensor, *weights: str) -> Outline:
    return outline(import_module(module.eval(), example).graph, weights)


def test_a_residual_block_keeps_its_skip_and_layers_take_what_only_follows_them() -> None:
    found = of(Residual(), torch.zeros(2, 3, 8, 8), "stem.weight", "deep.weight", "head.weight")
    given, stem, deep, add, head = found.boxes
    assert [box.label for box in found.boxes] == ["input", "conv 3×3 /2", "depthwise 3×3", "+", "linear"]
    assert given.shape == (3, 8, 8) and given.reads == ()
    assert stem.then == ("batch norm", "relu") and stem.weights == ("stem.weight",) and stem.shape == (8, 4, 4)
    assert deep.reads == (stem.name,) and set(add.reads) == {stem.name, deep.name}
    # Means over axes follow the sum; moves are left out.
    assert add.then == ("relu", "mean") and add.weights == () and add.shape == (8,)
    assert head.reads == (add.name,) and head.shape == (4,)


def test_an_attention_is_a_box_between_its_projections() -> None:
    weights = ("attention.in_proj_weight", "attention.out_proj.weight")
    found = of(Attention(), torch.zeros(2, 5, 8), *weights)
    assert [box.label for box in found.boxes] == ["input", "layer norm", "linear", "attention", "linear", "+"]
    assert [box.weights for box in found.boxes if box.weights] == [(name,) for name in weights]
    # Whoever moves the batch behind another axis gives no shape of one sample.
    assert found.boxes[-1].reads == tuple(found.boxes[place].name for place in (0, 4))


def test_a_layer_that_recipes_do_not_touch_has_no_weight_and_follows_another() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    found = of(module, torch.zeros(2, 3, 4, 4), "0.weight")
    assert [(box.weights, box.then) for box in found.boxes[1:]] == [(("0.weight",), ("conv 1×1",))]


def test_what_is_written_is_read() -> None:
    found = of(Residual(), torch.zeros(2, 3, 8, 8), "stem.weight")
    assert Outline.from_dict(found.to_dict()) == found
