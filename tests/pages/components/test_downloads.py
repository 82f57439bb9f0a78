"""What is downloaded is made outside a session's runs, of what the session held when the button was drawn."""

import threading
from pathlib import Path

import pytest
from paretoscope.recipe.recipe import Recipe
from streamlit.testing.v1 import AppTest

from pages.components import downloads

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_report_has_the_question_and_the_pins_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list = []
    monkeypatch.setattr(downloads, "_button", lambda label, key, data, *_: made.append((key, data)))
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update(
        {"model": "lenet-300-100", "bits": "8", "most_kb": "321", "pins": "of=lenet-300-100&as=Mine"}
    )
    page.session_state["export"] = True
    page.run()
    monkeypatch.undo()
    assert not page.exception
    write, found = dict(made)["report"], []
    thread = threading.Thread(target=lambda: found.append(write().decode()))
    thread.start()
    thread.join()
    assert "At most 321 KB?" in found[0] and "A Mine" in found[0]
    assert Recipe.of(bits=8).describe() in found[0]
