"""The explorer on the screen: its two plots, and all that was tried.

What the browser has of a model's records it keeps, also over other pages: a run sends what is new. Where the browser
lacks what was sent before (a message that a quicker run has overtaken), it asks for it, and gets all from there on.
"""

import json
from collections.abc import Callable

import streamlit as st
from paretoscope.figures import explorer
from paretoscope.figures.explorer import Scene

PLOTS, TRIED = "plots", "tried"

_MOUNT = """
export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".explorer");
  const send = (name, value) => setTriggerValue(name, value);
  DRAW(root, JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data)), send);
}
"""


def _component(name: str, function: str):
    return st.components.v2.component(
        name,
        html='<div class="explorer"></div>',
        css=explorer.style(),
        js=explorer.script() + _MOUNT.replace("DRAW", function),
        isolate_styles=False,
    )


_PLOTS = _component("explorer_plots", "drawPlots")
_TRIED = _component("explorer_tried", "drawTried")


def since(board: str) -> int:
    """How many changes of a board this session has sent to its browser."""
    sent = st.session_state.setdefault("sent", {})
    if board not in sent:
        # A browser keeps the boards that it drew last (`kept` in base.js).
        sent.clear()
    return sent.get(board, 0)


def plots(scene: Scene, load: Callable[[str], None], key: str = PLOTS) -> None:
    """Draw the two plots. load: called with the digest of a chosen recipe before the page runs again."""
    _PLOTS(
        key=key,
        data=scene.data.encode(),
        on_load_change=lambda: load(st.session_state[key].load),
        on_resend_change=lambda: st.session_state.sent.update({scene.board: int(st.session_state[key].resend or 0)}),
    )
    st.session_state.setdefault("sent", {})[scene.board] = scene.seen


def tried(scene: Scene, load: Callable[[str], None]) -> None:
    """Draw all that was tried, of the board that the plots show."""
    _TRIED(
        key=TRIED,
        data=json.dumps({"board": scene.board}).encode(),
        on_load_change=lambda: load(st.session_state[TRIED].load),
    )
