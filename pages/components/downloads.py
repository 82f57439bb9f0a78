"""Files that go home: each is exactly what was measured."""

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st
from paretoscope import codec, reports
from paretoscope.export import figures_of, stem
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import table

from pages.components import kept, state
from pages.components.state import View


def artefact(model: str, recipe: Recipe) -> bytes:
    """The file whose length is shown, made anew, with the figures of the screen in it where they are known."""
    bench = state.workbench()
    found = bench.find(model, recipe)
    return codec.write(bench.compressed(model, recipe), figures_of(found.record) if found is not None else None)


def artefact_name(model: str, recipe: Recipe) -> str:
    return f"{stem(model, recipe)}.psc"


def report(view: View) -> Callable[[], bytes]:
    """What makes a report of a view, with the question and the pins as they are now.

    A download is made outside the session's runs, where nothing of the session is known.
    """
    budget, pins = kept.budget(), list(kept.pinned())
    return lambda: reports.write(
        state.workbench(), view.model, view.recipe, view.timing, made=datetime.now(UTC), budget=budget, pins=pins
    ).encode()


def render(view: View) -> None:
    """The downloads of a view."""
    bench, recipe = state.workbench(), view.recipe
    _button("Artefact", "artefact", lambda: artefact(view.model, recipe), artefact_name(view.model, recipe))
    _button("Report", "report", report(view), f"{stem(view.model, recipe)}.html", "text/html")
    name = f"{stem(view.model, recipe)}.json"
    _button("Recipe (JSON)", "recipe", lambda: recipe.to_json(indent=2), name, "application/json")
    records = lambda: table.records_csv(bench.records(view.model, view.timing))  # noqa: E731
    _button("All tried (CSV)", "csv", records, f"{view.model}.csv", "text/csv")
    st.page_link("pages/export.py", label="All formats, checked", icon=":material/arrow_forward:")
    st.caption(
        "The artefact is the file whose length is shown, made anew from the recipe, with the figures of the screen "
        "in it. The digest in the records is that of the file without figures, which is just as long."
    )


def _button(label: str, key: str, data, name: str, kind: str = "application/octet-stream") -> None:
    st.download_button(
        label, data, name, kind, key=f"export_{key}", on_click="ignore", width="stretch", icon=":material/download:"
    )
