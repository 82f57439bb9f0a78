"""What a page shows before it knows anything."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator


def draw(place: DeltaGenerator) -> None:
    """What every page begins with, in grey: a line on top, two figures, a row below. Emptying the place ends it."""
    with place.container():
        st.skeleton(height=72)
        for columns, height in ((2, 330), (5, 110)):
            for column in st.columns(columns):
                column.skeleton(height=height)
