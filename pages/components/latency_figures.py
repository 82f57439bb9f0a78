"""The figures of the Latency page: runtimes, batch and threads, layers, and every single call."""

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.figures import calls, layer_times, roofline
from paretoscope.figures import latency as figures
from paretoscope.figures.latency import RuntimeBar
from paretoscope.figures.theme import Theme
from paretoscope.measure.machine import Machine
from paretoscope.measure.record import Latency
from paretoscope.measure.roofline import LayerWork, estimate
from paretoscope.measure.wording import speed
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import runtimes as all_runtimes
from paretoscope.service.shipped import Origin
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing

from pages.components import figure, plain, state, widgets
from pages.components.latency import Known, elsewhere, work_of


def _note(known: Known, timing: Timing, latency: Latency | None) -> str:
    """What is to be said of a timing, or why there is none."""
    view, runtime = known.view, all_runtimes.get(timing.runtime)
    if latency is not None:
        same = latency.measured_for == view.recipe.digest
        return "" if same else "measured for another recipe of the same graph and number format"
    if runtime.missing:
        return f"not installed: install {runtime.missing}"
    if problem := state.workbench().problem(view.model, view.recipe, timing, "time"):
        return f"did not run: {problem}"
    return known.told


def runtimes(known: Known, look: Theme) -> None:
    """A pair of bars for each runtime and number format."""
    bench, view = state.workbench(), known.view
    chosen = view.timing.number_format or all_runtimes.get(view.timing.runtime).number_format(view.recipe.integer)
    bars, borrowed, origin = [], [], None
    for timing in known.groups["runtimes"]:
        latency = bench.latency(view.model, view.recipe, timing)
        here = (timing.runtime, timing.number_format) == (view.timing.runtime, chosen)
        title = all_runtimes.get(timing.runtime).title
        note, reference = _note(known, timing, latency), bench.reference_ms(view.model, timing)
        if latency is not None and not latency.decided:
            note, latency = f"not known yet {speed(latency).interval}: the machine was busy", None
        elif latency is None and (other := elsewhere(view, StudyKind.TIME, view.recipe, timing)) is not None:
            latency, reference, origin, note = other.found, None, other.origin, f"on {other.origin.told}"
            borrowed.append(f"{title} {timing.number_format}")
        bars.append(RuntimeBar(title, timing.number_format, latency, note, here, reference))
    data = figures.gather_bars(bars)
    figure.show(figures.draw_bars(data, look), "plot_runtimes", alt=data.alt)
    if origin is not None:
        _borrowed(f"{', '.join(borrowed)}: measured", origin)
    reused = [bar.label for bar in data.bars if bar.latency is not None and bar.note and bar.label not in borrowed]
    st.caption(
        f"A batch of {view.timing.batch} on {view.timing.threads} thread{'s' * (view.timing.threads > 1)}: the time of "
        "the fp32 baseline in the same runtime over the speed-up beside it, with the 95 % interval. Bold: the runtime "
        "of this page. "
        + (
            f"Measured for another recipe of the same graph and number format: {plain.escape(', '.join(reused))}."
            if reused
            else ""
        )
    )


def _borrowed(what: str, origin: Origin) -> None:
    """Say where times come from that this machine did not take."""
    st.info(
        f"{plain.escape(what)} on another machine ({plain.escape(origin.told)}). This one's own take their place.",
        icon=":material/devices:",
    )


def scaling(known: Known, look: Theme) -> None:
    """Latency or throughput over batch and over threads."""
    bench, view = state.workbench(), known.view
    titles = {"latency": "Latency", "throughput": "Throughput"}
    quantity = widgets.one_of("Shown", titles, "latency_quantity")
    borrowed: dict[str, Origin] = {}
    for column, setting in zip(st.columns(2), ("batch", "threads"), strict=True):
        timings = {getattr(timing, setting): timing for timing in known.groups[setting]}
        found = {value: bench.latency(view.model, view.recipe, timing) for value, timing in timings.items()}
        others = {value: elsewhere(view, StudyKind.TIME, view.recipe, timing) for value, timing in timings.items()}
        # One line is of one machine: of this, once it has two of its points.
        if sum(latency is not None for latency in found.values()) < 2 and any(others.values()):
            found = {value: other.found for value, other in others.items() if other is not None}
            borrowed[setting] = next(other.origin for other in others.values() if other is not None)
        data = figures.gather_lines(setting, found, getattr(view.timing, setting))
        with column:
            figure.show(figures.draw_lines(data, look, quantity=quantity), f"plot_{setting}", alt=data.alt)
    if borrowed:
        _borrowed(f"Over {' and '.join(borrowed)}: measured", next(iter(borrowed.values())))
    left = sum(
        bench.latency(view.model, view.recipe, timing) is None
        for setting in ("batch", "threads")
        for timing in known.groups[setting]
    )
    st.caption(
        "Both sides of each timing, each at its own moment, with the 95 % interval that follows from the ratio's. "
        + (f"{left} {known.told}." if left else "")
    )


