"""The graph of the network on the Layers page: tiles by what they lose, and a click on one looks at its layer."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st
from paretoscope.figures import network_graph as figure
from paretoscope.figures.theme import Theme
from paretoscope.graph.outline import Outline
from paretoscope.measure.sensitivity import Sensitivity

from pages.components import state, widgets

_GRAPH = st.components.v2.component(
    "network_graph",
    html='<div class="network-graph" role="group"></div>',
    css=(
        ".network-graph { width: 100%; overflow-x: auto; }"
        ".network-graph svg { display: block; max-width: 100%; height: auto; }"
        ".network-graph .tile { cursor: pointer; }"
        ".network-graph .tile:focus-visible { outline: 3px solid currentColor; outline-offset: 1px; }"
    ),
    js=(Path(__file__).parent / "network_graph.js").read_text(),
    isolate_styles=False,
)

CHOICES = {"sparsity": "Pruned", "clusters": "Shared", "bits": "Quantized"}


def render(outline: Outline, known: Sensitivity | None, chosen: str, look: Theme, on_click: Callable) -> None:
    """The graph, and above it what its colours say. known: as far as it was measured. chosen: the layer."""
    words, layers = state.words(), state.statistics(state.current_model()).layers
    choice, told = st.columns([2, 3], vertical_alignment="center")
    setting = widgets.one_of("One layer alone is", CHOICES, "graph_setting", choice)
    sizes = known.layer_bytes if known is not None else {}
    picture = figure.gather(
        outline,
        {name: sizes.get(name, 4 * layer.weight.size) for name, layer in layers.items()},
        {} if known is None else figure.lost_alone(known, setting),
        words,
        f"Colour: {words.name} lost when a layer alone {figure.HARSH[setting][1]}",
    )
    told.html(f'<span style="font-size:.875rem">{figure.legend(picture, look)}</span>')
    drawings = [
        {"width": width, "svg": figure.draw(picture, look, width=width, chosen=chosen)} for width in figure.WIDTHS
    ]
    _GRAPH(
        key="network_graph",
        data={"drawings": drawings, "alt": picture.alt},
        on_layer_change=lambda: on_click(st.session_state.network_graph.layer),
    )
    more = f" {int(picture.left_out):,} more are not drawn." if picture.left_out else ""
    sized = "coded without loss" if known is not None else "as 32-bit floats"
    st.caption(
        f"Boxes are layers, in the order in which they run; the bar at the foot is the layer's size, {sized}. "
        f"Blue lines skip layers, as residual connections do. A click on a layer looks at it.{more}"
    )
