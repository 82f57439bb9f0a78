"""The tray at the bottom: what is on the screen, what is pinned, and all that ends a visit."""

from urllib.parse import urlencode

import streamlit as st
from paretoscope.service.pins import NAME, NOTE, Pin, letter

from pages.components import downloads, kept, menu, naming, plain, state
from pages.components.state import View

# Characters of a pin's name on its button.
SHORT = 18


def render(view: View) -> None:
    """Draw it for the session's view; on pages with controls, after all else."""
    with (
        st.bottom,
        st.container(horizontal=True, vertical_alignment="center", gap="small", key="tray"),
    ):
        pinned = kept.is_pinned(view.model, view.recipe)
        st.button(
            "Unpin" if pinned else "Pin",
            key="pin",
            icon=":material/keep_off:" if pinned else ":material/keep:",
            on_click=kept.toggle,
            args=(view.model, view.recipe),
            disabled=not pinned and not kept.has_room(),
            help="Keep this configuration in the tray, as a diamond with a letter on the plots.",
        )
        for at, pin in enumerate(kept.pinned()):
            _pin(at, pin, view)
        st.space("stretch")
        st.button(
            "Present",
            key="present",
            icon=":material/slideshow:",
            shortcut="P",
            on_click=menu.go,
            args=("pages/present.py",),
            help="Six steps in large type, for a room; Escape leaves.",
        )
        st.button(
            "Compare",
            key="compare",
            icon=":material/compare:",
            on_click=menu.go,
            args=("pages/compare.py",),
            help="What is pinned, side by side.",
        )
        with st.popover("Download", icon=":material/download:", key="export", on_change="rerun") as download:
            if download.open:
                downloads.render(view)
        with st.popover("Share", icon=":material/share:", key="share", on_change="rerun") as share:
            if share.open:
                st.caption("This link opens model, recipe, limits and pins as they are here.")
                st.code(_link(), language=None, wrap_lines=True)


def _pin(at: int, pin: Pin, view: View) -> None:
    """A pin's button, with what it is and what can be done with it."""
    title = pin.name or naming.recipes(pin.model).get(pin.recipe.digest) or pin.recipe.describe()
    short = title if len(title) <= SHORT else f"{title[: SHORT - 1].rstrip()}…"
    current = pin.key == (view.model, view.recipe.digest)
    key = f"pin_{pin.model}_{pin.recipe.digest[:12]}"
    with st.popover(
        f"**{letter(at)}** {plain.escape(short)}",
        key=key,
        on_change="rerun",
        type="primary" if current else "secondary",
    ) as opened:
        if opened.open:
            st.markdown(f"**{plain.escape(naming.titled(pin.model))}**, {plain.escape(pin.recipe.describe())}")
            name = st.text_input("Name", pin.name, max_chars=NAME, key=f"{key}_name")
            note = st.text_area("Note", pin.note, max_chars=NOTE, key=f"{key}_note", height=70)
            if (name, note) != (pin.name, pin.note):
                kept.rename(pin, name, note)
                st.rerun()
            load, drop = st.columns(2)
            load.button("Load", key=f"{key}_load", on_click=_load, args=(pin,), width="stretch")
            drop.button("Unpin", key=f"{key}_drop", on_click=kept.toggle, args=(pin.model, pin.recipe), width="stretch")


def _load(pin: Pin) -> None:
    view = state.view()
    state.load(View(pin.model, pin.recipe, view.timing if pin.model == view.model else state.timing_of(pin.model)))


def _link() -> str:
    """The address of this page with all that it holds."""
    base = (st.context.url or "").split("?")[0]
    return f"{base}?{urlencode(st.query_params.to_dict())}"
