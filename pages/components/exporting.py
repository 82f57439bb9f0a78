"""The parts of the Export page."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.export import Checked, Conversion, Format, Verification, differing, formats, stem
from paretoscope.export.restore import LARGEST, restore
from paretoscope.service.jobs import Job, State
from paretoscope.service.study import StudyKind
from paretoscope.service.subjects import task_of
from paretoscope.tasks import Words

from pages.components import background, naming, plain, state
from pages.components.downloads import artefact
from pages.components.state import Work

# Names and Mbit/s of links that devices are updated over, as users see them rather than at their peak.
COLUMNS = (
    "Format",
    "State",
    "Size",
    "Ratio",
    "Differ",
    "Largest",
    "Files",
    "Runtime of the check",
    "Promise",
)
BANDWIDTHS = (("LoRa", 0.005), ("NB-IoT", 0.06), ("BLE", 1.0), ("4G", 20.0), ("Wi-Fi", 100.0))


@dataclass(frozen=True)
class Offer:
    """What is known of one format for the current view.

    verification: of its files, if they were checked. conversion: the files, where they passed and are kept. job: that
    converts them just now. reason: why there can be none, or why they failed.
    """

    format: Format
    verification: Verification | None
    conversion: Conversion | None
    job: Job | None
    reason: str | None

    @property
    def possible(self) -> bool:
        return self.reason is None or self.verification is not None

    @property
    def told(self) -> str:
        """Where it stands, in a word or two."""
        if self.job is not None:
            return "converting" if self.job.state is State.RUNNING else "waiting"
        if self.verification is not None:
            return "checked" if self.verification.passed else "failed"
        if not self.format.available():
            return "not installed"
        return "not converted" if self.possible else "needs integers"


def offers(work: Work) -> list[Offer]:
    """Every format, as far as it is known."""
    return [_offer(work, each) for each in formats]


def _offer(work: Work, format: Format) -> Offer:
    bench, view = state.workbench(), work.view
    key = view.model, view.recipe
    job = state.job(_name(format), key)
    if job is None:
        # What was wanted for the view before is not wanted any more.
        state.stop(_name(format))
    done: Checked | None = job.result if job is not None else None
    verification = done.verification if done is not None else bench.known(StudyKind.CONVERT, *key, format.name)
    reason = format.missing() or format.refusal(view.recipe)
    if verification is not None and not verification.passed:
        reason = verification.problem
    return Offer(
        format=format,
        verification=verification,
        conversion=bench.conversion(*key, format.name),
        job=job if job is not None and not job.ended else None,
        reason=reason,
    )


def fill(work: Work) -> None:
    """Convert and check what is missing, one format after the other, once the view has stood still."""
    key = work.view.model, work.view.recipe
    for offer in _missing(work, offers(work)):
        if background.follow(_name(offer.format), key, StudyKind.CONVERT, *key, offer.format.name) is not None:
            return


def _missing(work: Work, known: list[Offer]) -> list[Offer]:
    """The formats that may be converted unasked, one that is converted just now first; none before the evaluation."""
    key = work.view.model, work.view.recipe
    wanted = [
        offer
        for offer in known
        if offer.reason is None
        and offer.conversion is None
        and background.due(_name(offer.format), key)
        # What has ended and is not kept was too large to be, and is made again when it is asked for.
        and (offer.job is not None or state.job(_name(offer.format), key) is None)
    ]
    return sorted(wanted, key=lambda offer: offer.job is None) if work.exact else []


def pace(work: Work, known: list[Offer]) -> float | None:
    """Seconds between redraws."""
    if any(offer.job for offer in known):
        return 0.5
    return work.pace or (1.0 if _missing(work, known) else None)


def _name(format: Format) -> str:
    return f"convert {format.name}"


def _convert(names: list[str]) -> None:
    bench, view = state.workbench(), state.view()
    for name in names:
        state.follow(
            _name(formats.get(name)),
            (view.model, view.recipe),
            lambda name=name: bench.ask(StudyKind.CONVERT, view.model, view.recipe, name),
        )


def _cancel() -> None:
    key = state.view().model, state.view().recipe
    for each in formats:
        background.stop(_name(each), key)


def downloads(work: Work) -> None:
    """The recipe and the artefact, at once: the one is what the screen says, the other the file that it measured."""
    view = work.view
    name = stem(view.model, view.recipe)
    with st.container(horizontal=True, key="downloads"):
        _take("Recipe (JSON)", f"{name}.json", lambda: view.recipe.to_json(indent=2))
        _take("Artefact", f"{name}.psc", lambda: artefact(view.model, view.recipe), disabled=not work.exact)
    st.caption(
        "The recipe makes the same file anew, with this program. The artefact is the compressed model itself, in the "
        "very bytes whose length is its size; the command line decodes it."
    )


def _take(label: str, file: str, data: Callable[[], str | bytes], disabled: bool = False) -> None:
    st.download_button(
        label,
        data,
        file,
        "application/octet-stream",
        key=f"take_{file.rpartition('.')[2]}",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        disabled=disabled,
    )


def actions(known: list[Offer]) -> None:
    """Everything at once; how far the conversion that runs is, and a way to stop."""
    running = next((o.job for o in known if o.job and o.job.state is State.RUNNING), None)
    running = running or next((o.job for o in known if o.job), None)
    if running is None:
        left = [o.format.name for o in known if o.possible and o.conversion is None]
        st.button(
            "Convert and check all" if left else "All converted and checked",
            key="convert_all",
            icon=":material/done_all:",
            disabled=not left,
            on_click=_convert,
            args=(left,),
            help="It begins by itself, one format after the other. Each file is run over the whole test split in its "
            "own runtime before it is offered.",
        )
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    waiting = sum(o.job is not None for o in known) - 1
    more = f", {waiting} more waiting" if waiting else ""
    bar.progress(running.progress, text=f"{plain.escape(state.told(running))}{more}")
    button.button("Cancel", key="cancel_convert", width="stretch", on_click=_cancel, help="Stop all conversions.")


def table(work: Work, known: list[Offer]) -> None:
    """Formats with size, transfer times and what the check found."""
    dense = state.workbench().subject(work.view.model).baseline.size_bytes
    links = _links()
    words = task_of(work.view.model).words
    rows = [_row(offer, dense, links, words) for offer in known]
    number = st.column_config.NumberColumn
    st.dataframe(
        rows,
        key="formats",
        hide_index=True,
        height=38 + 35 * len(rows),
        placeholder="–",
        alt="Formats with their size, transfer times, and their differences from the network on the screen",
        column_config={
            "Format": st.column_config.TextColumn(width=146),
            "State": st.column_config.TextColumn(width=104),
            "Size": number(width=88, format="%.1f KB", help="Bytes on disk, all files counted."),
            "Ratio": number(width=70, format="%.1fx", help="fp32 bytes / bytes on disk."),
            "Differ": number(width=58, help="Test samples with another answer than on the screen."),
            "Largest": number(width=92, format="%.2g", help="Largest difference of an output from the screen's."),
            words.title: number(width=76, format=words.number, help="In its own runtime, over the whole test split."),
            **{
                name: st.column_config.TextColumn(width=72, help=f"Transfer at {_speed(rate)}.") for name, rate in links
            },
        },
    )


def _row(offer: Offer, dense: int, links: list[tuple[str, float]], words: Words) -> dict[str, Any]:
    found = offer.verification
    size = found.size if found is not None and found.size else None
    ran = found is not None and found.n > 0
    return {
        "Format": offer.format.title,
        "State": {"checked": "✓ checked", "failed": "✗ failed"}.get(offer.told, offer.told),
        "Size": size / 1000 if size else None,
        # A recipe gives the network only with the weights that it was made for.
        "Ratio": dense / size if size and offer.format.whole else None,
        "Differ": found.differing if ran else None,
        "Largest": found.largest if ran else None,
        words.title: words.factor * found.accuracy if ran else None,
        **{name: format_seconds(size * 8 / (1e6 * rate)) if size else None for name, rate in links},
        "Files": offer.format.extension,
        "Runtime of the check": offer.format.runtime,
        "Promise": offer.format.promise,
    }


def format_seconds(seconds: float) -> str:
    """A duration with two or three digits: "0.4 s", "6.5 min"."""
    if seconds < 0.001:
        return "< 1 ms"
    for unit, length, most in (("ms", 0.001, 1), ("s", 1, 100), ("min", 60, 6000), ("h", 3600, float("inf"))):
        if seconds < most:
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    raise ValueError(seconds)


def _speed(rate: float) -> str:
    return f"{1000 * rate:g} kbit/s" if rate < 1 else f"{rate:g} Mbit/s"


def buttons(work: Work, known: list[Offer]) -> None:
    """One button a format: to convert, and then to take the files away."""
    name = stem(work.view.model, work.view.recipe)
    with st.container(horizontal=True, key="format_buttons"):
        for offer in known:
            format = offer.format
            if offer.conversion is not None:
                file, data = offer.conversion.download(name)
                st.download_button(
                    format.title,
                    data,
                    file,
                    "application/octet-stream",
                    key=f"download_{format.name}",
                    on_click="ignore",
                    icon=":material/download:",
                    help=format.summary,
                )
            else:
                st.button(
                    f"Convert: {format.title}",
                    key=f"convert_{format.name}",
                    disabled=not offer.possible or offer.job is not None,
                    on_click=_convert,
                    args=([format.name],),
                    help=format.summary,
                )


def reasons(known: list[Offer]) -> None:
    """What failed, what is not installed, and what does not go with this recipe."""
    for offer in known:
        if offer.job is None and offer.verification is not None and not offer.verification.passed:
            st.warning(f"Not offered: {plain.escape(offer.reason)}", icon=":material/block:")
        key = state.view().model, state.view().recipe
        if why := background.problem(_name(offer.format), key):
            st.warning(f"{offer.format.title} could not be made: {plain.escape(why)}", icon=":material/block:")
    missing = [offer.reason for offer in known if offer.reason and offer.verification is None]
    if missing:
        st.caption("  \n".join(map(plain.escape, missing)))
    st.caption(
        "Each file is run in its own runtime over the whole test split. Differ: samples that get another answer than "
        "on the screen. Largest: how far an output is at most from the screen's. With integer kernels the screen shows "
        "the integer network, from which formats of decoded floats differ by the rounding of its activations. A file "
        "that fails its promise, in the last column, is not offered."
    )


def bandwidths() -> None:
    """The links that transfer times are stated for; the rows may be edited, added and removed."""
    st.subheader("Bandwidths", anchor="bandwidths")
    st.session_state.setdefault("links", [{"Link": name, "Mbit/s": rate} for name, rate in BANDWIDTHS])
    edited = st.data_editor(
        st.session_state.links,
        key="bandwidths",
        num_rows="dynamic",
        hide_index=True,
        column_config={
            "Link": st.column_config.TextColumn(required=True, max_chars=24),
            "Mbit/s": st.column_config.NumberColumn(required=True, min_value=0.0001, max_value=1e6, format="%g"),
        },
    )
    kept = [(row["Link"], row["Mbit/s"]) for row in edited if row.get("Link") and row.get("Mbit/s")]
    if kept != st.session_state.get("kept_links"):
        st.session_state.kept_links = kept
        st.rerun()


def _links() -> list[tuple[str, float]]:
    # A link that has the name of a column would take its place.
    columns, kept = (*COLUMNS, state.words().title), st.session_state.get("kept_links", BANDWIDTHS)
    links = {f"{name} " if name in columns else name: rate for name, rate in kept}
    return list(links.items())


def upload() -> None:
    """A file that was exported before brings its view back."""
    st.subheader("Open an export", anchor="open")
    st.file_uploader(
        "An exported recipe, artefact or bundle",
        type=["json", "yaml", "yml", "psc", "zip"],
        key="upload",
        max_upload_size=LARGEST >> 20,
        on_change=_open,
        help="The model and the recipe are those of the file. A recipe names no model: it is loaded for this one.",
    )
    if problem := st.session_state.get("upload_error"):
        st.error(f"Not opened: {plain.escape(problem)}")
    elif told := st.session_state.get("upload_told"):
        st.success(plain.escape(told), icon=":material/check:")


def _open() -> None:
    file = st.session_state.upload
    st.session_state.upload_error = st.session_state.upload_told = None
    if file is None:
        return
    view = state.view()
    try:
        found = restore(file.getvalue(), file.name, lambda model: state.statistics(model).digest)
        opened = replace(view, model=found.model or view.model, recipe=found.recipe)
        told = f"{naming.called(opened.model)}: {found.recipe.describe()}."
        if found.compressed is not None and differing(
            found.compressed, state.workbench().compressed(opened.model, found.recipe)
        ):
            told += " This version makes other weights of that recipe; all figures are of those."
        if found.compressed is not None and found.compressed.description is not None:
            told += f" {' '.join(found.compressed.notes)} Shown is the recipe as far as it is known."
    except CompressionError as error:
        st.session_state.upload_error = str(error)
        return
    state.load(opened)
    st.session_state.upload_told = f"Opened the {found.kind} {file.name}. {told}"
