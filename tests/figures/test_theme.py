import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.base.errors import UnknownNameError
from paretoscope.base.units import (
    UNITS,
    Unit,
    bytes_unit,
    format_bytes,
    format_ms,
    format_p,
    format_percent,
    format_points,
)
from paretoscope.figures.theme import DARK, LIGHT, THEMES, fade, named

CONFIG = Path(__file__).parents[2] / ".streamlit" / "config.toml"


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999.4, "999 B"),
        (999.6, "1 KB"),
        (1000, "1 KB"),
        (31_234, "31.2 KB"),
        (285_400, "285 KB"),
        (999_700, "1 MB"),
        (1_112_000, "1.11 MB"),
        (46_830_000, "46.8 MB"),
        (2_000_000_000_000, "2000 GB"),
    ],
)
def test_bytes_have_three_digits_and_decimal_units(size, text):
    assert format_bytes(size) == text


def test_bytes_in_a_stated_unit():
    assert format_bytes(1_112_000, Unit("KB", 1000)) == "1112 KB"


@given(st.lists(st.floats(1, 900), min_size=1, max_size=9))
def test_a_thousand_times_larger_values_take_the_next_unit(values):
    unit = bytes_unit(values)
    assert unit == UNITS[0]
    assert bytes_unit([1000 * value for value in values]) == UNITS[1]
    assert bytes_unit([1_000_000 * value for value in values]) == UNITS[2]


def test_axis_unit_follows_the_geometric_mean():
    assert bytes_unit([10_000, 1_000_000]).name == "KB"
    assert bytes_unit([999]).name == "B"
    assert bytes_unit([1000]).name == "KB"
    assert bytes_unit([]).name == "B"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0 %"), (1, "100 %"), (0.995, "99.5 %"), (0.9996, "99.96 %"), (0.0004, "0.04 %"), (0.8, "80.0 %")],
)
def test_percent(fraction, text):
    assert format_percent(fraction) == text


@given(st.floats(1e-6, 1 - 1e-6))
def test_only_all_is_100_percent_and_only_none_is_0(fraction):
    assert 0 < float(format_percent(fraction).removesuffix(" %")) < 100


def test_points_p_values_and_milliseconds():
    assert format_points(-0.003) == "-0.3 pt"
    assert format_points(0.0125) == "+1.2 pt"
    assert format_points(-0.0001) == "0.0 pt"
    assert [format_p(p) for p in (1, 0.2893, 0.00123, 0.00099, 0)] == [
        "p = 1",
        "p = 0.29",
        "p = 0.0012",
        "p < 0.001",
        "p < 0.001",
    ]
    assert [format_ms(ms) for ms in (0.2149, 6.294, 12.44, 0.0523)] == ["0.21 ms", "6.29 ms", "12.4 ms", "0.052 ms"]


def test_named_themes():
    assert named("light") is LIGHT
    assert named("dark") is DARK
    assert named(None) is LIGHT
    with pytest.raises(UnknownNameError, match="light, dark"):
        named("solarized")


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_what_is_read_has_the_contrast_that_wcag_asks_for(theme):
    assert contrast(theme.text, theme.surface) >= 7
    assert contrast(theme.muted, theme.surface) >= 4.5
    assert contrast(theme.accent, theme.surface) >= 4.5
    assert contrast(theme.alert, theme.surface) >= 3
    assert contrast(theme.palette[1], theme.surface) >= 3
    assert theme.palette[0] == theme.accent
    assert len(set(theme.palette)) == len(theme.palette)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_the_page_has_the_figures_colours(theme):
    page = tomllib.loads(CONFIG.read_text())["theme"][theme.name]
    assert page["primaryColor"] == theme.accent
    assert page["backgroundColor"] == theme.surface
    assert page["secondaryBackgroundColor"] == theme.band
    assert page["textColor"] == theme.text
    assert tuple(page["chartCategoricalColors"]) == theme.palette


def test_fade():
    assert fade("#0072B2", 0.5) == "rgba(0,114,178,0.5)"
