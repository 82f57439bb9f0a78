"""Ratios in words, written one way everywhere: the larger over the smaller, and which way round it goes.

Speed-ups have two decimals below 10, one below 100 and none above, and as many more as it takes to differ from 1: so a
rounded interval contains 1 just where the interval itself does. Ratios of sizes have one decimal.
"""

from dataclasses import dataclass

from paretoscope.base.text import listed
from paretoscope.base.units import format_percent
from paretoscope.measure.record import Latency, Touched
from paretoscope.recipe.recipe import Recipe

UNDECIDED = "not known yet"
UNDECIDED_WHY = (
    "The interval is too wide to say: the machine was busy. It is timed again, and no other recipe takes it over."
)
NOT_ALONE = "timed without the machine's lock: other work may have run beside it"


# Below this share of the parameters it is said what a recipe did not act on.
MUCH = 0.9


def share_touched(touched: Touched | None) -> str:
    """The share of the parameters that a recipe acted on: "touched 99.8 %"; "" where it is not known."""
    return "" if touched is None else f"touched {format_percent(touched.share)}"


def untouched(touched: Touched | None, recipe: Recipe) -> str:
    """What a recipe left as it was, where that is much and the recipe was to change weights; else ""."""
    acts = recipe.prune or recipe.share or recipe.quantize or recipe.overrides or recipe.recover
    if touched is None or touched.share >= MUCH or not acts:
        return ""
    left = [f"{kind} ({format_percent(share)})" for kind, share in touched.left]
    return (
        f"The recipe acts on {format_percent(touched.share)} of the parameters only. As they were, of all parameters: "
        f"{listed(left)}."
    )


def verdict(distinguishable: bool, change: float) -> str:
    """What a paired test says of a change to the baseline, in plain words: "no measurable loss"."""
    if not distinguishable:
        return "no measurable loss"
    return "measurable loss" if change < 0 else "measurable gain"


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed-up in words: "1.25x slower" and "[1.23, 1.27]"; "as fast", or "not known yet", with that of the ratio."""

    words: str
    interval: str

    def __str__(self) -> str:
        return f"{self.words} {self.interval}"


def speed(latency: Latency) -> Speed:
    """The speed-up of a timing."""
    low, high = latency.speedup_low, latency.speedup_high
    if not latency.decided:
        return Speed(UNDECIDED, _interval(low, high))
    return speed_between(latency.speedup, low, high)


def speed_between(ratio: float, low: float, high: float) -> Speed:
    """A ratio of the baseline's time to another's, with its interval."""
    if low <= 1 <= high:
        return Speed("as fast", _interval(low, high))
    way = "faster" if low > 1 else "slower"
    if way == "slower":
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    return Speed(f"{ratio:.{_decimals(low, high)}f}x {way}", _interval(low, high))


def faster(ratio: float) -> str:
    """A ratio of times that is known without an interval, e.g. an estimate's: "1.25x slower"."""
    return speed_between(ratio, ratio, ratio).words


def size_ratio(ratio: float) -> str:
    """A ratio of sizes, one decimal, e.g. "27.5x"; more where that would be 1 or 0."""
    decimals = 1
    while decimals < 6 and float(f"{ratio:.{decimals}f}") in (0, 1) and ratio != 1:
        decimals += 1
    return f"{ratio:.{decimals}f}x"


def smaller(ratio: float) -> str:
    """A compression ratio: "27.5x smaller", "1.2x larger", "the same size"."""
    if 0.995 < ratio < 1.005:
        return "the same size"
    return f"{size_ratio(ratio)} smaller" if ratio > 1 else f"{size_ratio(1 / ratio)} larger"


def _interval(low: float, high: float) -> str:
    decimals = _decimals(low, high)
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def _decimals(low: float, high: float) -> int:
    decimals = 2 if high < 9.995 else 1 if high < 99.95 else 0
    while decimals < 6 and any((round(end, decimals) == 1) != (end == 1) for end in (low, high)):
        decimals += 1
    return decimals
