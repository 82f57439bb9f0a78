"""What a slider does, as a live picture of sixteen weights beside it, which follows it while it is open."""

from collections.abc import Callable

import numpy as np
import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.figures import learn
from paretoscope.methods.catalogue import of_setting
from paretoscope.recipe.schema import Setting

from pages.components import kept, link, plain, state

_DRAWN = st.components.v2.component(
    "lesson",
    html='<div class="lesson" role="img"></div>',
    css=learn.STYLE,
    js="""export default ({ parentElement, data }) => {
      const drawn = parentElement.querySelector(".lesson");
      drawn.setAttribute("aria-label", data.alt);
      drawn.innerHTML = data.svg;
    }""",
    isolate_styles=False,
)


def beside(setting: Setting, draw: Callable[[], None]) -> None:
    """Draw a setting's widget with a mark beside its name, which opens the picture below it."""
    opened = f"lesson_open_{setting.name}"
    with st.container(key=f"lesson_of_{setting.name}", gap="small"):
        draw()
        st.button(
            f"Picture of {setting.label}",  # heard, not seen (`assets/page.css`)
            key=f"lesson_mark_{setting.name}",
            icon=":material/expand_less:" if st.session_state.get(opened) else ":material/help:",
            type="tertiary",
            help=f"{setting.explained} A click shows it on sixteen weights.",
            on_click=_toggle,
            args=(opened,),
        )
        if st.session_state.get(opened):
            _picture(setting)


def explaining(method: str) -> dict[str, str]:
    """The parameters of a link that opens what is explained of a method, with the session's view."""
    return {**state.view().to_query(), **kept.to_query(), link.METHOD: method}


def _toggle(opened: str) -> None:
    st.session_state[opened] = not st.session_state.get(opened)


def _picture(setting: Setting) -> None:
    now = state.view()
    if not state.workbench().loaded(now.model):
        st.caption("The picture comes with the model.")
        return
    try:
        name, weights = sixteen(now.model)
        lesson = learn.gather(weights, now.recipe, setting.step, layer=name)
    except CompressionError as error:
        st.caption(f"No picture of this: {plain.escape(error)}")
        return
    _DRAWN(key=f"lesson_{setting.name}", data={"svg": learn.draw(lesson), "alt": lesson.alt})
    st.caption(f"Sixteen weights of {plain.escape(name, 60)}. {lesson.told}")
    entry = of_setting(setting.name)
    label, icon = f"More: {entry.title}", ":material/menu_book:"
    if st.session_state.get("controls_on") == "methods":
        # A link to the page itself would leave the address as it was.
        st.button(label, key=f"more_{setting.name}", icon=icon, type="tertiary", on_click=choose, args=(entry.name,))
    else:
        st.page_link("pages/methods.py", label=label, icon=icon, query_params=explaining(entry.name))


def choose(method: str) -> None:
    """What the page Methods explains from now on; only before its widgets or in a callback."""
    st.session_state.method = method
    st.session_state.method_search = ""
    st.session_state.method_problem = None


@st.cache_data(max_entries=256, show_spinner=False)
def sixteen(model: str) -> tuple[str, np.ndarray]:
    """Sixteen weights of a model's largest layer, and its name; raises CompressionError."""
    layer = max(state.statistics(model).layers.values(), key=lambda each: each.weight.size)
    return layer.name, learn.sixteen(layer)
