"""The KPI row: each figure with its change to the baseline."""

import math

import streamlit as st
from paretoscope.base.units import format_bytes, format_ms, format_p, format_percent
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.wording import (
    NOT_ALONE,
    UNDECIDED,
    UNDECIDED_WHY,
    share_touched,
    size_ratio,
    smaller,
    speed,
    untouched,
    verdict,
)
from paretoscope.runtimes import runtimes
from paretoscope.service.subjects import task_of
from paretoscope.tasks import Task
from paretoscope.tasks.words import Further

from pages.components import failures, state
from pages.components.state import Work


def render(work: Work) -> None:
    """The task's figures, size, latency, rates of the current recipe."""
    failures.render(work)
    task = task_of(work.view.model)
    labels = (task.words.title, *(each.title for each in task.further), "Size", "Latency", "Zeros")
    headline, *further, size, latency, zeros = _columns(len(task.further))
    if work.evaluation is None:
        for column, label in zip((headline, *further, size, latency, zeros), labels, strict=True):
            column.metric(label, "–" if work.failed else "…", border=True, height="stretch")
        return
    record = work.evaluation.record
    _headline(headline, task, record, work.exact, state.samples(work.view.model))
    for column, each in zip(further, task.further, strict=True):
        column.metric(
            each.title,
            each.text(record.figures),
            _change(each, record) if work.exact else None,
            delta_color="off",
            border=True,
            height="stretch",
            help=each.help,
        )
    size.metric(
        "Size",
        format_bytes(record.size.artefact),
        size_ratio(record.ratio),
        delta_color="off",
        delta_arrow="off",
        delta_description=share_touched(record.touched) or None,
        border=True,
        height="stretch",
        help=f"Length of the file, {smaller(record.ratio)}: {format_bytes(record.baseline.size_bytes)} as fp32. "
        "Touched: the share of parameters that the recipe acted on.",
    )
    _latency(latency, work, record)
    kept = record.rates.architecture_simplification
    zeros.metric(
        "Zeros",
        format_percent(record.rates.sparse_rate),
        f"{format_percent(record.rates.shared_rate)} shared" if kept == 1 else f"of {format_percent(kept)} left",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Weights that are zero, and weights whose value at least two weights share. Of the baseline's parameters "
        f"{format_percent(kept)} are left; {format_percent(record.rates.shared_rate)} of the weights are shared.",
    )
    if left := untouched(record.touched, record.recipe):
        st.warning(left, icon=":material/filter_alt_off:")


def _columns(further: int) -> list:
    """A place for each figure: in one row, or in two where so many would be cut."""
    ends = [1.15, 1.2, 0.8]
    return st.columns([1.45, *[0.8] * further, *ends]) if further < 2 else st.columns(1 + further) + st.columns(ends)


def _change(further: Further, record: Record) -> str | None:
    """What a figure differs from the baseline's by; nothing where the baseline has none, such as a noise of zero."""
    known = not math.isnan(further.of(record.baseline)) and not math.isnan(further.of(record.figures))
    return further.change(record.figures, record.baseline) if known else None


def _headline(column, task: Task, record: Record, exact: bool, samples: int) -> None:
    figures, words = record.figures, task.words
    interval = f"[{', '.join(words.ends(figures.low, figures.high))}]"
    change = figures.value - record.baseline.value
    told = verdict(figures.distinguishable, change)
    column.metric(
        words.title,
        ("" if exact else "≈ ") + words.value(figures.value),
        words.change(change) if exact else f"{figures.n:,} of {samples:,} samples",
        delta_color="normal" if exact and figures.distinguishable else "off",
        delta_arrow="auto" if exact and figures.value != record.baseline.value else "off",
        delta_description=told if exact else interval,
        border=True,
        height="stretch",
        help=f"{task.told(figures)}, 95 % interval {interval} ({words.interval}). Change to the baseline "
        f"on the same samples: {told} by {words.test} at the 5 % level, {format_p(figures.p_value)}. Harm, "
        f"which tells more: {figures.harm:.2g} {words.harm_unit}, the outputs' mean {words.divergence} from the "
        "baseline's.",
    )


def _latency(column, work: Work, record: Record) -> None:
    latency = work.latency
    metric = {"delta_color": "off", "delta_arrow": "off", "border": True, "height": "stretch"}
    if latency is None:
        column.metric("Latency", "…", "timing", **metric)
        return
    label, told_speed = f"Latency, {latency.number_format}, batch {latency.batch}", speed(latency)
    if not latency.decided:
        column.metric(label, UNDECIDED, told_speed.interval, help=f"{undecided(work)} {told(latency)}", **metric)
        return
    reference = state.workbench().reference_ms(work.view.model, work.view.timing)
    reused = latency.measured_for != record.digests.recipe
    marks = ["reused"] * reused + ["without lock"] * (latency.alone is False)
    column.metric(
        label,
        format_ms(paired_ms(latency, reference)),
        told_speed.words,
        delta_description=", ".join([told_speed.interval, *marks]),
        help=f"The baseline's {format_ms(reference)} over the speed-up: the baseline's is one time for all recipes, "
        "the median of what it took beside them. "
        + told(latency)
        + (
            " Reused from another recipe of the same graph and number format: zeros and codebooks do not change the "
            "time of a dense kernel."
            if reused
            else " Measured on this recipe."
        ),
        **metric,
    )


def undecided(work: Work) -> str:
    """Why a timing says nothing yet, and what becomes of it."""
    if work.job is not None and work.again is not None and work.again <= 0:
        return f"{UNDECIDED_WHY} That runs now."
    if work.again is not None:
        return f"{UNDECIDED_WHY} The next try is in {work.again:.0f} s."
    return (
        "The interval is too wide to say: the machine was busy each time that this was timed. When it is still, press "
        "Measure on the page Latency."
    )


STOPPED = {
    "precision": "until the interval was narrow enough",
    "budget": "until the time for it was up",
    "rounds": "until there were rounds enough",
}


def told(latency: Latency) -> str:
    """How a timing was taken and all that it found."""
    return (
        f"Timed in {latency.pairs} interleaved pairs with the fp32 baseline in {runtimes.get(latency.runtime).title} "
        f"on {latency.threads} thread{'s' * (latency.threads > 1)}, {STOPPED[latency.stopped_by]}: "
        f"{format_ms(latency.median_ms)} beside {format_ms(latency.baseline_median_ms)} at that moment, "
        f"{speed(latency)}{f'; {NOT_ALONE}' if latency.alone is False else ''}. Of the calls 95 % took at most "
        f"{format_ms(latency.p95_ms)} and 99 % at most {format_ms(latency.p99_ms)} (baseline "
        f"{format_ms(latency.baseline_p95_ms)} and {format_ms(latency.baseline_p99_ms)}); {latency.outliers} "
        f"outlier{'s' * (latency.outliers != 1)}, all counted."
    )
