"""What a step does to sixteen weights: their values before and after it, and the bits that their codes take.

The weights are real ones of a layer, and the package's own methods run on them, as if they were all of one output
channel. The picture is an SVG whose colours are variables of the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from paretoscope.base.errors import CompressionError
from paretoscope.codec import write_streams
from paretoscope.codec.codes import steps
from paretoscope.codec.streams import code_lengths
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers
from paretoscope.recipe.recipe import FULL_PRECISION, Recipe
from paretoscope.recipe.steps.code import Coder
from paretoscope.recipe.steps.quantize import Calibration

COUNT = 16
FLOAT_BITS = 32
# The steps on weights, in their order, and the one that writes them down.
STEPS = ("prune", "share", "quantize", "code")
# Settings that sixteen weights of one channel can show: what they do depends on nothing beside these weights.
PICTURED = frozenset(
    {
        *("sparsity", "threshold", "pattern"),
        *("clusters", "start", "population"),
        *("bits", "percentile", "symmetric", "power_of_two", "ternary"),
        "coder",
    }
)
# What a weight that stands alone is called.
WEIGHT = "weight"


@dataclass(frozen=True, eq=False, slots=True)
class Lesson:
    """Sixteen weights before and after a step.

    layer: where they are from. step: one of STEPS. before, after: float32 (16,). codes: what is written of each
    weight, int64 (16,), None for floats. bits: what each code takes by how often it occurs, float64 (16,), None for
    floats. written: bits that all of it takes in a file: codes, shared values, scales, tables. coder: whose bits they
    are. does: whether the recipe has that step.
    """

    layer: str
    step: str
    before: np.ndarray
    after: np.ndarray
    codes: np.ndarray | None
    bits: np.ndarray | None
    written: int
    coder: Coder
    does: bool

    @property
    def told(self) -> str:
        """What the step did, in a sentence."""
        kept = int(np.count_nonzero(self.after))
        values = len(np.unique(self.after[self.after != 0]))
        if self.step == "code" and self.bits is None:
            return "Floats are written as they are: share or round them to have codes that repeat."
        if self.step == "code" and self.bits is not None:
            least, most = _few(self.bits.min()), _few(self.bits.max())
            return f"Bits of a code: {least} of the most frequent one, {most} of the rarest."
        if not self.does:
            return "Off: every weight stays as it is."
        if self.step == "prune":
            return f"{COUNT - kept} of {COUNT} became zero; the larger ones stay as they are."
        if self.step == "share":
            return f"Shared values: {values}. Each of the {kept} weights says which one it uses."
        return f"Rounded to whole steps. Different values left beside zero: {values}."

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        return f"Sixteen weights of {self.layer} before and after. {self.told}"


def sixteen(layer: LayerStatistics) -> np.ndarray:
    """Weights of a layer at even ranks, from its smallest to its largest, in the order in which they stand in it.

    float32 (16,); a layer of fewer weights repeats some.
    """
    ranks = (np.arange(COUNT) + 0.5) / COUNT * len(layer.ordered)
    values = layer.ordered[ranks.astype(np.int64)]
    flat = layer.weight.reshape(-1)
    places = [int(np.argmax(flat == value)) for value in values]
    return values[np.argsort(places, kind="stable")]


def gather(weights: np.ndarray, recipe: Recipe, step: str, *, layer: str = "") -> Lesson:
    """Run a recipe's steps on sixteen weights, up to one of STEPS. weights: float32 (16,). Raises CompressionError."""
    if step not in STEPS:
        raise CompressionError(f"a step must be one of {', '.join(STEPS)}; got {step!r}. Pass one of these names.")
    at = STEPS.index(step)
    before, after = (alone(weights.reshape(1, -1), recipe, STEPS[:count]) for count in (at, at + 1))
    codes = codes_of(after.weights[WEIGHT])
    coder = Coder.HUFFMAN if recipe.code.coder == Coder.HUFFMAN else Coder.ANS
    return Lesson(
        layer=layer,
        step=step,
        before=before.decode(WEIGHT).reshape(-1),
        after=after.decode(WEIGHT).reshape(-1),
        codes=codes,
        bits=None if codes is None else _bits(codes, coder),
        written=math.ceil(written_bits(after, coder)),
        coder=coder,
        does=step == "code" or getattr(recipe, step) is not None,
    )


def alone(weight: np.ndarray, recipe: Recipe, steps: Sequence[str]) -> CompressedModel:
    """A weight (float32, output channels first) after some of a recipe's steps on weights, as a model of its own.

    What only a whole network has is left out: training, repair, overrides, steps that are allotted over its layers.
    """
    statistics = ModelStatistics.of_arrays({WEIGHT: weight}, {}, (WEIGHT,))
    prune, share, quantize = (getattr(recipe, name) if name in steps else None for name in STEPS[:-1])
    if quantize is not None:
        # By rate, the steps of all layers are chosen together; alone, the largest weight says how long a step is.
        by_rate = quantize.calibration == Calibration.RATE
        calibration = Calibration.RANGE.value if by_rate else quantize.calibration
        quantize = replace(quantize, activations=FULL_PRECISION, calibration=calibration)
    return compress(statistics, Recipe(prune=prune, share=share, quantize=quantize))


def written_bits(model: CompressedModel, coder: Coder) -> float:
    """Bits that the streams of such a model take in a file: codes with their tables, shared values, scales."""
    streams = write_streams(model, coder)
    return streams.bits[WEIGHT] + streams.side_bits


