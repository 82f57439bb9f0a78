"""Figures on the screen.

Streamlit's own chart element is mounted anew whenever its figure changes, which takes longer than all the rest of a
slider move and loses the zoom. This one redraws in place (Plotly.react), with the Plotly that made the figures.
"""

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st
from paretoscope.figures import theme

from pages.components import serving

# A file of the server's, which the browser keeps: what comes over the websocket it would be sent with every visit.
_LIBRARY = st.components.v2.component("plotly", js=(Path(__file__).parent / "library.js").read_text())
_FIGURE = st.components.v2.component(
    "figure",
    html='<div class="figure" role="img"></div>',
    css=".figure { width: 100%; }",
    js=(Path(__file__).parent / "figure.js").read_text(),
    isolate_styles=False,
)


def library() -> None:
    """Bring Plotly to the browser, and draw anew when its colours change; call on every page with figures."""
    data = {"source": serving.address(serving.PLOTLY), "scheme": st.context.theme.type or "light"}
    _LIBRARY(key="plotly", data=data, on_scheme_change=_nothing)


def show(figure: go.Figure, key: str, *, alt: str, on_click: Callable[[str], None] | None = None) -> None:
    """Draw a figure. `alt` says in a sentence what it shows.

    on_click: called, before the page runs again, with the first item of a clicked point's customdata.
    """
    clicked = (lambda: on_click(st.session_state[key].point)) if on_click else _nothing
    data = {"figure": figure.to_json(), "config": theme.CONFIG, "alt": alt}
    _FIGURE(key=key, data=data, height=int(figure.layout.height), on_point_change=clicked)


def _nothing() -> None:
    pass
