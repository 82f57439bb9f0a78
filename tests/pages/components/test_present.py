"""Steps that do not ship are measured one after another, and the page waits for none of them."""

import time
from pathlib import Path

import pytest
from paretoscope.figures import stage
from paretoscope.measure.stage import Step
from streamlit.testing.v1 import AppTest

from pages.components import present, state

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_what_is_not_measured_says_so_and_is_measured_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list] = []
    monkeypatch.setattr(present, "show", lambda view, found: seen.append(found))
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params["model"] = "lenet-300-100"
    page.run()
    page.switch_page("pages/present.py").run()
    assert not page.exception
    first = {slide.step: slide for slide in seen[0]}
    assert first[Step.SHARE].shot is None
    assert stage.size_of(first[Step.SHARE], state.subject("lenet-300-100").baseline) is None
    deadline = time.monotonic() + 60
    while any(slide.shot is None for slide in seen[-1][1:]):
        assert time.monotonic() < deadline, [slide.problem for slide in seen[-1]]
        time.sleep(0.1)
        page.run()
    assert [slide.step for slide in seen[-1]] == list(Step)
