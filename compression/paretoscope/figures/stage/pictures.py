"""The moving pictures of the stage: SVG whose resting state is the end; CSS animations bring it there.

Whoever wants less motion sees the end at once (`prefers-reduced-motion` in stage.css).
"""

import math
import struct
from collections.abc import Sequence

from paretoscope.measure.stage import Shot, Slide, Step
from paretoscope.tasks import BaselineFigures, Words

WIDTH, HEIGHT = 720, 300
COLUMNS = 16
CELL = 40
# Weights whose bits are drawn, pixels of a bit, and values whose words are.
ROWS, BIT, BARS = 6, 11, 33


def draw(slide: Slide, originals: Sequence[float], baseline: BaselineFigures, words: Words) -> str:
    """The picture of a step; originals: weights of the baseline. What is not measured has no picture."""
    if slide.step is Step.BASELINE:
        return _picture(_cells(originals, originals), "Weights of the largest layer; the stronger, the larger")
    shot = slide.shot
    if shot is None:
        return _picture("", "Not measured yet")
    match slide.step:
        case Step.INT8:
            return _picture(_bits(originals, shot), "The bits of some weights, as floats and as whole numbers")
        case Step.PRUNE:
            return _picture(_cells(originals, shot.weights), "The same weights: the smallest are gone")
        case Step.SHARE:
            return _picture(_shared(originals, shot), "Each weight moves to the nearest shared value")
        case Step.CODE:
            return _picture(_coded(shot), "How often each value occurs in the layer, and the bits of its word")
        case _:
            return _picture(_trained(slide, shot, baseline, words), f"{words.title} without training and with it")


def _picture(drawn: str, told: str) -> str:
    drawn = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">{drawn}</svg>'
    return f'{drawn}<p class="ps-told">{told}.</p>'


def _strength(value: float, most: float) -> float:
    return 0.12 + 0.88 * min(1.0, abs(value) / most) if value else 0.0