def codes_of(tensor: CompressedTensor) -> np.ndarray | None:
    """What is coded of each weight, int64 and flat; None for floats, which are written as they are."""
    match tensor:
        case Codebook(indices=indices):
            return indices.reshape(-1).astype(np.int64)
        case Integers():
            return steps(tensor).reshape(-1).astype(np.int64)
    return None


def _bits(codes: np.ndarray, coder: Coder) -> np.ndarray:
    """Bits of each code by how often it occurs: whole ones by Huffman's code, else its information."""
    _, at, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if len(counts) == 1:
        return np.zeros(len(codes))
    lengths = code_lengths(counts) if coder == Coder.HUFFMAN else np.log2(len(codes) / counts)
    bits: np.ndarray = lengths[at].astype(np.float64)
    return bits


def _few(value: float) -> str:
    """One digit behind the point, or none."""
    return f"{value:.1f}".removesuffix(".0")


# The picture, in its own units: two squares of four by four cells, a line of values, a bar of bits.
CELL, GAP, TOP = 27, 48, 18
WIDTH, HEIGHT = 8 * CELL + GAP, 254
LINE, FOOT, BAR = 142, 182, 232

STYLE = """
.lesson { --ink: var(--st-text-color, #1b2430); --up: var(--st-primary-color, #0072b2); --down: #e69f00;
  --quiet: color-mix(in srgb, var(--ink) 70%, transparent); --line: color-mix(in srgb, var(--ink) 22%, transparent); }
.lesson svg { display: block; width: 100%; max-width: 26rem; font: 11px var(--st-font, sans-serif); }
.lesson text { fill: var(--ink); } .lesson .quiet { fill: var(--quiet); }
.lesson .cell { stroke: var(--line); } .lesson .none { fill: none; stroke-dasharray: 2 2; }
.lesson .up { fill: var(--up); } .lesson .down { fill: var(--down); }
.lesson .move { stroke: var(--line); } .lesson .tick { stroke: var(--quiet); } .lesson .axis { stroke: var(--line); }
.lesson .bar { fill: var(--line); }
"""


def draw(lesson: Lesson) -> str:
    """The picture as SVG, in colours of STYLE: before and after as squares and as places on a line, and the bits."""
    largest = float(np.abs(np.concatenate([lesson.before, lesson.after])).max()) or 1.0
    power = 1 - math.floor(math.log10(largest))
    right = 4 * CELL + GAP
    after = _cells(lesson.after, power, largest, right)
    if lesson.step == "code" and lesson.bits is not None:
        after = _cells(lesson.bits, 0, float(lesson.bits.max()) or 1.0, right, zeros=False)
    middle = TOP + 2 * CELL
    parts = [
        _text(0, 11, f"before, x {10**power:g}" if power >= 0 else f"before, x 1e{power}", "quiet"),
        _text(
            right, 11, "bits of each code" if lesson.step == "code" and lesson.bits is not None else "after", "quiet"
        ),
        *_cells(lesson.before, power, largest, 0),
        *after,
        f'<path class="tick" fill="none" d="M{4 * CELL + 10} {middle}h{GAP - 20}m-6 -5l6 5l-6 5"/>',
        *_places(lesson, largest),
        _text(0, BAR - 8, f"{lesson.written} bits in a file, of {COUNT * FLOAT_BITS} as floats", "quiet"),
        f'<rect class="bar" y="{BAR}" width="{WIDTH}" height="12" rx="2"/>',
        f'<rect class="up" y="{BAR}" width="{WIDTH * min(1.0, lesson.written / (COUNT * FLOAT_BITS)):.1f}" height="12" '
        'rx="2"/>',
    ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _cells(values: np.ndarray, power: int, largest: float, left: float, *, zeros: bool = True) -> list[str]:
    """Four by four values, the larger the stronger; zeros are empty."""
    parts = []
    for at, value in enumerate(values.tolist()):
        x, y = left + at % 4 * CELL, TOP + at // 4 * CELL
        size = f'x="{x:g}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" rx="3"'
        parts.append(f'<rect class="cell none" {size}/>')
        if value or not zeros:
            strength = 0.12 + 0.5 * abs(value) / largest
            parts.append(f'<rect class="{"down" if value < 0 else "up"}" fill-opacity="{strength:.2f}" {size}/>')
        parts.append(
            _text(x + CELL / 2 - 1, y + CELL / 2 + 3, _short(value * 10.0**power), "" if value else "quiet", "middle")
        )
    return parts


def _short(value: float) -> str:
    """A number for a cell: two digits at most, so that a small one is no zero."""
    return "0" if value == 0 else f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"


def _places(lesson: Lesson, largest: float) -> list[str]:
    """Where the weights lie before (ticks above) and after (dots below), each joined with itself."""

    def place(value: float) -> float:
        return WIDTH / 2 * (1 + 0.96 * value / largest)

    parts = [f'<path class="axis" d="M0 {LINE}h{WIDTH}M0 {FOOT}h{WIDTH}"/>']
    for old, new in zip(lesson.before.tolist(), lesson.after.tolist(), strict=True):
        parts.append(f'<path class="move" d="M{place(old):.1f} {LINE}L{place(new):.1f} {FOOT}"/>')
        parts.append(f'<path class="tick" d="M{place(old):.1f} {LINE - 6}v6"/>')
    for value, count in zip(*np.unique(lesson.after, return_counts=True), strict=True):
        kind = "quiet" if value == 0 else "down" if value < 0 else "up"
        parts.append(
            f'<circle class="{kind}" cx="{place(float(value)):.1f}" cy="{FOOT}" r="{2 + math.sqrt(count):.1f}"/>'
        )
    return [*parts, _text(WIDTH / 2, FOOT + 18, "0", "quiet", "middle")]
