"""The door: page config, navigation, theme."""

from pathlib import Path

import streamlit as st

ASSETS = Path(__file__).parent / "assets"

st.set_page_config(page_title="Paretoscope", page_icon=str(ASSETS / "icon.svg"), layout="wide")
st.logo(str(ASSETS / f"logo-{st.context.theme.type or 'light'}.svg"), size="large", icon_image=str(ASSETS / "icon.svg"))

st.navigation(
    [
        st.Page("pages/explore.py", title="Explore", icon=":material/scatter_plot:", url_path="explore", default=True),
        st.Page("pages/methods.py", title="Methods", icon=":material/menu_book:", url_path="methods"),
    ],
    position="top",
).run()
