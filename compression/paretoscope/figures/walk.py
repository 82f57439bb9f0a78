"""One weight matrix on its way through a recipe, from floats to the bytes of its codes, and why Huffman gains there.

The matrix is compressed alone by the package's own methods, and its bytes are counted from the codec's own streams.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from paretoscope.base.units import format_percent
from paretoscope.codec.streams import code_lengths
from paretoscope.figures.learn import FLOAT_BITS, STEPS, WEIGHT, alone, codes_of, written_bits
from paretoscope.figures.theme import LIGHT, ORANGE, Theme, axis, layout
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import LayerStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.steps.code import Coder

# A matrix that a screen shows cell by cell has about so many weights; chosen by hand; no benchmark.
WANTED = 1000
# A gain below this share is called little.
LITTLE = 0.05
CODERS = (Coder.HUFFMAN, Coder.ANS, Coder.CONTEXT)
# More symbols than this are no bars that can be told apart.
MOST_BARS = 64


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """The matrix after a step.

    step: "" before the first one. matrix: float32 (rows, columns). plain: bytes where every weight takes as many bits.
    coded: bytes of the codec's streams, tables, shared values and scales included. told: what was done.
    """

    step: str
    matrix: np.ndarray
    plain: int
    coded: int
    told: str

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        rows, columns = self.matrix.shape
        return f"A matrix of {rows} x {columns} weights. {self.told}"


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """The codes of a matrix by how often they occur, the most frequent first.

    symbols, counts, lengths: (n,), lengths are those of Huffman's code in bits. fixed: bits of a code of equal lengths.
    """

    symbols: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    fixed: int

    @property
    def shares(self) -> np.ndarray:
        found: np.ndarray = self.counts / self.counts.sum()
        return found

    @property
    def entropy(self) -> float:
        """Bits a weight that no code of single symbols can go below."""
        return float(-(self.shares * np.log2(self.shares)).sum())

    @property
    def huffman(self) -> float:
        """Bits a weight of Huffman's code."""
        return float((self.shares * self.lengths).sum())

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        return (
            f"{len(self.symbols)} codes: the most frequent is {format_percent(self.shares[0])} of the weights and "
            f"takes {_bits(self.lengths[0])}, the rarest takes {_bits(self.lengths.max())}."
        )


@dataclass(frozen=True, eq=False, slots=True)
class Walk:
    """A matrix through all steps.

    name: of its layer. shape: of the weight. stages: floats first, then a stage for each step of the recipe. codes: of
    the last stage, None where it is floats. written: bytes of its streams by each coder.
    """

    name: str
    shape: tuple[int, ...]
    stages: tuple[Stage, ...]
    codes: Codes | None
    written: Mapping[Coder, int]


def chosen(layers: Mapping[str, LayerStatistics]) -> LayerStatistics:
    """The layer whose number of weights is nearest to WANTED, as a ratio; the first of equals."""
    many = [layer for layer in layers.values() if layer.weight.ndim > 1] or list(layers.values())
    return min(many, key=lambda layer: abs(math.log(layer.weight.size / WANTED)))


def gather(layer: LayerStatistics, recipe: Recipe) -> Walk:
    """Compress a layer alone, step by step; a recipe without a step on weights leaves it as it is."""
    steps = [name for name in STEPS[:-1] if getattr(recipe, name) is not None]
    shape = layer.weight.shape
    models = [alone(layer.weight, recipe, steps[:count]) for count in range(len(steps) + 1)]
    stages = tuple(_stage(step, model, recipe) for step, model in zip(("", *steps), models, strict=True))
    last, codes = models[-1], codes_of(models[-1].weights[WEIGHT])
    return Walk(
        name=layer.name,
        shape=shape,
        stages=stages,
        codes=None if codes is None else _codes(codes),
        written={coder: math.ceil(written_bits(last, coder) / 8) for coder in CODERS},
    )


def _stage(step: str, model: CompressedModel, recipe: Recipe) -> Stage:
    tensor = model.weights[WEIGHT]
    matrix = tensor.decode().reshape(tensor.shape[0], -1)
    bits, side = _plain(tensor)
    coder = Coder.HUFFMAN if recipe.code.coder == Coder.HUFFMAN else Coder.ANS
    values, zero = len(np.unique(matrix[matrix != 0])), float(np.mean(matrix == 0))
    told = {
        "": "As trained: every weight is a float of 32 bits.",
        "prune": f"{format_percent(zero)} of the weights are zero now.",
        "share": f"{values} different values are left beside zero. A weight is the number of its value: {_bits(bits)}.",
        "quantize": f"Values became whole steps of a grid. A weight takes {_bits(bits)}.",
    }
    return Stage(
        step=step,
        matrix=matrix,
        plain=math.ceil((bits * matrix.size + side) / 8),
        coded=math.ceil(written_bits(model, coder) / 8),
        told=told[step],
    )


