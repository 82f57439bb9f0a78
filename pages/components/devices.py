"""The tab of other devices: estimates from stated figures, which can be edited, and a check of the method here."""

from dataclasses import replace
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.base.units import format_bytes, format_ms
from paretoscope.figures import devices as figures
from paretoscope.figures.devices import Pair
from paretoscope.figures.theme import Theme
from paretoscope.measure.devices import ENERGY_SOURCE, Device, Projection, devices, edited, project
from paretoscope.measure.roofline import LayerWork, estimate
from paretoscope.measure.wording import faster
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.study import StudyKind

from pages.components import figure, plain, state
from pages.components.latency import Known, work_of

# Field of a device -> column of the table, and how many of the field's units one of the column's is.
FIGURES = {
    "flops": ("Peak, GFLOP/s", 1e9),
    "int8_ops": ("Peak int8, GOP/s", 1e9),
    "efficiency": ("Reached, %", 1e-2),
    "bandwidth": ("Bandwidth, GB/s", 1e9),
    "ram_bytes": ("RAM, MB", 1e6),
    "flash_bytes": ("Flash, MB", 1e6),
    "link_bytes_s": ("Link, MB/s", 1e6),
}


def render(known: Known, look: Theme) -> None:
    """Estimates for the devices, the table of their figures, where these come from."""
    try:
        here, measured = check(known)
        own, baseline = _work(known, known.view.recipe), _work(known, Recipe())
    except CompressionError as error:
        st.error(plain.escape(error))
        return
    results = st.container()
    st.markdown("**Figures of the devices.** Change any of them; the estimates follow.")
    table = st.data_editor(
        [_row(device) for device in devices],
        key="device_figures",
        hide_index=True,
        disabled=["Device"],
        column_config={
            column: st.column_config.NumberColumn(format="%.4g", required=True) for column, _ in FIGURES.values()
        },
    )
    chosen, problems = [], []
    for device, row in zip(devices, table, strict=True):
        try:
            chosen.append(changed(device, row))
        except CompressionError as error:
            problems.append(f"{device.title}: {error}")
    with results:
        for problem in problems:
            st.error(plain.escape(problem))
        projections = _projections(known, chosen, own, baseline)
        data = figures.gather(projections, here, measured)
        figure.show(figures.draw(data, look), "plot_devices", alt=data.alt)
        _table(known, projections)
    with st.expander("Where the figures come from", icon=":material/menu_book:"):
        for device in devices:
            st.markdown(
                f"**{device.title}.** {device.summary} The file comes over {device.link}.\n"
                + "\n".join(f"- {source}" for source in device.sources)
            )


def check(known: Known) -> tuple[Pair | None, Pair | None]:
    """The estimate for this machine, and what was measured on it; None where one is not known."""
    bench, view, latency = state.workbench(), known.view, known.latency
    machine = bench.known(StudyKind.MACHINE, view.timing.threads)
    measured = None if latency is None else Pair(latency.baseline_median_ms, latency.median_ms)
    if machine is None or measured is None:
        st.markdown(f"**This machine**, as a check on the method: {known.told}.")
        return None, None
    estimates = [1e3 * estimate(work_of(view, recipe), machine).seconds for recipe in (Recipe(), view.recipe)]
    here = Pair(*estimates)
    sides = (("this recipe", here.current, measured.current), ("the baseline", here.baseline, measured.baseline))
    told = [
        f"{name} **{format_ms(estimated)}** estimated, **{format_ms(taken)}** measured ({faster(estimated / taken)})"
        for name, estimated, taken in sides
    ]
    st.markdown(f"**This machine**, as a check on the method: {'; '.join(told)}.")
    return here, measured


def _work(known: Known, recipe: Recipe) -> list[LayerWork]:
    """In the number format that the recipe asks for, whatever runtime is chosen here."""
    view = known.view
    timing = replace(view.timing, number_format="int8" if recipe.integer else "fp32")
    return state.workbench().work(view.model, recipe, timing)


def _row(device: Device) -> dict[str, Any]:
    return {"Device": device.title} | {
        column: getattr(device, field) / unit for field, (column, unit) in FIGURES.items()
    }


def changed(device: Device, row: dict[str, Any]) -> Device:
    """The device with the figures of its row that were edited; raises CompressionError."""
    figures = {}
    for field, (column, unit) in FIGURES.items():
        if row[column] != getattr(device, field) / unit:
            value = row[column]
            if not isinstance(value, (int, float)):
                raise CompressionError(f"{column} must be a number; got {value!r}. Write e.g. 1.")
            figures[field] = value * unit
    return edited(device, **figures) if figures else device


def _projections(
    known: Known, chosen: list[Device], own: list[LayerWork], baseline: list[LayerWork]
) -> list[tuple[Device, Projection, Projection]]:
    """The estimates of each device for the baseline and for the recipe."""
    dense = state.workbench().subject(known.view.model).baseline.size_bytes
    evaluation = known.work.evaluation
    # Without a file only the transfer is unknown.
    size = evaluation.record.size.artefact if evaluation is not None else dense
    number_format = "int8" if known.view.recipe.integer else "fp32"
    return [
        (device, project(baseline, dense, device, "fp32"), project(own, size, device, number_format))
        for device in chosen
    ]


def _table(known: Known, projections: list[tuple[Device, Projection, Projection]]) -> None:
    sized = known.work.evaluation is not None
    rows = [_line(device, mine, theirs, sized) for device, theirs, mine in projections]
    number = st.column_config.NumberColumn
    st.dataframe(
        rows,
        key="device_estimates",
        hide_index=True,
        placeholder="–",
        alt="Estimates of latency, fit, transfer time and energy for other devices",
        column_config={
            "Estimate": number("≈ Latency", format="%.3g ms", help="A batch, by roofline."),
            "Baseline": number("≈ Baseline", format="%.3g ms", help="The uncompressed fp32 model, estimated likewise."),
            "Speed": st.column_config.TextColumn("≈ Speed"),
            "Transfer": number("≈ Transfer", format="%.3g ms", help="Of the file over the link of the device."),
            "Energy": number("≈ Energy", format="%.3g µJ", help="Of arithmetic and memory traffic alone."),
        },
    )
    st.caption(
        f"**Estimates, not measurements**: by roofline from the figures below, batch {known.view.timing.batch}, "
        f"{'int8' if known.view.recipe.integer else 'fp32'}. Zeros count as weights. Kernels reach the stated share of "
        "the peak and all of the bandwidth; nothing is left in caches between two calls; weights are in memory "
        f"decoded. Energy is of arithmetic and memory alone: {ENERGY_SOURCE}."
    )


def _line(device: Device, mine: Projection, theirs: Projection, sized: bool) -> dict[str, Any]:
    needed = f"{format_bytes(mine.ram_needed)} RAM"
    if mine.flash_needed:
        needed += f", {format_bytes(mine.flash_needed)} flash"
    return {
        "Device": device.title,
        "Estimate": 1e3 * mine.seconds,
        "Baseline": 1e3 * theirs.seconds,
        "Speed": faster(theirs.seconds / mine.seconds),
        "Fits": "yes" if mine.fits else "no",
        "Needs": needed,
        "Mostly": _bound(mine),
        "Transfer": 1e3 * mine.transfer_s if sized else None,
        "Energy": None if mine.energy_j is None else 1e6 * mine.energy_j,
    }


def _bound(projection: Projection) -> str:
    """What bounds the layers that take most of the time."""
    seconds: dict[str, float] = {}
    for layer in projection.layers:
        seconds[layer.bound] = seconds.get(layer.bound, 0.0) + layer.seconds
    return max(seconds, key=seconds.get)
