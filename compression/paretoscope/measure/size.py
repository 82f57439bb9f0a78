"""The size ladder: how the artefact's length came about (Deep Compression, section 5, counts the same parts).

Every rung counts the whole model. `sparse` and `packed` store each weight tensor densely or as entries with relative
indices, whichever is smaller, at the index width that is best for it; a run of zeros too long for the index takes
filler entries, as in Deep Compression, section 2.
"""

import math

import numpy as np
import numpy.typing as npt

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ModelError
from paretoscope.codec import streams_length, write, write_streams
from paretoscope.measure.record import Ladder
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain

INDEX_WIDTHS = 16


def ladder(model: CompressedModel, artefact: bytes | None = None) -> Ladder:
    """The six sizes of a compressed model in bytes; `artefact` is the written file, where the caller has it."""
    artefact = write(model) if artefact is None else artefact
    dense = sparse = packed = 0
    for tensor in model.weights.values():
        count = math.prod(tensor.shape)
        nonzero = _nonzero(tensor)
        kept = int(np.count_nonzero(nonzero))
        entries = _entries(nonzero.reshape(-1)) if kept < count else None
        dense += 4 * count
        sparse += _smallest(count, 32, 32, entries)
        dense_bits, value_bits, side = _packed_bits(tensor, kept < count)
        packed += _smallest(count, dense_bits, value_bits, entries) + side
    original = sum(tensor.decode().nbytes for tensor in model.rest.values())
    stored = sum(_stored_bytes(tensor) for tensor in model.rest.values())
    return Ladder(
        dense=dense + original,
        sparse=sparse + original,
        packed=packed + stored,
        huffman=_coded(model, artefact, "huffman"),
        ans=_coded(model, artefact, "ans"),
        artefact=len(artefact),
    )


def _coded(model: CompressedModel, artefact: bytes, coder: str) -> int:
    return streams_length(artefact) if coder == model.recipe.code.coder else write_streams(model, coder).size()


def _stored_bytes(tensor: Plain | Integers) -> int:
    return tensor.values.nbytes if isinstance(tensor, Plain) else tensor.codes.nbytes + tensor.scale.nbytes


def _nonzero(tensor: CompressedTensor) -> npt.NDArray[np.bool_]:
    """Where a tensor's weights are not zero."""
    zero: np.ndarray | int = 0
    match tensor:
        case Plain(values=values):
            symbols = values
        case Integers(codes=codes, zero=points) if points is not None:
            symbols, zero = codes, points.reshape(points.shape + (1,) * (codes.ndim - 1)) if points.ndim else points
        case Integers(codes=codes, scale=scale):
            # A dead channel, binarized, has codes of one and a scale of zero.
            symbols = codes if scale.all() else tensor.decode()
        case Codebook(indices=indices):
            symbols = indices
        case _:
            symbols = tensor.decode()
    nonzero: npt.NDArray[np.bool_] = np.not_equal(symbols, zero)
    return nonzero


def _packed_bits(tensor: CompressedTensor, has_zeros: bool) -> tuple[int, int, int]:
    """Bits of a dense symbol, bits of a symbol of an entry (a filler is a zero), bytes of scales and codebook."""
    match tensor:
        case Plain():
            return 32, 32, 0
        case Integers(scale=scale, bits=bits, zero=zero) if zero is not None:
            return bits, bits, scale.nbytes + zero.nbytes
        case Integers(codes=codes, scale=scale, bits=bits):
            return (2 if bits == 1 and has_zeros and not codes.all() else bits), max(bits, 2), scale.nbytes
        case Codebook(entries=entries):
            count = entries.shape[0]
            side = 4 * count if isinstance(entries, Plain) else 4 + math.ceil(count * entries.bits / 8)
            return _index_bits(count + has_zeros), _index_bits(count + 1), side
        case _:
            raise ModelError(
                f"the size ladder knows tensors that are plain, integers or codebooks; got {type(tensor).__name__}. "
                "Add its bits here."
            )


def _index_bits(symbols: int) -> int:
    return math.ceil(math.log2(symbols)) if symbols > 1 else 0


def _smallest(count: int, dense_bits: int, value_bits: int, entries: np.ndarray | None) -> int:
    bits = count * dense_bits
    if entries is not None:
        bits = min(bits, int((entries * (np.arange(1, INDEX_WIDTHS + 1) + value_bits)).min()))
    return math.ceil(bits / 8)


@compiled()
def _entries(nonzero: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Entries, fillers included, that relative indices of 1..16 bits need: (INDEX_WIDTHS,)."""
    entries = np.zeros(INDEX_WIDTHS, np.int64)
    run = 0
    for value in nonzero:
        if value:
            for width in range(INDEX_WIDTHS):
                entries[width] += 1 + (run >> (width + 1))
            run = 0
        else:
            run += 1
    return entries