def _plain(tensor: CompressedTensor) -> tuple[int, int]:
    """Bits of a weight where all take as many, and of what stands beside: shared values, scales, zero points."""
    match tensor:
        case Codebook(indices=indices, entries=entries):
            each = entries.bits if isinstance(entries, Integers) else FLOAT_BITS
            scale = FLOAT_BITS if isinstance(entries, Integers) else 0
            return equal_bits(len(np.unique(indices))), each * entries.shape[0] + scale
        case Integers(bits=bits, scale=scale, zero=zero):
            return bits, FLOAT_BITS * scale.size + (0 if zero is None else bits * zero.size)
    return FLOAT_BITS, 0


def equal_bits(symbols: int) -> int:
    """Bits of a code of equal lengths for so many symbols."""
    return max(1, math.ceil(math.log2(symbols)))


def _codes(codes: np.ndarray) -> Codes:
    symbols, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    lengths = code_lengths(counts) if len(counts) > 1 else np.zeros(1, np.int64)
    return Codes(symbols[order], counts[order], lengths[order], equal_bits(len(symbols)))


def why(codes: Codes) -> str:
    """Why a code of unequal lengths gains, or does not, in plain words."""
    first, rest = format_percent(codes.shares[0]), len(codes.symbols) - 1
    if rest == 0:
        return "There is one code alone: nothing has to be written of the weights."
    gain = 1 - codes.huffman / codes.fixed
    if gain < LITTLE:
        return (
            f"Little is to be gained here: the codes are used about equally often ({_bits(codes.fixed)} each; Huffman "
            f"{codes.huffman:.2f} on average). Zeros, or few values in the middle, would change that."
        )
    return (
        f"The most frequent code stands for {first} of the weights and takes {_bits(codes.lengths[0])}; the rarest "
        f"takes {_bits(codes.lengths.max())}. On average that is {codes.huffman:.2f} bits a weight instead of "
        f"{codes.fixed}: {format_percent(gain, 0)} less. No code of single weights gets below their entropy, "
        f"{codes.entropy:.2f} bits; Huffman's misses it because its codes are whole bits."
    )


def _bits(count: int | np.int64) -> str:
    return f"{count} bit{'s' * int(count != 1)}"


def draw(stage: Stage, largest: float, theme: Theme = LIGHT, *, height: int = 120) -> go.Figure:
    """The matrix cell by cell, the longer side across. largest: the magnitude of the strongest colour."""
    matrix = stage.matrix if stage.matrix.shape[0] <= stage.matrix.shape[1] else stage.matrix.T
    cells = {
        "type": "heatmap",
        "z": [[float(f"{value:.3g}") for value in row] for row in matrix.tolist()],
        "zmin": -largest,
        "zmax": largest,
        "colorscale": [[0, ORANGE], [0.5, theme.surface], [1, theme.accent]],
        "showscale": False,
        "hovertemplate": "%{z}<extra></extra>",
    }
    blank = {"visible": False, "fixedrange": True}
    figure_layout = layout(
        theme,
        height=height,
        uirevision=f"stage {stage.step}",
        xaxis=blank,
        yaxis={**blank, "autorange": "reversed"},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        plot_bgcolor=theme.surface,
    )
    return go.Figure({"data": [cells], "layout": figure_layout}, _validate=False)


def draw_codes(codes: Codes, theme: Theme = LIGHT, *, height: int = 320) -> go.Figure:
    """Above, how often each code occurs; below, its bits: Huffman's as bars, ideal ones as dots, equal ones a line."""
    shares, lengths = codes.shares[:MOST_BARS], codes.lengths[:MOST_BARS]
    places = list(range(1, len(shares) + 1))
    told = [
        f"{format_percent(share)} of the weights; Huffman {_bits(length)}, ideally {-math.log2(share):.2f}"
        for share, length in zip(shares.tolist(), lengths.tolist(), strict=True)
    ]
    bar = {"type": "bar", "x": places, "hovertext": told, "hovertemplate": "%{hovertext}<extra></extra>"}
    traces = [
        {
            **bar,
            "name": "Share of the weights",
            "y": (100 * shares).tolist(),
            "marker": {"color": theme.faint},
            "yaxis": "y2",
        },
        {**bar, "name": "Huffman", "y": lengths.tolist(), "marker": {"color": theme.accent}},
        {
            "type": "scatter",
            "name": "Ideal",
            "mode": "markers",
            "x": places,
            "y": (-np.log2(shares)).tolist(),
            "marker": {"color": ORANGE, "size": 6},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "name": "Equal lengths",
            "mode": "lines",
            "x": [0.5, len(places) + 0.5],
            "y": [codes.fixed, codes.fixed],
            "line": {"color": theme.text, "dash": "dash", "width": 1.5},
            "hoverinfo": "skip",
        },
    ]
    figure_layout = layout(
        theme,
        height=height,
        uirevision="codes",
        xaxis=axis(theme, "Codes, the most frequent first", nticks=8, anchor="y"),
        yaxis=axis(theme, "Bits", domain=[0, 0.52], nticks=5, rangemode="tozero"),
        yaxis2=axis(theme, "Weights (%)", domain=[0.6, 1], nticks=4, rangemode="tozero", anchor="x"),
        bargap=0.25,
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)
