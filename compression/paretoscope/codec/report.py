"""What is inside an artefact: every tensor with what it takes, and where all the bytes of the file go."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretoscope.codec.artefact import read, write_streams
from paretoscope.codec.container import FIGURES, PREAMBLE, SECTION, Figures, sections
from paretoscope.codec.description import described
from paretoscope.codec.header import Header
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One entry of the state dict.

    bytes: of its codes, None for what is no weight (counted as side information). bits: of a value's codes, as coded.
    entropy: of the codes, in bits a value, were each coded by its frequency alone; None for floats. zeros: share of
    the codes that are zero, None for floats.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bytes: int | None = None
    bits: float | None = None
    entropy: float | None = None
    zeros: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes of a file; the parts add up to `file`.

    framing: magic, version, names, lengths and checksums. codes: of all weights. side: scales, codebooks, tables, all
    tensors that are no weights, and what rounds the streams up to whole bytes.
    """

    framing: int
    header: int
    figures: int
    codes: int
    side: int
    padding: int
    file: int


@dataclass(frozen=True, slots=True)
class Report:
    """The whole of a file. architecture: None for a bare state dict; figures: None where nothing was measured."""

    architecture: str | None
    source: str
    recipe: dict[str, Any]
    figures: Figures | None
    tensors: tuple[TensorRow, ...]
    ties: dict[str, str]
    totals: Totals

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def report(data: bytes) -> Report:
    """Take a file apart; raises ArtefactError.

    Bits are the coder's own count: exact for contexts, of the frequencies' model for ANS, whole bits for Huffman.
    """
    found, model = sections(data), read(data)
    header = Header.unpack(found.header)
    bits = write_streams(model, model.recipe.code.coder).bits
    ends = np.rint(np.cumsum([0.0, *bits.values()]) / 8).astype(int)
    taken = dict(zip(bits, np.diff(ends).tolist(), strict=True))
    rows = []
    for name, (kind, shape) in header.tensors.items():
        count = math.prod(shape)
        if kind.rest or not count:
            rows.append(TensorRow(name, kind.label, shape, None if kind.rest else taken[name]))
            continue
        entropy, zeros = _entropy(model.weights[name])
        rows.append(TensorRow(name, kind.label, shape, taken[name], bits[name] / count, entropy, zeros))
    codes = sum(taken.values())
    framing = PREAMBLE.size + (3 + bool(found.padding)) * SECTION.size
    side = len(found.streams) - codes
    totals = Totals(framing, len(found.header), FIGURES.size, codes, side, found.padding, len(data))
    return Report(
        architecture=model.architecture or None,
        source=model.source,
        recipe=dict(model.told),
        figures=found.figures,
        tensors=tuple(rows),
        ties=dict(model.ties),
        totals=totals,
    )


def text(found: Report) -> str:
    """The report as lines for a terminal."""
    figures, totals = found.figures, found.totals
    measured = "not in the file"
    if figures is not None:
        measured = (
            f"{figures.correct} of {figures.n} correct, baseline {figures.baseline_correct}; mean KL divergence "
            f"{figures.mean_kl:.3g}; dataset {figures.dataset}"
        )
    lines = [
        f"architecture  {found.architecture or 'none: a bare state dict'}",
        f"source        {found.source}",
        f"recipe        {_recipe(found)}",
        f"figures       {measured}",
        "",
        f"{'tensor':<52}{'kind':<10}{'shape':<18}{'bytes':>11}{'bits':>8}{'entropy':>9}{'zeros':>8}",
    ]
    for row in found.tensors:
        size = "" if row.bytes is None else f"{row.bytes:,}"
        bits = "" if row.bits is None else f"{row.bits:.3f}"
        entropy = "" if row.entropy is None else f"{row.entropy:.3f}"
        zeros = "" if row.zeros is None else f"{row.zeros:.1%}"
        shape = "x".join(map(str, row.shape))
        lines.append(f"{row.name:<52}{row.kind:<10}{shape:<18}{size:>11}{bits:>8}{entropy:>9}{zeros:>8}")
    lines += [f"{name:<52}same as {target}" for name, target in found.ties.items()]
    parts = dataclasses.asdict(totals)
    whole = parts.pop("file")
    lines += ["", " + ".join(f"{name} {size:,}" for name, size in parts.items()) + f" = {whole:,} bytes"]
    return "\n".join(lines)


def _recipe(found: Report) -> str:
    recipe, unknown = described(found.recipe)
    more = f"; and {', '.join(unknown)}, which this version does not know" if unknown else ""
    return f"{recipe.describe()}; coder {recipe.code.coder}{more}"


def _entropy(tensor: CompressedTensor) -> tuple[float | None, float | None]:
    """Order-0 entropy of the codes, in bits a value, and the share of zeros; None for floats."""
    match tensor:
        case Integers(codes=codes, zero=zero) if zero is not None:
            steps = codes.astype(np.int32) - (zero.reshape(zero.shape + (1,) * (codes.ndim - 1)) if zero.ndim else zero)
            symbols = steps
        case Integers(codes=codes):
            symbols = codes
        case Codebook(indices=indices):
            symbols = indices
        case _:
            return None, None
    counts = np.unique(symbols, return_counts=True)[1]
    share = counts / symbols.size
    return float(-(share * np.log2(share)).sum()) + 0.0, 1 - np.count_nonzero(symbols) / symbols.size
