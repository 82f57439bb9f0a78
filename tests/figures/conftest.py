"""Records made up for the figures: any accuracy, size and latency, without a model behind them."""

from collections.abc import Callable, Iterator

import plotly.graph_objects as go
import pytest
import timings
from paretoscope.measure.record import Digests, Ladder, Rates, Record
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.classification import Accuracy, Baseline

SAMPLES = 800
BASELINE = Baseline(correct=784, accuracy=0.98, f1=0.98, size_bytes=1_000_000)


@pytest.fixture(scope="session")
def baseline() -> Baseline:
    return BASELINE


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """make_record(recipe, size=..., correct=..., n=..., ms=..., number_format=..., measured_for=..., ends=...)."""

    def make(
        recipe: Recipe,
        *,
        size: int = 100_000,
        correct: int = 780,
        n: int = SAMPLES,
        ms: float | None = 0.2,
        baseline_ms: float = 0.4,
        number_format: str = "int8",
        measured_for: str | None = None,
        ends: tuple[float, float] | None = None,
    ) -> Record:
        accuracy = correct / n
        latency = None
        if ms is not None:
            speedup = baseline_ms / ms
            latency = timings.latency(
                ms,
                speedup,
                number_format=number_format,
                baseline_median_ms=baseline_ms,
                speedup_low=ends[0] if ends else 0.9 * speedup,
                speedup_high=ends[1] if ends else 1.1 * speedup,
                measured_for=measured_for or recipe.digest,
            )
        return Record(
            model="a-model",
            dataset="a-dataset",
            recipe=recipe,
            digests=Digests(model="m" * 64, dataset="d" * 64, recipe=recipe.digest, artefact="a" * 64),
            figures=Accuracy(
                n=n,
                correct=correct,
                accuracy=accuracy,
                accuracy_low=max(0.0, accuracy - 0.01),
                accuracy_high=min(1.0, accuracy + 0.01),
                f1=accuracy,
                p_value=0.5,
                harm=0.01,
            ),
            baseline=BASELINE,
            rates=Rates(sparse_rate=0.0, shared_rate=0.0, architecture_simplification=1.0),
            size=Ladder(
                dense=1_000_000, sparse=500_000, packed=200_000, huffman=120_000, ans=size - 100, artefact=size
            ),
            latency=latency,
        )

    return make


@pytest.fixture(scope="session")
def markers() -> Callable[[go.Figure], Iterator[tuple[str, float, float, str, str]]]:
    """markers(figure): (digest, x, y, symbol, hover text) of every clickable marker."""

    def of(figure: go.Figure) -> Iterator[tuple[str, float, float, str, str]]:
        for trace in figure.data:
            if trace.customdata is None:
                continue
            symbols = trace.marker.symbol
            if isinstance(symbols, str):
                symbols = [symbols] * len(trace.x)
            for data, *rest in zip(trace.customdata, trace.x, trace.y, symbols, trace.hovertext, strict=True):
                yield data[0], *rest

    return of


@pytest.fixture(scope="session")
def validated() -> Callable[[go.Figure], go.Figure]:
    """The figure built again with all of Plotly's validation, which the library leaves out for speed."""
    return lambda figure: go.Figure(figure.to_dict())
