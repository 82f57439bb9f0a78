"""Pin and export: each download is exactly what was measured."""

import streamlit as st
from paretoscope.export import stem
from paretoscope.service import table as export

from pages.components import state
from pages.components.exporting import artefact
from pages.components.state import Work


def render(work: Work) -> None:
    """The two buttons under the controls."""
    view = work.view
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
        name = stem(view.model, view.recipe)
        _download("Recipe (JSON)", "recipe", lambda: view.recipe.to_json(indent=2), f"{name}.json", "application/json")
        _download("Artefact", "artefact", lambda: artefact(view), f"{name}.psc")
        _download("Records (CSV)", "csv", lambda: export.records_csv(work.records), f"{view.model}.csv", "text/csv")
        st.page_link("pages/export.py", label="All formats, checked", icon=":material/arrow_forward:")
        st.caption(
            "The artefact is the file whose length is shown, made anew from the recipe, with the figures of the screen "
            "in it. The digest in the records is that of the file without figures, which is just as long."
        )


def _download(label: str, key: str, data, name: str, kind: str = "application/octet-stream") -> None:
    st.download_button(
        label, data, name, kind, key=f"export_{key}", on_click="ignore", width="stretch", icon=":material/download:"
    )