def layers(known: Known, look: Theme) -> None:
    """Time per layer from the runtime's own profile, beside what each layer has to compute and to move."""
    bench, view = state.workbench(), known.view
    runtime = all_runtimes.get(view.timing.runtime)
    own, baseline = (
        bench.known(StudyKind.PROFILE, view.model, recipe, view.timing) for recipe in (view.recipe, Recipe())
    )
    machine = bench.known(StudyKind.MACHINE, view.timing.threads)
    other = elsewhere(view, StudyKind.PROFILE, view.recipe, view.timing) if own is None else None
    if runtime.profile is None:
        st.markdown(f"{runtime.title} keeps no profile of its layers. Choose another runtime to see them.")
    elif other is not None:
        # Times and the limits that explain them are of one machine.
        own, machine = other.found, bench.elsewhere(view.model, StudyKind.MACHINE, view.timing.threads)
        beside = elsewhere(view, StudyKind.PROFILE, Recipe(), view.timing)
        baseline, machine = (each and each.found for each in (beside, machine))
        _borrowed("Times of the layers: measured", other.origin)
    elif own is None:
        problem = bench.problem(view.model, view.recipe, view.timing, StudyKind.PROFILE)
        st.markdown(plain.escape(problem or f"The times of the layers: {known.told}."))
    try:
        work = work_of(view, view.recipe)
    except CompressionError as error:
        st.caption(f"The work of the layers is not known: {plain.escape(error)}")
        return
    if own is not None:
        bars, roof = st.columns(2)
        with bars:
            data = layer_times.gather(own, baseline)
            figure.show(layer_times.draw(data, look), "plot_layers", alt=data.alt)
            st.caption(f"By the profile of {runtime.title} itself, which takes a little time of its own.")
        with roof:
            _roofline(known, work, own, machine, look)
    _work_table(work, own, machine)


def _roofline(
    known: Known, work: list[LayerWork], times: dict[str, float], machine: Machine | None, look: Theme
) -> None:
    """Each layer under the limits of the machine that took the times."""
    if machine is None:
        st.markdown(f"What this machine can do at most: {known.told}.")
        return
    data = roofline.gather(work, times, machine)
    figure.show(roofline.draw(data, look), "plot_roofline", alt=data.alt)
    st.caption(
        "A layer's speed against its operations a byte, larger the more time it takes. Lines: what the machine's "
        "arithmetic and its memory allow, measured, not assumed."
    )


def _work_table(work: list[LayerWork], times: dict[str, float] | None, machine: Machine | None) -> None:
    """MACs and bytes of each layer, its share of the time, and what limits it on this machine."""
    spent = sum(times.values()) if times else 0.0
    bounds = [layer.bound for layer in estimate(work, machine).layers] if machine is not None else [None] * len(work)
    rows = [
        {
            "Layer": layer_times.short(layer.name),
            "Kind": layer.kind,
            "Share of time": 100 * times.get(layer.name, 0.0) / spent if spent else None,
            "Time": times.get(layer.name) if times else None,
            "MACs": layer.macs,
            "Bytes": layer.bytes / 1000,
            "Intensity": layer.intensity,
            "Bound by": bound,
        }
        for layer, bound in zip(work, bounds, strict=True)
    ]
    number = st.column_config.NumberColumn
    st.dataframe(
        rows,
        key="layer_work",
        hide_index=True,
        height=min(38 + 35 * len(rows), 520),
        placeholder="–",
        alt="Layers with their share of the time, multiplications, bytes, intensity and what limits them",
        column_config={
            "Share of time": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100),
            "Time": number(format="%.3g µs"),
            "MACs": number(
                format="localized", help="Multiplications for one batch; of zeros only where they are done."
            ),
            "Bytes": number(format="%.1f KB", help="Of weights and of activations read and written, for one batch."),
            "Intensity": number(format="%.2f", help="Operations a byte: two for each multiplication."),
            "Bound by": st.column_config.TextColumn(
                help="What takes most of the layer's least time on this machine: arithmetic (compute), bytes (memory), "
                "or what the runtime spends on every step (overhead)."
            ),
        },
    )


def distribution(known: Known, look: Theme) -> None:
    """Every single call behind the median."""
    samples = state.workbench().samples(known.view.model, known.view.recipe, known.view.timing)
    latency = known.latency
    if samples is None or latency is None:
        st.markdown("Timing." if latency is None and not known.work.failed else "The single calls were not kept.")
        return
    data = calls.gather(samples)
    figure.show(calls.draw(data, look), "plot_calls", alt=data.alt)
    st.caption(
        f"{len(samples.candidate_ms)} calls of each side, outliers included ({latency.outliers} of the recipe's lie "
        f"beyond the third quartile by three interquartile ranges). {data.clipped} Lines: median, 95th and 99th "
        "percentile. Timed one by one, calls take a little longer than in the runs of many that the ratio is taken of."
    )
