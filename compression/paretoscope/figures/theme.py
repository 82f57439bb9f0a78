"""How every figure looks, and how numbers are written: one accent, two themes, sensible digits.

Sizes are decimal, as on a data sheet: 1 KB = 1000 bytes, 1 MB = 1000 KB.
"""

import html
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import UnknownNameError

# Source Sans is what the page has; a report on its own falls back to what the machine has.
FONT = "'Source Sans', -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

# Okabe and Ito (2008), "Color Universal Design": told apart with every common form of colour blindness.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

# For the page: no mode bar over the data, and a double click goes back to the whole picture.
CONFIG: dict[str, Any] = {"displayModeBar": False, "responsive": True, "doubleClick": "reset"}


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a figure. `paper` and `plot` let the page shine through; `surface` is the colour of that page.

    palette: categories, the most legible on `surface` first; the accent is its first colour.
    alert: what got worse.
    """

    name: str
    paper: str
    plot: str
    surface: str
    text: str
    muted: str
    faint: str
    grid: str
    band: str
    accent: str
    alert: str
    palette: tuple[str, ...]


LIGHT = Theme(
    name="light",
    paper="rgba(0,0,0,0)",
    plot="rgba(0,0,0,0)",
    surface="#FFFFFF",
    text="#1B2430",
    muted="#5B6778",
    faint="#A9B3C0",
    grid="#E7EBF0",
    band="#F3F5F8",
    accent=BLUE,
    alert=VERMILLION,
    palette=(BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW),
)
DARK = Theme(
    name="dark",
    paper="rgba(0,0,0,0)",
    plot="rgba(0,0,0,0)",
    surface="#10151C",
    text="#E6EBF2",
    muted="#98A4B5",
    faint="#5A6675",
    grid="#252E3A",
    band="#19212B",
    accent=SKY,
    alert=VERMILLION,
    palette=(SKY, ORANGE, GREEN, PURPLE, VERMILLION, YELLOW, BLUE),
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def named(name: str | None) -> Theme:
    """The theme "light" or "dark"; None, where the browser has not said yet, is light."""
    try:
        return THEMES[name or LIGHT.name]
    except KeyError:
        options = ", ".join(THEMES)
        raise UnknownNameError(f"a theme must be one of {options}; got {name!r}. Pass one of these names.") from None


def fade(colour: str, alpha: float) -> str:
    """A "#rrggbb" colour with an opacity, as CSS."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def literal(text: str) -> str:
    """Text from outside for hovers, ticks and legends, of which Plotly takes tags and entities as HTML."""
    return html.escape(text, quote=False)


def axis(theme: Theme, title: str | None = None, **settings: Any) -> dict[str, Any]:
    """An axis with a quiet grid and its title, which carries the unit."""
    return {
        "title": {"text": title, "font": {"size": 13, "color": theme.muted}, "standoff": 8},
        "tickfont": {"size": 13, "color": theme.muted},
        "gridcolor": theme.grid,
        "gridwidth": 1,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "automargin": True,
        **settings,
    }


def layout(theme: Theme, *, height: int, uirevision: str = "figure", **settings: Any) -> dict[str, Any]:
    """What all layouts share. A viewer's zoom survives a redraw for as long as `uirevision` stays the same."""
    return {
        # An empty template: plotly's own would be sent along with every figure.
        "template": {},
        "height": height,
        "autosize": True,
        "paper_bgcolor": theme.paper,
        "plot_bgcolor": theme.plot,
        "font": {"family": FONT, "size": 13, "color": theme.text},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "uirevision": uirevision,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": theme.surface,
            "bordercolor": theme.grid,
            "font": {"family": FONT, "size": 13, "color": theme.text},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12, "color": theme.muted},
            "bgcolor": theme.paper,
            "itemsizing": "trace",
            "itemwidth": 30,
        },
        **settings,
    }
