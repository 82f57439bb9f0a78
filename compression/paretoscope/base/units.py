"""Quantities as text: bytes, percentages, times."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of size: `factor` bytes."""

    name: str
    factor: int


UNITS = (Unit("B", 1), Unit("KB", 1000), Unit("MB", 1000**2), Unit("GB", 1000**3))


def bytes_unit(values: Iterable[float]) -> Unit:
    """The unit for an axis over these numbers of bytes: the largest in which their geometric mean is at least 1."""
    logs = [math.log(value) for value in values if value > 0]
    return _unit(math.exp(sum(logs) / len(logs)) * (1 + 1e-9) if logs else 1.0)


def _unit(size: float) -> Unit:
    for unit in reversed(UNITS):
        if size >= unit.factor:
            return unit
    return UNITS[0]


def _significant(value: float, digits: int = 3) -> str:
    """That many significant digits at most, all digits before the point, no exponent down to 0.0001."""
    return f"{value:.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def format_bytes(size: float, unit: Unit | None = None) -> str:
    """Three significant digits, e.g. "31.2 KB"; in the largest unit that gives at least 1 unless one is stated."""
    # 999 700 bytes would be written as "1000 KB": choose by what will be shown.
    unit = unit or _unit(size * 1.0005)
    return f"{_significant(size / unit.factor)} {unit.name}"


def format_percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage, e.g. 0.995 -> "99.5 %". Only exactly 1 is "100 %", only exactly 0 is "0 %"."""
    percent = 100 * fraction
    if fraction in (0, 1):
        return f"{percent:.0f} %"
    while digits < 6 and float(f"{percent:.{digits}f}") in (0, 100):
        digits += 1
    return f"{percent:.{digits}f} %"


def format_points(difference: float, digits: int = 1) -> str:
    """A difference of two fractions in percentage points with its sign, e.g. -0.003 -> "-0.3 pt"."""
    text = f"{100 * difference:+.{digits}f}"
    return f"{text.lstrip('+-') if float(text) == 0 else text} pt"


def format_p(value: float) -> str:
    """The p-value of a test, e.g. "p = 0.29", "p < 0.001"."""
    return "p < 0.001" if value < 0.001 else f"p = {_significant(value, 2)}"


def format_ms(milliseconds: float) -> str:
    """Three significant digits above 1 ms and two below: timings repeat no better than that."""
    return f"{_significant(milliseconds, 3 if milliseconds >= 1 else 2)} ms"


def duration(seconds: float) -> str:
    """Two significant digits: "0.035 s", "8.1 s", "50 s", "2.5 min", "120 h"."""
    for unit, factor in (("s", 1), ("min", 60)):
        if seconds / factor < 99.5:
            return f"{seconds / factor:.2g} {unit}"
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours >= 9.95 else f"{hours:.2g} h"
