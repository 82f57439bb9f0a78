"""Sparse layers as the kernels read them: the non-zero weights in rows or in blocks, and where their inputs lie."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from paretoscope.runtimes.sparse.kernels import CHOOSING, FOURS, HEIGHTS, LANES, LOOK_UPS


class Storage(StrEnum):
    """How the weights of a sparse layer lie in memory, as the kernels describe it; "blocks of 1" is CSR."""

    ROWS = "rows"
    BLOCKS_OF_1 = "blocks of 1"
    BLOCKS_OF_4 = "blocks of 4"
    BLOCKS_OF_8 = "blocks of 8"
    BLOCKS_OF_16 = "blocks of 16"
    BLOCKS_OF_32 = "blocks of 32"
    BLOCKS_OF_64 = "blocks of 64"
    N_OF_FOUR = "N of 4"
    LOOKED_UP = "look-ups"


# Different values, zero among them, that look-ups can tell apart.
VALUES = 16
_TALL = CHOOSING * LANES
# Storages of a linear layer that take one sample after the other, with what tells the kernel of them.
BLOCKS: dict[Storage, int] = {
    **{Storage(f"blocks of {height}"): height for height in HEIGHTS},
    Storage.N_OF_FOUR: FOURS,
    **({Storage.LOOKED_UP: LOOK_UPS} if LANES == VALUES else {}),
}


Weights = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """values: float32, offsets: uint32, pointers: int64 (rows or groups + 1), the first entry of each."""

    values: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.uint32]
    pointers: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Planes:
    """How a convolution (kernel, dilation, pad: down and across; stride) reads an image (height, width).

    The image is written out as planes as wide as the output, one for each phase of the stride and kernel column, with
    its padding: whatever a weight multiplies then lies together, in step with the output, and vectors of it begin where
    cache lines do when the output's rows do.
    """

    height: int
    width: int
    out_h: int
    out_w: int
    kernel: tuple[int, int]
    stride: int
    dilation: tuple[int, int]
    pad: tuple[int, int]

    @property
    def phases(self) -> int:
        """Phases of the stride that rows of the kernel have."""
        return min(self.stride, self.kernel[0]) if self.dilation[0] == 1 else self.stride

    @property
    def plane_h(self) -> int:
        """Rows of a plane."""
        return self.out_h + (self.kernel[0] - 1) * self.dilation[0] // self.stride

    @property
    def as_they_are(self) -> bool:
        """Whether the image itself can be read."""
        return self.kernel == (1, 1) and self.stride == 1 and self.pad == (0, 0)

    @property
    def floats(self) -> int:
        """Floats of all planes of a channel."""
        return self.phases * self.kernel[1] * self.plane_h * self.out_w

    def offset(self, channel: Indices, row: Indices, column: Indices) -> Indices:
        """Where the first inputs of weights lie, by their channels, kernel rows and kernel columns; in floats."""
        row = row * self.dilation[0]
        plane = (row % self.stride * self.kernel[1] + column) * self.plane_h
        return channel * self.floats + (plane + row // self.stride) * self.out_w


def pack_conv(weight: Weights, groups: int, planes: Planes) -> Packed:
    """A weight (O, C / groups, kernel_h, kernel_w) in rows."""
    out, channel, row, column = np.nonzero(weight)
    channel = channel + out // (len(weight) // groups) * weight.shape[1]
    pointers = np.searchsorted(out, np.arange(len(weight) + 1))
    values = weight[weight != 0]
    return Packed(values, planes.offset(channel, row, column).astype(np.uint32), pointers.astype(np.int64))


def pack_rows(weight: Weights, stride: int) -> Packed:
    """A weight (O, I) in rows; inputs are rows of `stride` samples."""
    out, column = np.nonzero(weight)
    pointers = np.searchsorted(out, np.arange(len(weight) + 1))
    return Packed(weight[out, column], (column * stride).astype(np.uint32), pointers.astype(np.int64))


def pack_blocks(weight: Weights, storage: Storage) -> Packed:
    """A weight (O, I) in one of BLOCKS: groups of outputs, the last of which is filled up with zeros."""
    if storage == Storage.N_OF_FOUR:
        return pack_fours(weight)
    if storage == Storage.LOOKED_UP:
        return _pack_look_ups(weight)
    height = BLOCKS[storage]
    filled = np.zeros((-(-len(weight) // height) * height, weight.shape[1]), np.float32)
    filled[: len(weight)] = weight
    grouped = filled.reshape(-1, height, weight.shape[1])
    group, column = np.nonzero(grouped.any(axis=1))
    pointers = np.searchsorted(group, np.arange(len(grouped) + 1))
    return Packed(grouped[group, :, column].ravel(), column.astype(np.uint32), pointers.astype(np.int64))


def possible(weight: Weights, storage: Storage) -> bool:
    """Whether a weight can be stored so: look-ups take no more than VALUES different values, zero among them."""
    return storage != Storage.LOOKED_UP or len(np.unique(np.append(weight, 0))) <= VALUES


def _pack_look_ups(weight: Weights) -> Packed:
    """values: a table of VALUES floats, then a byte for each weight of a block."""
    table = np.unique(np.append(weight, np.float32(0)))
    packed = pack_blocks(weight, Storage(f"blocks of {LANES}"))
    codes = np.searchsorted(table, packed.values).astype(np.uint8)
    filled = np.append(table, np.zeros(VALUES - len(table), np.float32)).astype(np.float32)
    return Packed(np.append(filled, codes.view(np.float32)), packed.offsets, packed.pointers)


def pack_fours(weight: Weights) -> Packed:
    """A weight (O, I) in groups of outputs by four inputs: as many rounds as an output of the group has non-zeros.

    offsets: for each round the first of the four inputs, and the choices of each vector of outputs.
    """
    fours = _fours(weight)
    rounds = _rounds(fours)
    # Non-zeros first, in their order.
    order = np.argsort(fours == 0, axis=3, kind="stable")
    ordered = np.take_along_axis(fours, order, axis=3)
    group, four = (np.repeat(each.ravel(), rounds.ravel()) for each in np.indices(rounds.shape))
    place = np.arange(len(group)) - np.repeat(np.cumsum(rounds) - rounds.ravel(), rounds.ravel())
    values = ordered[group, :, four, place]
    choice = np.where(values != 0, order[group, :, four, place], 0).reshape(-1, CHOOSING, LANES)
    lanes = np.arange(LANES)
    words = ((choice & 1) << lanes).sum(2) | ((choice >> 1) << (lanes + 16)).sum(2)
    offsets = np.concatenate([4 * four[:, None], words], axis=1).ravel().astype(np.uint32)
    pointers = np.searchsorted(group, np.arange(len(fours) + 1))
    return Packed(values.ravel(), offsets, pointers.astype(np.int64))


def _fours(weight: Weights) -> Weights:
    """(groups, outputs of a group, I / 4, 4), filled up with zeros."""
    outputs, inputs = -(-len(weight) // _TALL) * _TALL, -(-weight.shape[1] // 4) * 4
    filled = np.zeros((outputs, inputs), np.float32)
    filled[: len(weight), : weight.shape[1]] = weight
    return filled.reshape(-1, _TALL, inputs // 4, 4)


def _rounds(fours: Weights) -> Indices:
    """The most non-zeros that an output of a group has among four inputs: (groups, I / 4)."""
    rounds: Indices = np.count_nonzero(fours, axis=3).max(axis=1)
    return rounds


def expected_entries(shape: tuple[int, ...], storage: Storage, density: float) -> float:
    """What `entries` is on average when the share `density` of all weights is not zero, at random."""
    size = math.prod(shape)
    if storage == Storage.N_OF_FOUR:
        # The most of so many binomial draws of four: the sum of P(most > k).
        at_most = [sum(math.comb(4, i) * density**i * (1 - density) ** (4 - i) for i in range(k + 1)) for k in range(4)]
        return size / 4 * sum(1 - each**_TALL for each in at_most)
    return size * (1 - (1 - density) ** _height(storage))


def groups_of(outputs: int, storage: Storage) -> int:
    """How many groups so many outputs make in one of BLOCKS."""
    return -(-outputs // (_TALL if storage == Storage.N_OF_FOUR else _height(storage)))


def entries(weight: Weights, storage: Storage) -> int:
    """How many weights are multiplied in a storage: the non-zeros, and the zeros that are stored beside them."""
    if storage == Storage.ROWS:
        return int(np.count_nonzero(weight))
    if storage == Storage.N_OF_FOUR:
        return _TALL * int(_rounds(_fours(weight)).sum())
    height = _height(storage)
    starts = np.arange(0, len(weight), height)
    return height * int(np.count_nonzero(np.logical_or.reduceat(weight != 0, starts, axis=0)))


def _height(storage: Storage) -> int:
    """Outputs that share an input: those of a block, or 1."""
    return LANES if storage == Storage.LOOKED_UP else BLOCKS.get(storage, 1)
