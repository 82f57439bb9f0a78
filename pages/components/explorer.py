"""The explorer on the screen: its two plots, and all that was tried.

What the browser has of a model's records it keeps, also over other pages: a run sends what is new. Where the browser
lacks what was sent before (a message that a quicker run has overtaken), it asks for it, and gets all from there on.
"""

import json
from collections.abc import Callable

import streamlit as st
from paretoscope.figures import explorer
from paretoscope.figures.explorer import Scene

from pages.components import serving

PLOTS, TRIED = "plots", "tried"

# The script and its style are a file, which both components load: this much alone comes with each of their runs.
_ADDRESS = serving.script(
    "explorer",
    f"{explorer.script()}\nexport {{ drawPlots, drawTried }};\nconst style = document.createElement('style');\n"
    f"style.textContent = {json.dumps(explorer.style())};\ndocument.head.append(style);\n",
)
_MOUNT = """
const script = import(new URL("ADDRESS", location.origin).href);
export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".explorer");
  const send = (name, value) => setTriggerValue(name, value);
  const scene = JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data));
  script.then((explorer) => explorer.DRAW(root, scene, send));
}
"""


def _component(name: str, function: str):
    return st.components.v2.component(
        name,
        html='<div class="explorer"></div>',
        js=_MOUNT.replace("ADDRESS", _ADDRESS).replace("DRAW", function),
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
