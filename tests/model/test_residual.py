"""Residual blocks of ordinary modules: the very names that recipes, presets and artefacts of the zoo have."""

import pytest
from paretoscope.model import structure
from paretoscope.networks import zoo
from torch import nn

KNOWN = {
    "resnet-20": ("stage1.0", "stage1.1", "stage1.2", "stage2.1", "stage2.2", "stage3.1", "stage3.2"),
    "mobilenet-v2": tuple(f"features.{i}" for i in (1, 2, 3, 5, 6, 8, 9, 10, 12, 13, 15, 16)),
    "vit-tiny": tuple(f"encoder.layers.encoder_layer_{i}" for i in range(4)),
}


@pytest.mark.parametrize("name", [entry.name for entry in zoo.models])
def test_names_of_the_zoo_are_those_that_files_have(name):
    assert structure.blocks(zoo.build(name)) == KNOWN.get(name, ())


class Block(nn.Module):
    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.inner, self.skips = nn.Linear(3, 3), skips

    def forward(self, x):
        return (x + self.inner(x)).relu() if self.skips else self.inner(x)


def test_only_parts_that_add_their_input_themselves_are_blocks():
    module = nn.Sequential(nn.Sequential(Block(True), Block(True)), Block(False))
    assert structure.blocks(module) == ("0.0", "0.1")


def test_what_cannot_be_traced_has_none():
    class Branching(Block):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    assert structure.blocks(nn.Sequential(Branching(True))) == ()
