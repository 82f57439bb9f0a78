"""The settings of a training: what recipe and widgets ask for, and the widgets."""

import math
from dataclasses import replace
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.networks.sources import alike
from paretoscope.recipe.recipe import SETTINGS, Recover
from paretoscope.recipe.schema import Setting
from paretoscope.service.study import StudyKind

from pages.components import naming, state, widgets
from pages.components.state import View
from pages.components.trainings import Known, Request, start

WIDGET = "training_"
SOURCES = {"labels": "labels", "teacher": "a teacher", "both": "both, mixed"}
PACES = {"gradual": "gradually", "one-shot": "from the start"}
DEFAULT = Recover(epochs=20, distill=0.5, ramp=0.5)
# What "both" and "gradually" mean until they are told otherwise.
MIX, RAMP = 0.5, 0.5
# Settings that follow from several widgets, or from how a training ended.
APART = ("distill", "ramp", "stopped")
COLUMNS = 4


def ask(view: View) -> Request:
    """The request that recipe and widgets make; the widgets allow what a recipe allows."""
    before, kept = st.session_state.get("training_of", (None, None)), st.session_state.setdefault("trainings", {})
    if before != (view.model, view.recipe):
        st.session_state.training_of = view.model, view.recipe
        step, minutes = _settings()
        if view.recipe.recover is not None:
            put(_asked(view), None)
        elif before[0] != view.model and view.model in kept:
            put(*kept[view.model])
        elif step.teacher and step.teacher not in alike(view.model):
            put(replace(step, teacher=""), minutes)  # of the model that was open before
    step, minutes = _settings()
    step, minutes = st.session_state.training = kept[view.model] = _changed(step, minutes)
    return Request(view.model, replace(view.recipe.untrained, recover=step), minutes)


def _asked(view: View) -> Recover:
    """What gave a trained recipe: one that was ended early was asked for all its epochs."""
    step = view.recipe.recover
    whole = replace(step, stopped=0)
    bench = state.workbench()
    try:
        found = bench.known(StudyKind.RECOVER, view.model, replace(view.recipe, recover=whole))
    except CompressionError:  # told by the page
        return step
    return whole if found is not None and found.recipe == view.recipe else step


def _settings() -> tuple[Recover, float | None]:
    return st.session_state.get("training", (DEFAULT, None))


def put(step: Recover, minutes: float | None) -> None:
    """Change the settings from outside the widgets; only before them or in a callback."""
    st.session_state.training = step, minutes
    for key in [key for key in st.session_state if str(key).startswith(WIDGET)]:
        if key != "training_of":
            del st.session_state[key]


def _changed(step: Recover, minutes: float | None) -> tuple[Recover, float | None]:
    """The settings with what the widgets say.

    Where a training was ended belongs to a request only while all else stays as it was.
    """

    def held(name: str, otherwise: Any) -> Any:
        return st.session_state.get(WIDGET + name, otherwise)

    source, pace = held("source", _source(step)), held("pace", _pace(step))
    mix, ramp = held("mix", _mix(step)), held("ramp", _ramp(step))
    own = [each.name for each in SETTINGS.values() if each.step == "recover" and each.name not in APART]
    changed = replace(
        step,
        **{name: held(name, getattr(step, name)) for name in own},
        stopped=0,
        distill={"labels": 0.0, "teacher": 1.0, "both": mix}[source],
        ramp=ramp if pace == "gradual" else 0.0,
    )
    same = replace(changed, stopped=step.stopped) if step.stopped <= changed.epochs else changed
    return (step if same == step else changed), held("minutes", minutes)


def _source(step: Recover) -> str:
    return {0.0: "labels", 1.0: "teacher"}.get(step.distill, "both")


def _teacher(name: str) -> str:
    if not name:
        return "the baseline"
    return naming.called(name)


def _pace(step: Recover) -> str:
    return "gradual" if step.ramp else "one-shot"


def _mix(step: Recover) -> float:
    return step.distill if 0 < step.distill < 1 else MIX


