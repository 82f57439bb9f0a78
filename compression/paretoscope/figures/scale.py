"""The axis of a figure in [0, 1], such as accuracy: linear where decisions are made, compressed below.

A collapsed model must stay in view, but one at 10 % would squash the 95..100 % in which recipes are compared.
An error axis (log of 1 - share) keeps both apart, but makes 0.3 points look like 5, and has no place for 100 %.
So the axis is linear from `floor` upwards and, only when there is a point below the floor, a strip under it holds
the rest, linear too, in its own scale. The map is continuous and increasing: no point hides, no order is changed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paretoscope.figures.theme import Theme, axis
from paretoscope.tasks import Words

WINDOW = 0.12  # below the baseline by more than this, a model has collapsed: it goes to the strip
STRIP = 0.22  # height of the strip, relative to the linear part
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class ShareScale:
    """From a share in [0, 1] to an axis in percent.

    floor: where the linear part begins. broken: whether [0, floor] is compressed into a strip below it.
    """

    floor: float
    broken: bool

    def position(self, share: float) -> float:
        """Place on the axis; percent wherever the axis is linear."""
        if not self.broken or share >= self.floor:
            return 100 * share
        strip = 100 * STRIP * (1 - self.floor)
        return 100 * self.floor - strip * (1 - share / self.floor)

    @property
    def range(self) -> tuple[float, float]:
        """Ends of the axis, with room for a marker at 100 % and at the lower end."""
        low = self.position(0.0) if self.broken else 100 * self.floor
        pad = 0.04 * (100 - low)
        return low - (pad if self.broken else 0.3 * pad), 100 + pad

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and labels in percent: about five in the linear part; 0 in the strip, and 50 where it has room."""
        step = next((s for s in STEPS if (1 - self.floor) / s <= 6), STEPS[-1])
        count = math.floor((1 - self.floor) / step + 1e-9)
        values = [1 - i * step for i in range(count, -1, -1)]
        if self.broken:
            values = [value for value in (0.0, 0.5) if value < self.floor - 0.35] + values
        return [self.position(value) for value in values], [f"{100 * value:.4g}" for value in values]


def share_axis(scale: ShareScale, words: Words, theme: Theme) -> dict[str, Any]:
    """The y axis of every figure of a task's headline figure."""
    ticks, labels = scale.ticks
    return axis(theme, words.axis, range=list(scale.range), tickvals=ticks, ticktext=labels)


def strip(scale: ShareScale, theme: Theme) -> list[dict[str, Any]]:
    """The shape that shades the compressed strip; none where the axis is not broken."""
    if not scale.broken:
        return []
    ends = {"x0": 0, "x1": 1, "y0": scale.range[0], "y1": scale.position(scale.floor)}
    return [{"type": "rect", "xref": "paper", **ends, "fillcolor": theme.band, "line": {"width": 0}, "layer": "below"}]


def share_scale(values: Iterable[float], baseline: float) -> ShareScale:
    """The scale on which all these shares (and ends of intervals) are well seen beside the baseline's."""
    seen = [baseline, *values]
    near = [value for value in seen if value >= baseline - WINDOW]
    # At least two points: on less, sampling noise would look like a landscape.
    low = max(0.0, min(min(near), baseline - 0.02))
    step = next(s for s in STEPS if (1 - low) / s <= 6 or s == STEPS[-1])
    floor = round(math.floor(low / step + 1e-9) * step, 9)
    if floor > low:
        floor = max(0.0, round(floor - step, 9))
    return ShareScale(floor, broken=min(seen) < floor)
