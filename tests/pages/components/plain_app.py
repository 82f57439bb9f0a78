"""A page for tests/pages/components/test_plain.py: each text of a file in everything that renders markdown."""

import json
import os
import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).parents[3]))
from pages.components import plain

TEXTS = json.loads(Path(os.environ["PLAIN_TEXTS"]).read_text())
for place, text in enumerate(TEXTS):
    shown = plain.escape(text)
    st.container(key=f"error_{place}").error(shown)
    st.container(key=f"item_{place}").markdown(f"- {shown}")
    st.container(key=f"heading_{place}").markdown(f"#### :green[{shown}]")
    st.container(key=f"caption_{place}").caption(shown)
    st.container(key=f"button_{place}").button(shown, key=f"press_{place}")
    st.container(key=f"metric_{place}").metric(shown, 1)
    st.container(key=f"expander_{place}").expander(shown)
    st.container(key=f"progress_{place}").progress(0.5, text=shown)
st.button("Help", key="help", help=" ".join(map(plain.escape, TEXTS)))
st.container(key="end").write("end")
