"""The door: page config, navigation, theme, an outline while the libraries of the pages are imported.

Streamlit imports this file once, to serve it, and runs it for each session.
"""

import os
from pathlib import Path

import streamlit as st

from pages.components import menu, outline, serving, visitors
from pages.components.turns import TURNS

# OpenMP threads that wait soon sleep: the page, and often the browser, share these cores. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

ASSETS = Path(__file__).parent / "assets"


def door() -> None:
    """One run of a session: who may come in, and the page that it is on."""
    st.set_page_config(page_title="Paretoscope", page_icon=str(ASSETS / "icon.svg"), layout="wide")
    st.html(ASSETS / "page.css")
    st.logo(
        str(ASSETS / f"logo-{st.context.theme.type or 'light'}.svg"), size="large", icon_image=str(ASSETS / "icon.svg")
    )

    # No url_path may equal a file name in pages/: before its first run Streamlit would serve that file without this.
    page, pages = menu.navigation(
        [
            st.Page(
                "pages/explore.py", title="Explore", icon=":material/scatter_plot:", url_path="trade-off", default=True
            ),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare:", url_path="side-by-side"),
            st.Page("pages/networks.py", title="Networks", icon=":material/library_add:", url_path="your-own"),
            st.Page("pages/layers.py", title="Layers", icon=":material/layers:", url_path="layer-by-layer"),
            st.Page("pages/latency.py", title="Latency", icon=":material/speed:", url_path="how-fast"),
            st.Page("pages/recover.py", title="Recover", icon=":material/healing:", url_path="win-back"),
            st.Page("pages/export.py", title="Export", icon=":material/download:", url_path="other-formats"),
            st.Page("pages/methods.py", title="Methods", icon=":material/menu_book:", url_path="how-it-works"),
            st.Page("pages/present.py", title="Present", url_path="on-stage", visibility="hidden"),
        ],
    )
    visitors.stay_home()
    visitors.let_in()
    visitors.check_settings()
    visitors.name()
    visitors.leave()
    menu.follow()
    menu.row(pages)
    place = st.empty()
    if serving.importing():
        outline.draw(place)
        serving.wait()
        place.empty()
    with TURNS.turn(visitors.session()):
        page.run()


if __name__ == "__main__":
    door()
else:
    app = st.App(__file__, routes=serving.routes(), middleware=serving.middleware(), lifespan=serving.lifespan)
