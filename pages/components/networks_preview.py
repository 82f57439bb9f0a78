"""What a network sees and answers, and the question whether its figure is what its user expects."""

import json
from dataclasses import dataclass, replace

import streamlit as st
from paretoscope.base.units import format_bytes, format_percent
from paretoscope.figures import signal
from paretoscope.figures.theme import Theme
from paretoscope.service.jobs import Job
from paretoscope.service.preview import Look, Preview, Sample, Seen, Shown
from paretoscope.service.roster import Row
from paretoscope.service.study import StudyKind
from paretoscope.service.subjects import task_of

from pages.components import figure, naming, plain, state
from pages.components.turns import TURNS

# Share of the parameters that recipes act on, below which that is a warning.
TOUCHED = 0.9
PIXELS = "the scale of pixels, their mean and standard deviation, the order of channels and of classes"
NUMBERS = "the scale of their numbers, or which number stands for which word, and the order of classes"
WIDTH = {Look.PICTURE: 108, Look.CURVES: 250, Look.NUMBERS: 250, Look.TOKENS: 250, Look.OTHER: 250}


@dataclass(frozen=True)
class Known:
    """What is known of a network just now. job: that looks at it. running: that runs it over all test samples."""

    preview: Preview | None
    job: Job | None
    problem: str | None
    running: Job | None = None

    @property
    def pace(self) -> float | None:
        """Seconds between redraws."""
        waited = (self.running, *(state.job(name) for name in ("rank", "take")))
        return 0.5 if self.job is not None or any(job is not None and not job.ended for job in waited) else None


def known(row: Row) -> Known:
    """The preview of a network, which is started where it is missing; of another one it is not wanted any more."""
    if row.problem:
        state.stop("preview")
        state.stop("baseline")
        return Known(None, None, None)
    bench = state.workbench()
    bench.refresh(row.name)
    job = state.follow("preview", naming.find(row.name), lambda: bench.ask(StudyKind.PREVIEW, row.name))
    state.keep()
    with TURNS.away():
        job.wait(state.EXACT_ANSWER_S)
    found = job.result or job.partial
    if not job.ended or found is None or found.worth is None or found.worth.n == found.worth.samples:
        state.stop("baseline")
        return Known(found, None if job.ended else job, job.error)
    running = state.follow("baseline", naming.find(row.name), lambda: bench.ask(StudyKind.BASELINE, row.name))
    worth = running.result or running.partial or found.worth
    return Known(replace(found, worth=worth), None, job.error, None if running.ended else running)


def render(row: Row, known: Known, look: Theme) -> None:
    """Eight samples with the answers, and what the network is worth."""
    if row.problem:
        return
    if known.problem:
        st.error(f"It cannot be shown: {plain.escape(known.problem)}")
        return
    found = known.preview
    if found is None:
        st.skeleton(height=210)
        if known.job is not None:
            st.caption(plain.escape(f"{state.told(known.job)}; {known.job.step or 'waiting'}"))
        return
    _worth(row, found, known.running or known.job)
    _trying(row, found)
    _samples(found, look)
    _facts(row, found)


def _worth(row: Row, found: Preview, job: Job | None) -> None:
    """The figure with the question that finds wrong preprocessing; what is measured where there is no figure."""
    words = task_of(row.name).words
    if found.worth is not None:
        worth, value = found.worth, words.value(found.worth.value)
        low, high = words.ends(worth.low, worth.high)
        part = f" of {worth.samples:,}" if worth.n < worth.samples else ""
        question = "" if not row.own else f" **{value}: is that what you expect?**"
        told = (
            f"The uncompressed network has **{value}** {words.name} on {worth.n:,}{part} test samples, 95 % interval "
            f"{low} to {high}."
        )
        (st.warning if worth.chance and row.own else st.markdown)(told + question)
        if job is not None:
            st.caption(plain.escape(f"{state.told(job)}; {job.step or 'waiting'}"))
        if row.own:
            pictures = any(each.look is Look.PICTURE for each in found.inputs)
            told = f"It is {words.chance}. " if worth.chance else ""
            st.caption(
                f"{told}If not, the first thing to look at is how samples are brought to the network: "
                f"{PIXELS if pictures else NUMBERS}."
            )
    elif found.drawn:
        st.info(
            "No samples: what follows is drawn from random numbers. Sizes and latency are measured as of any network; "
            "agreement and harm are those on drawn inputs and marked so. Add it again with samples for figures that "
            "count.",
            icon=":material/casino:",
        )
    elif not task_of(row.name).needs_labels:
        st.markdown(
            f"It is judged by **{words.name}** with its own uncompressed answers: no labels are needed, and nothing is "
            "said of how right those answers are."
        )
    elif job is not None:
        st.caption(plain.escape(job.step or job.label))


