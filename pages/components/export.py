"""Pin and export: each download is exactly what was measured."""

import streamlit as st
from paretoscope import codec
from paretoscope.export import figures_of, stem
from paretoscope.service import table as export

from pages.components import kept, state
from pages.components.state import View, Work


def render(work: Work) -> None:
    """The two buttons under the controls."""
    view = work.view
    pin, out = st.columns(2)
    pin.button(
        "Unpin" if kept.is_pinned(view.model, view.recipe) else "Pin",
        key="pin",
        icon=":material/keep:",
        width="stretch",
        on_click=kept.toggle,
        args=(view.model, view.recipe),
        help="Keep this point as a diamond in the plots.",
    )
    with out.popover("Export", icon=":material/download:", width="stretch", key="export"):
        name = stem(view.model, view.recipe)
        _download("Recipe (JSON)", "recipe", lambda: view.recipe.to_json(indent=2), f"{name}.json", "application/json")
        _download("Artefact", "artefact", lambda: _artefact(view), f"{name}.psc")
        _download("Records (CSV)", "csv", lambda: export.records_csv(work.records), f"{view.model}.csv", "text/csv")
        st.page_link("pages/export.py", label="All formats, checked", icon=":material/arrow_forward:")
        st.caption(
            "The artefact is the file whose length is shown, made anew from the recipe, with the figures of the screen "
            "in it. The digest in the records is that of the file without figures, which is just as long."
        )


def _artefact(view: View) -> bytes:
    bench = state.workbench()
    found = bench.find(view.model, view.recipe)
    compressed = bench.compressed(view.model, view.recipe)
    return codec.write(compressed, figures_of(found.record) if found is not None else None)


def _download(label: str, key: str, data, name: str, kind: str = "application/octet-stream") -> None:
    st.download_button(
        label, data, name, kind, key=f"export_{key}", on_click="ignore", width="stretch", icon=":material/download:"
    )
