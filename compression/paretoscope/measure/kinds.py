"""Kinds of layers, as tables tell them and as kernels differ in speed."""

from enum import StrEnum


class LayerKind(StrEnum):
    """What a layer is; OTHER is everything without a compressible weight."""

    CONVOLUTION = "conv"
    DEPTHWISE = "depthwise conv"
    LINEAR = "linear"
    ATTENTION = "attention projection"
    OTHER = "other"
