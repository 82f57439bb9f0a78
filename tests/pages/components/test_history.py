"""What the pages say of results that are not on disk, and of a history that is not shown in full."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[3]


def draw(error: str | None, notes: tuple[str, ...]) -> None:
    from types import SimpleNamespace

    from pages.components import history

    history.render(SimpleNamespace(store_error=error, store_notes=lambda model: notes), "a-model")


@pytest.mark.parametrize(
    ("error", "notes"),
    [
        (None, ()),
        ("34 results wait to be written: the disk is full.", ()),
        (None, ("2 records of another version are not shown.", "1 row of a file cannot be read.")),
    ],
)
def test_what_waits_and_what_is_left_out_is_told(error: str | None, notes: tuple[str, ...]) -> None:
    page = AppTest.from_function(draw, default_timeout=60, kwargs={"error": error, "notes": notes}).run()
    assert not page.exception
    assert [each.value for each in page.warning] == [f"Results are kept in memory only: {error}"] * (error is not None)
    assert [each.value for each in page.caption] == [f":material/history: {note}" for note in notes]


@pytest.mark.parametrize("name", ["explore", "latency", "recover"])
def test_every_page_that_measures_tells_it(name: str) -> None:
    assert "history.render(bench, view.model)" in (ROOT / "pages" / f"{name}.py").read_text()
