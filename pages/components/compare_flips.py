"""The samples whose answer another configuration changes: which they are, and what both say of them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from paretoscope.figures.theme import Theme
from paretoscope.measure.comparison import Pair, chosen, flipped, pair, pairable
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.recipe import SETTINGS, Recipe
from paretoscope.search.next_step import SLIDERS, further
from paretoscope.service.jobs import Job
from paretoscope.service.maps import Maps, mapped
from paretoscope.service.presets import movable
from paretoscope.service.preview import Look, Picked, Shown
from paretoscope.service.study import StudyKind
from paretoscope.service.subjects import task_of
from paretoscope.tasks import Flip, Flips, Task
from paretoscope.tasks import plain as plain_text

from pages.components import compare, compare_sheet, naming, networks_preview, plain, state, widgets
from pages.components.compare import Column, Known

PAGE = 12
STEP, PICTURES, MAPS = "compare step", "compare samples", "compare maps"
STEPS = (1, 2, 5, 10)
BASELINE = "Baseline"
OF = {
    "all": frozenset({Flip.BROKEN, Flip.MENDED, Flip.CHANGED}),
    "broken": frozenset({Flip.BROKEN}),
    "mended": frozenset({Flip.MENDED}),
    "changed": frozenset({Flip.CHANGED}),
}


@dataclass(frozen=True)
class Sides:
    """Two evaluations of the same samples, and what the screen calls each."""

    model: str
    before: Evaluation
    after: Evaluation
    names: tuple[str, str]


def render(known: Known, look: Theme) -> Job | None:
    """Choose two sides, and see what flips between them. The job that is waited for, if there is one."""
    titles = {"two": "Two configurations", "step": "The next slider step"}
    step = widgets.one_of("Between", titles, "flips_mode") == "step"
    sides, job = _of_step() if step else _of_two(known)
    if sides is not None:
        job = _flips(sides, look) or job
    elif job is not None:
        st.skeleton(height=160)
        st.caption(plain.escape(state.told(job)))
    return job


def _of_two(known: Known) -> tuple[Sides | None, Job | None]:
    """Any two columns; the baseline of the current model is always there."""
    view = state.view()
    columns = {each.tag: each for each in known.columns}
    if not any(each.model == view.model and each.recipe == Recipe() for each in known.columns):
        columns[BASELINE] = Column(BASELINE, view.model, Recipe())
    tags = list(columns)
    if len(tags) < 2:
        st.caption("Pin another configuration to see what differs.")
        return None, None
    unchanged = next((tag for tag, each in columns.items() if each.recipe == Recipe()), tags[1])
    for key, value in (("flips_from", unchanged), ("flips_to", next(tag for tag in tags if tag != unchanged))):
        if st.session_state.get(key) not in tags:
            st.session_state[key] = value
    with st.container(horizontal=True, vertical_alignment="bottom", key="flips_sides"):
        before = columns[st.selectbox("From", tags, key="flips_from", width=220)]
        after = columns[st.selectbox("To", tags, key="flips_to", width=220)]
    if before.key == after.key:
        st.caption("Choose two that differ.")
        return None, None
    found, job = compare.fetch(STEP, [_asked(each.model, each.recipe) for each in (before, after)])
    return _sides((before, after), found, job)


def _of_step() -> tuple[Sides | None, Job | None]:
    """The current recipe against the one a slider's step further, which is evaluated now."""
    view = state.view()
    start = movable(view.model, view.recipe)
    with st.container(horizontal=True, vertical_alignment="bottom", key="flips_step"):
        slider = st.segmented_control(
            "Slider",
            SLIDERS,
            default=SLIDERS[0],
            required=True,
            key="flips_slider",
            format_func=lambda name: SETTINGS[name].label,
        )
        steps = st.segmented_control("Steps further", STEPS, default=STEPS[0], required=True, key="flips_steps")
    after = further(start, slider, steps)
    setting = SETTINGS[slider]
    if after is None:
        st.caption(f"{setting.label} is at its end already.")
        return None, None
    was, now = (setting.word(each.settings()[slider]) for each in (start, after))
    kept = "" if start == view.recipe else " Without the training, which is of one recipe alone:"
    st.markdown(f"Which samples does **{setting.label} {plain.escape(was)} → {plain.escape(now)}** change?{kept}")
    sides = Column("Now", view.model, start), Column(f"At {now}", view.model, after)
    found, job = compare.fetch(STEP, [_asked(each.model, each.recipe) for each in sides])
    return _sides(sides, found, job)


