"""Kinds of layers, as tables tell them and as kernels differ in speed."""

from enum import StrEnum


class LayerKind(StrEnum):
    """What a layer is; OTHER is everything without a weight that recipes act on."""

    CONVOLUTION = "conv"
    DEPTHWISE = "depthwise conv"
    LINEAR = "linear"
    ATTENTION = "attention projection"
    EMBEDDING = "embedding"
    RECURRENT = "recurrent"
    PRODUCT = "matrix product"
    OTHER = "other"
