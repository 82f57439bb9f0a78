"""Rates: how much of a compressed model is zero, and how much is shared."""

import numpy as np

from paretoscope.codec.streams import histogram
from paretoscope.measure.record import Rates
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain


def rates(model: CompressedModel) -> Rates:
    """Sparse and shared rate over all compressible weights of the model; see `Rates` for what they mean."""
    zeros = shared = total = 0
    for tensor in model.weights.values():
        codes = _codes(tensor)
        total += codes.size
        if isinstance(tensor, Codebook):
            counts = histogram(codes, tensor.entries.shape[0] + 1)
            zeros += int(counts[0])
            shared += int(counts[1:][counts[1:] >= 2].sum())
        else:
            zeros += codes.size - int(np.count_nonzero(codes))
            if isinstance(tensor, Integers) and not tensor.scale.all():
                zeros += int(np.count_nonzero(codes[tensor.scale == 0]))
    return Rates(sparse_rate=zeros / total, shared_rate=shared / total, architecture_simplification=1.0)


def _codes(tensor: CompressedTensor) -> np.ndarray:
    """An array of the tensor's shape that is zero where its weights are."""
    match tensor:
        case Plain(values=values):
            return values
        case Integers(codes=codes, zero=zero) if zero is not None:
            points = zero.reshape(zero.shape + (1,) * (codes.ndim - 1)) if zero.ndim else zero
            nonzero: np.ndarray = np.not_equal(codes, points)
            return nonzero
        case Integers(codes=codes):
            return codes
        case Codebook(indices=indices):
            return indices
        case _:
            return tensor.decode()