def _asked(model: str, recipe: Recipe) -> tuple[Hashable, Callable[[], Any], Callable[[], Job]]:
    bench = state.workbench()
    return (model, recipe), lambda: _known(model, recipe), lambda: bench.evaluate(model, recipe)


def _known(model: str, recipe: Recipe) -> Evaluation | None:
    bench = state.workbench()
    return bench.find(model, recipe) if bench.loaded(model) else None


def _sides(
    columns: tuple[Column, Column], found: dict[Hashable, Any], job: Job | None
) -> tuple[Sides | None, Job | None]:
    before, after = columns
    one, other = (found.get((each.model, each.recipe)) for each in columns)
    for each in columns:
        if problem := compare.problem_of(STEP, (each.model, each.recipe)) or each.problem:
            st.error(plain.escape(f"{each.tag}: {problem}"))
            return None, None
    if one is None or other is None:
        return None, job
    if not pairable(one.record, other.record, task_of(before.model)):
        st.info(
            f"{naming.titled(before.model)} and {naming.titled(after.model)} are measured on other samples, so that no "
            "answer of one is an answer of the other. Choose two of one data set.",
            icon=":material/difference:",
        )
        return None, None
    return Sides(before.model, one, other, (before.tag, after.tag)), None


def _flips(sides: Sides, look: Theme) -> Job | None:
    """The verdict, the filters, and a page of samples."""
    subject, task = state.workbench().subject(sides.model), task_of(sides.model)
    labels = subject.labels
    found = pair(task, sides.before, sides.after, labels)
    assert found is not None, "sides are pairable"
    flips = flipped(task, sides.before.predictions, sides.after.predictions, labels)
    _verdict(found, task)
    if found.same:
        return None
    classes = task_classes(subject.task, labels)
    with st.container(horizontal=True, vertical_alignment="bottom", key="flips_filter"):
        counts = {name: sum(found.counts[kind] for kind in kinds) for name, kinds in OF.items()}
        kind = st.segmented_control(
            "Which",
            list(OF),
            default="all",
            required=True,
            key="flips_kind",
            format_func=lambda name: f"{_title(name, task)} {counts[name]:,}",
            help=task.words.flips.help,
        )
        label = None
        if classes:
            place = st.selectbox(
                "True class",
                range(len(classes) + 1),
                key=f"flips_class_{sides.model}",
                format_func=lambda each: "All" if each == 0 else plain.cut(classes[each - 1], 40),
                width=200,
            )
            label = place - 1 if place else None
    places = chosen(flips, labels, OF[kind], label)
    if not len(places):
        st.caption("No sample is of that kind.")
        return None
    pages = -(-len(places) // PAGE)
    page = 1
    if pages > 1:
        # Another choice starts at its first page.
        page = st.pagination(pages, key=f"flips_page_{sides.names}_{kind}_{label}_{pages}")
    first = (page - 1) * PAGE
    shown = places[first : first + PAGE]
    st.caption(f"{first + 1:,} to {first + len(shown):,} of {len(places):,}, {task.words.flips.order}.")
    return _samples(sides, subject.task, labels, flips, shown, look)


def _verdict(found: Pair, task: Task) -> None:
    told = compare_sheet.told(found, task)
    st.markdown(f"**{plain_text.flips(task.words, found.counts)}** of {found.n:,}: {plain.escape(told)}.")


def _title(name: str, task: Task) -> str:
    return "All" if name == "all" else plain_text.flip(task.words, *OF[name]).title


def task_classes(task: Task, labels: np.ndarray) -> tuple[str, ...]:
    """Names of the classes by which samples can be chosen; none where they have no single label."""
    if not task.needs_labels or labels.ndim != 1:
        return ()
    return tuple(task.classes) or tuple(map(str, range(int(labels.max()) + 1)))


def _samples(sides: Sides, task: Task, labels: np.ndarray, flips: Flips, places: np.ndarray, look: Theme) -> Job | None:
    wanted = tuple(int(place) for place in places)
    key = sides.model, wanted
    bench = state.workbench()
    found, job = compare.fetch(
        PICTURES, [(key, lambda: _pictures().get(key), lambda: bench.ask(StudyKind.SAMPLES, *key))]
    )
    picked: Picked | None = found[key]
    if picked is None:
        if problem := compare.problem_of(PICTURES, key):
            st.error(plain.escape(problem))
        else:
            st.skeleton(height=210)
        return job
    _keep(key, picked)
    drawn, job = _maps(sides, wanted)
    classes = task_classes(task, labels)
    wide = max(networks_preview.WIDTH[each.look] for each in picked.inputs)
    with st.container(horizontal=True, key="flips_samples", gap="small"):
        for at, place in enumerate(wanted):
            with st.container(border=True, width=wide + 62, key=f"flip_{at}"):
                for shown, seen in zip(picked.inputs, picked.seen[at], strict=True):
                    networks_preview.one(shown, seen, f"flip_{at}_{shown.name}", look)
                if drawn:
                    st.image(list(drawn[at]), width=wide // 2, caption=list(sides.names), output_format="PNG")
                label = classes[int(labels[place])] if classes else ""
                _answers(sides, task, Flip(int(flips.kinds[place])), place, label)
    _note(picked.inputs, task)
    if drawn:
        st.caption("Maps of classes as shades of grey; vermillion: where the second says another class than the first.")
    return job


def _maps(sides: Sides, places: tuple[int, ...]) -> tuple[list[Maps], Job | None]:
    """What both say at each position, where the network gives maps; none where the sides are of two networks."""
    one, other = (each.record for each in (sides.before, sides.after))
    if one.model != other.model or not mapped(naming.find(one.model)):
        return [], None
    key, bench = (one.model, one.recipe, other.recipe, places), state.workbench()
    found, job = compare.fetch(MAPS, [(key, lambda: _pictures().get(key), lambda: bench.ask(StudyKind.MAPS, *key))])
    if problem := compare.problem_of(MAPS, key):
        st.error(plain.escape(problem))
    if found[key] is not None:
        _pictures()[key] = found[key]
    return found[key] or [], job


def _pictures() -> dict[Hashable, Any]:
    return st.session_state.setdefault("flips_pictures", {})


def _keep(key: Hashable, picked: Picked) -> None:
    """The page that is on the screen; redrawing it reads nothing again."""
    if key not in _pictures():
        st.session_state.flips_pictures = {key: picked}


def _answers(sides: Sides, task: Task, kind: Flip, place: int, label: str) -> None:
    word, lines = plain_text.flip(task.words, kind), []
    for name, side, sign in zip(sides.names, (sides.before, sides.after), (word.before, word.after), strict=True):
        answer, sure = task.said(side.predictions, place)
        told = {"✓": ":green[✓] ", "✗": ":orange[✗] "}.get(sign, "")
        lines.append(
            f"{told}**{plain.escape(answer, 40)}** {plain.escape(sure, 30)}  \n:small[:gray[{plain.escape(name, 40)}]]"
        )
    st.markdown("  \n".join(lines))
    st.caption(plain.escape(f"sample {place}{f', true: {label}' if label else ''}"))


def _note(inputs: tuple[Shown, ...], task: Task) -> None:
    told = ["Pictures are as the network gets them."] * any(each.look is Look.PICTURE for each in inputs)
    told += ["The numbers behind answers are the model's own confidence."] * task.needs_labels
    if told:
        st.caption(" ".join(told))
