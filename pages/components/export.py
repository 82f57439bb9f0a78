"""Pin and export: each download is exactly what was measured."""

import streamlit as st

from compression import export
from pages.components import state
from pages.components.state import Work


def render(work: Work) -> None:
    """The two buttons under the controls."""
    view, bench = work.view, state.workbench()
    digest = view.recipe.digest
    pin, out = st.columns(2)
    pin.button(
        "Unpin" if digest in state.pins() else "Pin",
        key="pin",
        icon=":material/keep:",
        width="stretch",
        on_click=state.toggle_pin,
        args=(digest,),
        help="Keep this point as a diamond in the plots.",
    )
    with out.popover("Export", icon=":material/download:", width="stretch", key="export"):
        name = f"{view.model}-{digest[:8]}"
        _download("Recipe (JSON)", "recipe", lambda: view.recipe.to_json(indent=2), f"{name}.json", "application/json")
        _download("Artefact", "artefact", lambda: bench.artefact(view.model, view.recipe), f"{name}.psc")
        _download(
            "Decoded weights (safetensors)",
            "weights",
            lambda: export.weights(bench.compressed(view.model, view.recipe)),
            f"{name}.safetensors",
        )
        _download("ONNX", "onnx", lambda: bench.onnx(view.model, view.recipe), f"{name}.onnx")
        _download("Records (CSV)", "csv", lambda: export.records_csv(work.records), f"{view.model}.csv", "text/csv")
        st.caption(
            "The artefact is the file whose length is shown; the ONNX file is the graph that ONNX Runtime is timed "
            "with. Both are made anew from the recipe, byte for byte the same."
        )


def _download(label: str, key: str, data, name: str, kind: str = "application/octet-stream") -> None:
    st.download_button(
        label, data, name, kind, key=f"export_{key}", on_click="ignore", width="stretch", icon=":material/download:"
    )
