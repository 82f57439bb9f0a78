"""MobileNetV2, from torchvision. Sandler et al., Inverted Residuals and Linear Bottlenecks, 2018."""

from torch import nn

from paretoscope.base.torchvision_import import import_torchvision

# The paper's table 2 (expansion, channels, repeats, stride), with two of its strides of 2 made 1: it reduces 224x224 to
# 7x7, and would leave one pixel of 32x32. The maps are 16x16 after the stem, 2x2 at the end.
_STAGES = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


def mobilenet_v2(classes: int = 10) -> nn.Module:
    """Width 0.25; input (n, 3, 32, 32)."""
    models = import_torchvision().models
    module: nn.Module = models.MobileNetV2(num_classes=classes, width_mult=0.25, inverted_residual_setting=_STAGES)
    return module
