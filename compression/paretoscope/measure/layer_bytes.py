"""Where the bytes of a file go, layer by layer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paretoscope import codec
from paretoscope.model.compressed import CompressedModel


@dataclass(frozen=True, slots=True)
class LayerBytes:
    """Bytes of each weight's codes, by its name in the order of the state dict, and of all else; they add up to the
    file: scales, codebooks, tables, other tensors and the header are `rest`."""

    layers: tuple[tuple[str, int], ...]
    rest: int

    @property
    def file(self) -> int:
        """Bytes of the file."""
        return sum(count for _, count in self.layers) + self.rest

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "layers": [list(each) for each in self.layers]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LayerBytes":
        """What `to_dict` wrote; KeyError, TypeError or ValueError when it is not that."""
        return cls(tuple((str(name), int(count)) for name, count in data["layers"]), int(data["rest"]))


def layer_bytes(compressed: CompressedModel) -> LayerBytes:
    """The bytes of a compressed model's file by its coder's own count, as `codec.report` tells them; raises ModelError.

    The codes of all layers are one stream: what a layer takes of it is rounded so that the sum stays.
    """
    bits = codec.write_streams(compressed, compressed.recipe.code.coder).bits
    ends = np.rint(np.cumsum([0.0, *bits.values()]) / 8).astype(int)
    taken = dict(zip(bits, np.diff(ends).tolist(), strict=True))
    layers = tuple((name, int(taken[name])) for name in compressed.weights)
    return LayerBytes(layers, len(codec.write(compressed)) - sum(count for _, count in layers))
