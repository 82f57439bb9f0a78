"""A tiny vision transformer, from torchvision. Dosovitskiy et al., An Image is Worth 16x16 Words, 2020."""

from torch import nn

from paretoscope.base.torchvision_import import import_torchvision


def vit_tiny(classes: int = 10) -> nn.Module:
    """16 patches of 8x8 pixels, 4 layers of 4 heads, 64 features wide; input (n, 3, 32, 32)."""
    models = import_torchvision().models
    module: nn.Module = models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=classes,
    )
    return module