def _ramp(step: Recover) -> float:
    return step.ramp or RAMP


def settings(known: Known) -> None:
    """How it is trained, and the button that starts it."""
    step, minutes = _settings()
    how, pace, epochs, budget, go = st.columns([1.3, 1.3, 0.9, 1, 1.1], vertical_alignment="bottom")
    with how:
        _choice(
            "Learn from",
            "source",
            tuple(SOURCES),
            _source(step),
            "The labels of the train split, the answers of a teacher (distillation: of the uncompressed baseline, or "
            "of another model, which the training settings name), or both.",
            SOURCES.get,
        )
    with pace:
        _choice(
            "The recipe holds",
            "pace",
            tuple(PACES),
            _pace(step),
            "Gradually: sparsity rises and bits fall over the first epochs, so that the network can follow. Weights "
            "are shared once it holds in full.",
            PACES.get,
        )
    with epochs:
        most = min(1000, int(min(state.workbench().limits.epochs, 1000)))
        widgets.draw(SETTINGS["epochs"], step.epochs, WIDGET + "epochs", most=most)
    with budget:
        _minutes(minutes)
    go.button(
        _verb(known),
        key="train",
        type="primary",
        icon=":material/model_training:",
        width="stretch",
        disabled=known.running or (known.recovery is not None and not known.resumable),
        on_click=start,
        args=(known.request,),
    )
    with st.expander("Training settings", icon=":material/tune:"):
        details(known.request.model, step)


def _no_minutes() -> str:
    most = state.workbench().limits.minutes
    return "no limit" if most == math.inf else f"{most:g}"


def _verb(known: Known) -> str:
    if known.running:
        return "Training"
    if known.resumable:
        return "Go on"
    if known.recovery is not None:
        return "Trained"
    return "Train again" if known.there else "Start"


def details(model: str, step: Recover) -> None:
    """The other settings of a training, those that mean something beside where and how fast it learns."""
    source, gradual = _source(step), _pace(step) == "gradual"
    idle = {"ramp": not gradual, "distill": source != "both", "temperature": source == "labels"}
    idle |= {"teacher": source == "labels", "epochs": True, "stopped": True}
    own = [each for each in SETTINGS.values() if each.step == "recover" and not idle.get(each.name, False)]
    rows = math.ceil(len(own) / COLUMNS)
    for place, column in enumerate(st.columns(COLUMNS)):
        with column:
            for setting in own[place * rows : (place + 1) * rows]:
                _setting(setting, model, step)


def _setting(setting: Setting, model: str, step: Recover) -> None:
    match setting.name:
        case "teacher":
            # A link may name one that this model cannot have; starting the training says so.
            names = tuple(dict.fromkeys(("", *alike(model), step.teacher)))
            widgets.draw(setting, step.teacher, WIDGET + "teacher", options=names, word=_teacher)
        case "distill":
            widgets.draw(setting, _mix(step), WIDGET + "mix")
        case "ramp":
            widgets.draw(setting, _ramp(step), WIDGET + "ramp")
        case name:
            widgets.draw(setting, getattr(step, name), WIDGET + name)


def _choice(label: str, name: str, options: tuple[str, ...], value: str, help: str, words: Any = str) -> None:
    st.session_state.setdefault(WIDGET + name, value)
    st.selectbox(label, options, options.index(value), key=WIDGET + name, format_func=words, help=help)


def _minutes(held: float | None) -> None:
    held = None if held is None else min(held, widgets.LARGEST)
    st.session_state.setdefault(WIDGET + "minutes", held)
    # Only a field whose default is None can be left empty.
    st.number_input(
        "Minutes, at most",
        key=WIDGET + "minutes",
        help=f"Empty: {_no_minutes()}. When the time is up, the best epoch so far is kept, and it can be gone on with.",
        min_value=min(0.01, held or 0.01),
        step=1.0,
        format="%g",
        value=None,
        placeholder=_no_minutes(),
    )
