"""A page that opens a model whose data are not here yet: it tells how far their download is, and mends itself."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror import Mirror, serving
from paretoscope.data import dataset, mnist
from paretoscope.service.workbench import Workbench
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from pages.components import plain, state

pytestmark = pytest.mark.slow

APP = str(Path(__file__).parents[2] / "app.py")
FIRST = "train-images-idx3-ubyte.gz"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror, an empty folder, and a workbench that has loaded nothing."""
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path))
    bench = Workbench()
    monkeypatch.setattr(state, "workbench", lambda: bench)
    monkeypatch.setattr(state, "LOOK_S", 0.01)
    dataset._load_data.cache_clear()
    with serving(monkeypatch) as mirror:
        yield mirror
    bench.close()
    dataset._load_data.cache_clear()


def page() -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    page.switch_page("pages/recover.py")
    page.query_params["model"] = "lenet-5-mnist"
    return page


def test_progress_is_shown_until_the_page_is(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[float, str]] = []
    mirror.gates[FIRST] = threading.Event()

    def progress(bar: DeltaGenerator, value: float, text: str = "") -> None:
        shown.append((value, text))
        if value > 0:
            mirror.gates[FIRST].set()

    monkeypatch.setattr(DeltaGenerator, "progress", progress)
    opened = page().run()
    assert not opened.error and not opened.exception
    assert state.workbench().loaded("lenet-5-mnist")
    partly = [(value, text) for value, text in shown if 0 < value < 1]
    assert partly and [value for value, _ in shown] == sorted(value for value, _ in shown)
    for value, text in partly:
        assert text.startswith(plain.escape(f"Downloading MNIST into {tmp_path / 'MNIST' / 'raw'}"))
        assert text.endswith(f"{value * mirror.total / 1e6:.1f} of {mirror.total / 1e6:.1f} MB")
    shown.clear()
    assert not opened.run().error and not shown


def test_a_download_that_failed_can_be_tried_again(mirror: Mirror) -> None:
    mirror.faults[FIRST] = "short"
    opened = page().run()
    (error,) = opened.error
    assert "must be downloaded whole" in error.value and not opened.exception
    mirror.faults.clear()
    opened = opened.button(key="load_again").click().run()
    assert not opened.error and not opened.exception
    assert state.workbench().loaded("lenet-5-mnist")
