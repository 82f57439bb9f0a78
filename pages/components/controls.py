"""The sidebar: model, the three sliders, presets, advanced settings."""

import math

import streamlit as st

from compression import runtimes
from compression.presets import presets
from compression.recipe import BITS, CALIBRATIONS, CODERS, GRANULARITIES, MAX_CLUSTERS, REST_FORMATS, SCOPES, Recipe
from compression.workbench import Timing
from compression.zoo import models
from pages.components import state
from pages.components.state import BATCHES, CONTROLS, THREADS, View

SPARSITIES = tuple(percent / 100 for percent in range(100))
OFF = 0
CLUSTERS = (OFF, MAX_CLUSTERS, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2)

WORDS = {
    "global": "all layers together",
    "layer": "each layer alike",
    "channel": "per output channel",
    "tensor": "per tensor",
    "range": "largest weight",
    "mse": "least squared error",
    "ans": "ANS",
    "huffman": "Huffman",
}


SETTINGS = tuple(Recipe().settings())
TIMING = ("runtime", "batch", "threads")


def open_view(page: str) -> None:
    """Take the view from the link or from the widgets, whichever changed; call first on every page with controls.

    page: names the page. What cannot be opened is told, and the view stays as it was.
    """
    state.open_link()
    if st.session_state.get("controls_on") != page:
        # Widgets of the page before have left values behind under the same keys.
        state.load(state.view())
        st.session_state.controls_on = page
    values = {name: st.session_state.get(CONTROLS + name) for name in ("model", *SETTINGS, *TIMING)}
    if None not in values.values():
        settings = {name: values[name] for name in SETTINGS} | {"clusters": values["clusters"] or None}
        timing = Timing(**{name: values[name] for name in TIMING})
        state.change(View(values["model"], Recipe.of(**settings), timing))
    state.write_link()
    if problem := st.session_state.get("link_error"):
        st.warning(f"The link was not opened: {problem}", icon=":material/link_off:")


def _slider(label: str, key: str, options: tuple, value, format_func, help: str, order=None) -> None:
    """A slider whose right end compresses most; `order` sorts its options, None for ascending."""
    # A recipe from a link or a point may hold a value between the steps: it gets a step of its own.
    if value not in options:
        options = sorted((*options, value), key=order)
    st.session_state.setdefault(CONTROLS + key, value)
    st.select_slider(label, options, key=CONTROLS + key, format_func=format_func, help=help)


def _choice(label: str, key: str, options: tuple, value, help: str, format_func=None) -> None:
    st.session_state.setdefault(CONTROLS + key, value)
    words = format_func or (lambda option: WORDS.get(option, str(option)))
    st.selectbox(label, options, key=CONTROLS + key, format_func=words, help=help)


def draw() -> None:
    """Draw the controls for the session's view into the sidebar."""
    with st.sidebar:
        _draw(state.view())


def _draw(view: View) -> None:
    settings = view.recipe.settings()
    st.session_state.setdefault(CONTROLS + "model", view.model)
    titles = {entry.name: entry.title for entry in models}
    st.selectbox("Model", models.names(), key=CONTROLS + "model", format_func=titles.get)
    st.caption(models.get(view.model).summary)

    _slider(
        "Pruning sparsity",
        "sparsity",
        SPARSITIES,
        settings["sparsity"],
        lambda value: f"{100 * value:.4g} %",
        "Share of the weights that become zero, the smallest first.",
    )
    _slider(
        "Shared-weight clusters",
        "clusters",
        CLUSTERS,
        settings["clusters"] or OFF,
        lambda value: str(value or "off"),
        "How many different non-zero values each layer may keep (k-means). Off: any.",
        order=lambda value: -(value or math.inf),
    )
    _slider(
        "Quantization bits",
        "bits",
        tuple(reversed(BITS)),
        settings["bits"],
        lambda value: {32: "32 (off)", 1: "1 (binary)"}.get(value, str(value)),
        "Bits of each weight, or of each entry of the codebook. 32: floats as they are.",
    )

    st.caption("Presets")
    entries = list(presets)
    for start in range(0, len(entries), 2):
        for column, preset in zip(st.columns(2), entries[start : start + 2], strict=False):
            column.button(
                preset.title,
                key=f"preset_{preset.name}",
                help=preset.summary,
                width="stretch",
                wrap=True,
                type="primary" if preset.recipe == view.recipe else "secondary",
                on_click=state.load_recipe,
                args=(preset.recipe,),
            )

    with st.expander("Advanced"):
        _choice("Prune", "scope", SCOPES, settings["scope"], "Where the smallest weights are looked for.")
        _choice("Scales", "granularity", GRANULARITIES, settings["granularity"], "How many weights share one scale.")
        _choice("Scale from", "calibration", CALIBRATIONS, settings["calibration"], "What the scale is chosen by.")
        _choice("Entropy coder", "coder", CODERS, settings["coder"], "How the codes are written to the file.")
        _choice(
            "Biases and normalisation",
            "rest",
            REST_FORMATS,
            settings["rest"],
            "Format of the parameters that are not compressed otherwise.",
        )
        _choice(
            "Runtime",
            "runtime",
            runtimes.runtimes.names(),
            view.timing.runtime,
            "What runs the model when latency is measured.",
            lambda name: runtimes.runtimes.get(name).title,
        )
        _choice("Batch", "batch", BATCHES, view.timing.batch, "Images a call when latency is measured.")
        _choice("Threads", "threads", THREADS, view.timing.threads, "Threads of the runtime.")