def _cells(before: Sequence[float], after: Sequence[float]) -> str:
    """Weights as cells; those that become zero fade, the smallest first."""
    most = max(map(abs, before), default=1.0) or 1.0
    order = {at: rank for rank, at in enumerate(sorted(range(len(before)), key=lambda at: abs(before[at])))}
    found = []
    left, top = (WIDTH - COLUMNS * CELL) / 2, (HEIGHT - CELL * -(-len(before) // COLUMNS)) / 2
    for at, value in enumerate(before):
        x, y = left + CELL * (at % COLUMNS), top + CELL * (at // COLUMNS)
        gone = after is not before and at < len(after) and not after[at]
        kind = "ps-gone" if gone else "ps-cell" if after is before else "ps-stays"
        wait = 0.4 + 0.025 * order[at] if gone else 0.012 * at
        sign = "ps-plus" if value >= 0 else "ps-minus"
        found.append(f'<rect class="ps-hole" x="{x + 2:.0f}" y="{y + 2:.0f}" width="36" height="36" rx="5"/>')
        found.append(
            f'<rect class="{kind} {sign}" style="--o:{_strength(value, most):.2f};--wait:{wait:.2f}s" '
            f'x="{x + 2:.0f}" y="{y + 2:.0f}" width="36" height="36" rx="5"/>'
        )
    return "".join(found)


def _bits(originals: Sequence[float], shot: Shot) -> str:
    """The 32 bits of a float, of which 8 stay: those of its whole number."""
    found = []
    for row, (value, code) in enumerate(list(zip(originals, shot.codes, strict=False))[:ROWS]):
        y = 22 + 46 * row
        found.append(f'<text x="8" y="{y + 15}" class="ps-number">{value:+.6f}</text>')
        (word,) = struct.unpack(">I", struct.pack(">f", value))
        for at in range(32):
            one = (word >> (31 - at)) & 1
            wait = 0.5 + 0.12 * row + 0.02 * (31 - at)
            found.append(
                f'<rect class="ps-bit ps-drop{" ps-one" * one}" style="--wait:{wait:.2f}s" x="{128 + BIT * at}" '
                f'y="{y}" width="{BIT - 2}" height="20" rx="2"/>'
            )
        wait = 1.2 + 0.12 * row
        found.append(f'<g class="ps-come" style="--wait:{wait:.2f}s">')
        found.append(f'<text x="500" y="{y + 16}" class="ps-arrow">→</text>')
        for at in range(8):
            one = ((code & 0xFF) >> (7 - at)) & 1
            found.append(
                f'<rect class="ps-bit ps-kept{" ps-one" * one}" x="{536 + BIT * at}" y="{y}" width="{BIT - 2}" '
                'height="20" rx="2"/>'
            )
        found.append(f'<text x="636" y="{y + 15}" class="ps-number">{code:+d}</text></g>')
    return "".join(found)


def _shared(originals: Sequence[float], shot: Shot) -> str:
    """Each weight as a dot that moves along the axis to the value that it shares."""
    ends = [*originals, *shot.weights] or [-1.0, 1.0]
    low, high = min(ends), max(ends)

    def x(value: float) -> float:
        return 30 + (WIDTH - 60) * (value - low) / ((high - low) or 1.0)

    inside = [value for value, _ in shot.counts if low <= value <= high]
    found = [f'<path class="ps-level" d="M{x(value):.1f} 24V276"/>' for value in inside]
    for at, (value, after) in enumerate(zip(originals, shot.weights, strict=False)):
        y = 34 + 234 * (at * 29 % 64) / 63
        zero = "ps-zero" if not after else "ps-dot"
        found.append(
            f'<circle class="{zero}" style="--from:{x(value) - x(after):.1f}px;--wait:{0.5 + 0.012 * at:.2f}s" '
            f'cx="{x(after):.1f}" cy="{y:.1f}" r="5"/>'
        )
    return "".join(found)


def _coded(shot: Shot) -> str:
    """Bars of how often values occur, and below each the bits of its word: about -log2 of its share."""
    total = sum(count for _, count in shot.counts)
    shown = sorted(sorted(shot.counts, key=lambda each: -each[1])[:BARS])
    if not shown:
        return ""
    most, gap = max(count for _, count in shown), (WIDTH - 40) / len(shown)
    found = []
    for at, (_, count) in enumerate(shown):
        x, height = 20 + gap * at, 150 * math.sqrt(count / most)
        bits = max(1, round(-math.log2(count / total)))
        wait = 0.02 * at
        found.append(
            f'<rect class="ps-bar" style="--wait:{wait:.2f}s" x="{x:.1f}" y="{160 - height:.1f}" '
            f'width="{gap - 3:.1f}" height="{height:.1f}" rx="2"/>'
        )
        for bit in range(bits):
            found.append(
                f'<rect class="ps-word" style="--wait:{0.9 + 0.05 * bit + wait:.2f}s" x="{x:.1f}" y="{168 + 8 * bit}" '
                f'width="{gap - 3:.1f}" height="6" rx="1"/>'
            )
    return "".join(found)


def _trained(slide: Slide, shot: Shot, baseline: BaselineFigures, words: Words) -> str:
    """The figure as bars: of the baseline, of the recipe without its training, and with it."""
    value = shot.record.figures.value
    bars = [("baseline", baseline.value, baseline.value)]
    if slide.untrained is not None:
        bars.append(("without training", slide.untrained, slide.untrained))
    bars.append(("trained", value, slide.untrained if slide.untrained is not None else value))
    found = []
    for at, (name, end, start) in enumerate(bars):
        y, long = 40 + 80 * at, 420 * max(0.0, min(1.0, end))
        kind = "ps-rise" if start != end else "ps-still"
        share = start / end if end else 1.0
        found.append(f'<text x="150" y="{y + 27}" text-anchor="end" class="ps-number">{name}</text>')
        found.append(
            f'<rect class="{kind}{" ps-best" * (name == "trained")}" style="--share:{share:.3f};--wait:0.6s" x="166" '
            f'y="{y}" width="{long:.1f}" height="40" rx="4"/>'
        )
        found.append(f'<text x="{176 + long:.0f}" y="{y + 27}" class="ps-number">{words.value(end)}</text>')
    return "".join(found)
