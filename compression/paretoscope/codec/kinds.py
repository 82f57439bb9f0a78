"""What a tensor is stored as: the kinds of the header's tensor list, and what each of them holds."""

import math
import re
from dataclasses import dataclass

import numpy as np

from paretoscope.base.errors import ModelError
from paretoscope.model.powers import to_steps
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import BITS, MAX_CLUSTERS

# Values as they are, of tensors that are not compressed; in the order of their streams.
PLAIN_TYPES = {
    label: np.dtype(kind)
    for label, kind in {
        "f4": "<f4", "f2": "<f2", "i8": "<i8", "f8": "<f8", "i4": "<i4", "i2": "<i2", "i1": "i1",
        "u8": "<u8", "u4": "<u4", "u2": "<u2", "u1": "u1", "b1": "?",
    }.items()
}  # fmt: skip
WEIGHT_FLOATS = "w4"

_LABEL = re.compile(r"(w4|[fiu]\d|b1)|(r?)([qda])([1-9]\d?)([ct])(p?)|k(0|[1-9]\d{0,2})(f|q([1-9]\d?)(p?))")


@dataclass(frozen=True, slots=True)
class TensorKind:
    """One kind of tensor in a file.

    plain: label of a type, or "" for codes. rest: whether the tensor is none of the weights. form: "q" integer codes,
    "d" codes that follow the trellis, "a" codes with a zero point, "k" a codebook, "" for plain values. bits: of the
    codes, or of the codebook's entries (0: floats). per_row: one scale for each index of the first axis, else one.
    powers: whether the scales are stored as steps of 2**(1 / 32). entries: of the codebook.
    """

    plain: str = ""
    rest: bool = False
    form: str = ""
    bits: int = 0
    per_row: bool = False
    powers: bool = False
    entries: int = 0

    @classmethod
    def parse(cls, label: str) -> "TensorKind":
        """The kind of a label; raises ValueError."""
        match = _LABEL.fullmatch(label)
        if match is None:
            raise ValueError(f"kind {label[:20]!r} is unknown")
        plain, rest, form, bits, granularity, powers, entries, floats, entry_bits, entry_powers = match.groups()
        if plain:
            if plain != WEIGHT_FLOATS and plain not in PLAIN_TYPES:
                raise ValueError(f"kind {label!r} is unknown")
            return cls(plain=plain, rest=plain != WEIGHT_FLOATS)
        if form:
            kind = cls("", bool(rest), form, int(bits), granularity == "c", bool(powers))
        else:
            kind = cls("", False, "k", int(entry_bits or 0), False, bool(entry_powers), int(entries))
        if kind.bits not in BITS[:-1] and floats != "f":
            raise ValueError(f"kind {label!r} is of unknown bits")
        if (form in ("d", "a") and (kind.bits == 1 or kind.rest)) or kind.entries > MAX_CLUSTERS:
            raise ValueError(f"kind {label!r} cannot be")
        return kind

    @classmethod
    def of(cls, tensor: CompressedTensor, rest: bool) -> "TensorKind":
        """The kind of a tensor; raises ModelError for one that a file cannot hold."""
        match tensor:
            case Plain(values=values) if not rest and values.dtype == np.float32:
                return cls(plain=WEIGHT_FLOATS)
            case Plain(values=values) if rest:
                for label, kind in PLAIN_TYPES.items():
                    if values.dtype == kind:
                        return cls(plain=label, rest=True)
            case Integers(scale=scale, bits=bits, zero=zero, trellis=trellis):
                if not (rest and (trellis or zero is not None)) and not (trellis and zero is not None):
                    form = "d" if trellis else "q" if zero is None else "a"
                    return cls("", rest, form, bits, scale.ndim == 1, to_steps(scale) is not None)
            case Codebook(entries=Integers(bits=bits, scale=scale) as entries) if not rest:
                return cls("", False, "k", bits, False, to_steps(scale) is not None, entries.shape[0])
            case Codebook(entries=Plain() as entries) if not rest:
                return cls("", False, "k", entries=entries.shape[0])
        raise ModelError(
            f"a file holds weights as floats of 32 bits, codes or codebooks, and the rest as numbers or plain codes; "
            f"got {type(tensor).__name__}{' among the rest' * rest}. Convert the tensor."
        )

    @property
    def label(self) -> str:
        if self.plain:
            return self.plain
        powers = "p" * self.powers
        if self.form == "k":
            return f"k{self.entries}" + (f"q{self.bits}{powers}" if self.bits else "f")
        return f"{'r' * self.rest}{self.form}{self.bits}{'c' if self.per_row else 't'}{powers}"

    @property
    def top(self) -> int:
        """The greatest magnitude of a code."""
        return max(1, (1 << self.bits >> 1) - 1)

    @property
    def width(self) -> type[np.int8] | type[np.int16]:
        """NumPy's type of the codes."""
        return np.int8 if self.bits <= 8 else np.int16

    def scales(self, shape: tuple[int, ...]) -> int:
        """How many scales the tensor has."""
        return (shape[0] if self.per_row else 1) if self.bits else 0

    def integers(self, shape: tuple[int, ...]) -> int:
        """How many zero points or integer entries it has."""
        if self.form == "a":
            return self.scales(shape)
        return self.entries if self.form == "k" and self.bits else 0

    def floats(self) -> int:
        """How many entries that are floats it has."""
        return 0 if self.bits else self.entries


def values_of(shape: tuple[int, ...]) -> int:
    """What a tensor counts towards the values of a file; an axis of none counts, because there may be scales beside."""
    return math.prod(max(size, 1) for size in shape)