def _trying(row: Row, found: Preview) -> None:
    """The presets of preprocessing, tried on demand on samples that nothing is measured on."""
    if not row.own or not found.presets:
        return
    network = naming.find(row.name)
    job = state.job("rank", network)
    ranked = job.result if job is not None else None
    if ranked is None:
        running = job is not None and not job.ended
        st.button(
            "Trying" if running else "Try other preprocessing",
            key="rank_presets",
            icon=":material/tune:",
            disabled=running,
            on_click=lambda: state.follow("rank", network, lambda: state.workbench().ask(StudyKind.RANK, row.name)),
            help="Each preset, on samples of the train part; the test samples are not looked at.",
        )
        if running:
            bar, button = st.columns([5, 1], vertical_alignment="center")
            bar.progress(job.progress, text=plain.escape(f"{state.told(job)}{f': {job.step}' if job.step else ''}"))
            button.button("Cancel", key="cancel_rank", width="stretch", on_click=state.stop, args=("rank",))
        elif job is not None and job.error:
            st.error(plain.escape(job.error))
        return
    words, best = task_of(row.name).words, ranked[0]
    told = ", ".join(
        f"{each.preset.title} **{words.value(each.value)}** ({' to '.join(words.ends(each.low, each.high))})"
        for each in ranked
    )
    st.markdown(f"On {best.n:,} samples of the train part: {told}.")
    taken = json.loads(network.preprocess) if network.preprocess else {}
    if best.preset.preprocess.to_json() == taken:
        st.success(f"{best.preset.title} is the best of them, and is what is used.", icon=":material/check:")
        return
    name = best.preset.name
    st.button(
        f"Take {best.preset.title}",
        key="take_preset",
        type="primary",
        icon=":material/check:",
        on_click=lambda: state.follow(
            "take", (network, name), lambda: state.workbench().ask(StudyKind.TAKE, row.name, name)
        ),
    )
    taking = state.job("take", (network, name))
    if taking is not None and taking.error:
        st.error(plain.escape(taking.error))


def _samples(found: Preview, look: Theme) -> None:
    """Each sample in a card of its own."""
    wide = max(WIDTH[each.look] for each in found.inputs)
    with st.container(horizontal=True, key="seen_samples", gap="small"):
        for place, sample in enumerate(found.samples):
            with st.container(border=True, width=wide + 34, key=f"seen_{place}"):
                for shown, seen in zip(found.inputs, sample.seen, strict=True):
                    if len(found.inputs) > 1:
                        st.caption(plain.escape(shown.name, 40))
                    one(shown, seen, f"seen_{place}_{shown.name}", look)
                _answers(sample)
    for shown in found.inputs:
        st.caption(_range(shown))


def one(shown: Shown, seen: Seen, key: str, look: Theme) -> None:
    """One input of one sample, as the network gets it."""
    match shown.look:
        case Look.PICTURE:
            st.image(seen.picture, width=WIDTH[Look.PICTURE], output_format="PNG", alt="A sample as it is seen")
        case Look.CURVES:
            data = signal.gather(seen.curves, shown.low, shown.high)
            figure.show(signal.draw(data, look), key, alt=data.alt)
        case Look.TOKENS:
            if seen.text:
                st.caption(plain.escape(seen.text, 120))
            st.text(" ".join(f"{value:.0f}" for value in seen.values))
        case _:
            names = shown.columns or ("",) * len(seen.values)
            pairs = zip(names, seen.values, strict=False)
            st.text("  ".join(f"{plain.cut(name, 20)} {value:.4g}".strip() for name, value in pairs))


def _answers(sample: Sample) -> None:
    if not sample.answers:
        st.caption("not run yet")
        return
    first, *others = sample.answers
    mark = {True: ":green[✓] ", False: ":orange[✗] ", None: ""}[sample.right]
    st.markdown(f"{mark}**{plain.escape(first, 80)}**")
    if sample.label and not sample.right:
        st.markdown(f"label: {plain.escape(sample.label, 60)}")
    if others:
        st.caption("  \n".join(plain.escape(each, 80) for each in others))


def _range(shown: Shown) -> str:
    told = {
        Look.PICTURE: "Pictures as the network gets them, preprocessing not undone: white is the highest value.",
        Look.CURVES: "Signals as the network gets them, a line for each channel.",
        Look.TOKENS: "The first numbers of tokens.",
        Look.NUMBERS: "The first numbers of each sample.",
        Look.OTHER: "The first numbers of each sample.",
    }[shown.look]
    shape = " x ".join(map(str, shown.shape)) or "a number"
    return (
        f"{plain.escape(shown.name, 40)}, {plain.escape(shown.dtype)} {shape}: values from {shown.low:.4g} to "
        f"{shown.high:.4g}, mean {shown.mean:.4g}. {told}"
    )


def _facts(row: Row, found: Preview) -> None:
    """What recipes act on, and the notes of the import."""
    facts = found.facts
    if facts is None:
        return
    touched = f"Recipes act on {format_percent(facts.touched)} of the {facts.parameters:,} parameters"
    if facts.touched < TOUCHED:
        st.warning(
            f"{touched}: the rest stays as it is, and bounds how small this network can get.", icon=":material/rule:"
        )
    else:
        st.caption(f"{touched}; {format_bytes(facts.size_bytes)} as 32-bit floats.")
    if row.notes or row.source:
        # Why it is not judged by its labels must not be overlooked.
        with st.expander("How it was opened", icon=":material/info:", expanded=not task_of(row.name).needs_labels):
            if row.source:
                st.text(f"From {plain.cut(row.source, 120)}")
            for note in row.notes:
                st.text(plain.cut(note))
