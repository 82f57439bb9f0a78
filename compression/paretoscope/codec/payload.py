"""The streams of a file: which numbers of a model are coded, in which order, by which coder.

"ans" and "huffman" code every tensor by the frequencies of its symbols (order 0). "context" and "smallest" code the
codes in the context of their neighbours, in lanes that are independent of each other, and float weights by their
frequencies. Which of the two is not chosen tensor by tensor: on the zoo, contexts took at most 0.1 % of a file
more than the better of both would (measured once, by hand; no benchmark).
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.codec.codes import beside, count_of, is_finite, scales_of, symbols_of, within, wrapped
from paretoscope.codec.header import Header
from paretoscope.codec.kinds import TensorKind
from paretoscope.codec.lanes import Lanes, read_lanes
from paretoscope.codec.order_zero import OrderZero, read_order_zero
from paretoscope.codec.side import Cursor, Described, Side, collected, counted
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain

ORDER_ZERO = ("ans", "huffman")


class Payload(Protocol):
    """Streams ready to be written. bits: what each weight's codes take. side_bits: what everything else takes."""

    bits: dict[str, float]
    side_bits: float

    def size(self) -> int:
        """Exact length of `finish()`."""
        ...

    def finish(self) -> bytes:
        """The section."""
        ...


def write_streams(model: CompressedModel, coder: str) -> Payload:
    """All streams of a model, ready to be coded with `coder`; raises ModelError for tensors that cannot be held."""
    weights = {name: (TensorKind.of(each, False), each) for name, each in _in_order(model, model.weights)}
    rest = [(TensorKind.of(each, True), each) for _, each in _in_order(model, model.rest)]
    _expect_readable(model)
    side = collected([*weights.values(), *rest])
    if coder in ORDER_ZERO:
        return OrderZero(weights, side, coder)
    return Lanes(weights, rest, side, coder)


def _expect_readable(model: CompressedModel) -> None:
    """Refuse what reading would."""
    for name, tensor in (*model.weights.items(), *model.rest.items()):
        if not is_finite(TensorKind.of(tensor, name in model.rest), tensor):
            raise ModelError(
                f"codes must stand for finite numbers; those of {name!r:.60} do not, its values or their training went "
                "beyond all bounds. Leave the tensor as it is, or train with a lower learning rate."
            )


def _in_order(
    model: CompressedModel, tensors: Mapping[str, CompressedTensor]
) -> Iterable[tuple[str, CompressedTensor]]:
    return ((name, tensors[name]) for name in model.order if name in tensors)


def read_streams(header: Header, section: bytes) -> dict[str, CompressedTensor]:
    """The tensors of a header, from their streams; raises ArtefactError."""
    weights = {name: described for name, described in header.tensors.items() if not described[0].rest}
    rest = {name: described for name, described in header.tensors.items() if described[0].rest}
    counts = counted([*weights.values(), *rest.values()])
    coder = header.recipe.code.coder
    if coder in ORDER_ZERO:
        codes, side = read_order_zero(weights, counts, section, coder)
    else:
        codes, side = read_lanes(weights, list(rest.values()), counts, section, coder)
    return _assembled(weights, rest, codes, side, ranked=coder not in ORDER_ZERO)


def _assembled(
    weights: Mapping[str, Described],
    rest: Mapping[str, Described],
    codes: dict[str, np.ndarray],
    side: Side,
    *,
    ranked: bool,
) -> dict[str, CompressedTensor]:
    """The tensors. ranked: whether the codes of codebooks are ranks, and not symbols."""
    cursor = Cursor({**side, "powers": scales_of(side["powers"])})
    tensors: dict[str, CompressedTensor] = {}
    for name, (kind, shape) in (*weights.items(), *rest.items()):
        scale = cursor.take("powers" if kind.powers else "scales", kind.scales(shape))
        if kind.bits and not kind.per_row:
            scale = scale.reshape(())
        grid = cursor.take("integers", kind.integers(shape))
        if kind.plain:
            tensors[name] = Plain(cursor.take(kind.plain, count_of(shape)).reshape(shape) if kind.rest else codes[name])
        elif kind.form == "k":
            own: np.ndarray = within(grid, kind, -kind.top, kind.top).astype(kind.width)
            found = Integers(own, scale, kind.bits) if kind.bits else Plain(cursor.take("entries", kind.floats()))
            symbols = symbols_of(codes[name], found) if ranked else codes[name]
            tensors[name] = Codebook(symbols, found)
        elif kind.form == "a":
            zero = wrapped(grid.astype(np.int32), kind.bits).reshape(scale.shape)
            steps = wrapped(codes[name].astype(np.int32) + beside(zero, codes[name]), kind.bits)
            tensors[name] = Integers(steps.astype(kind.width), scale, kind.bits, zero.astype(kind.width))
        else:
            own = cursor.take("codes", count_of(shape)).reshape(shape) if kind.rest else codes[name]
            own = within(own, kind, -kind.top, kind.top).astype(kind.width)
            tensors[name] = Integers(own, scale, kind.bits, trellis=kind.form == "d")
        _expect_finite(name, kind, tensors[name])
    return tensors


def _expect_finite(name: str, kind: TensorKind, tensor: CompressedTensor) -> None:
    """Codes stand for numbers. What is not finite is only ever written as it is, among plain values."""
    if not is_finite(kind, tensor):
        raise ArtefactError(
            f"codes must decode to finite numbers; those of {name!r:.60} do not. The file is damaged: copy it again."
        )
