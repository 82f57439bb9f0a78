"""Present: the stage over the whole window, and free play after it."""

from dataclasses import replace

import streamlit as st
from paretoscope.figures import stage
from paretoscope.measure.stage import Slide, Step, originals
from paretoscope.service.jobs import Job
from paretoscope.service.stage import slides
from paretoscope.service.study import StudyKind

from pages.components import menu, naming, state
from pages.components.state import View

# Where somebody is: on the steps, or at the explorer after them.
PLAYING = "present_playing"
PACE_S = 1.0

_STAGE = st.components.v2.component(
    "stage",
    html='<div class="ps" tabindex="-1" role="region" aria-label="Presentation"></div>',
    css=stage.style(),
    js=stage.script()
    + """
export default function ({ parentElement, data, setTriggerValue }) {
  showStage(parentElement.querySelector(".ps"), data, (name) => setTriggerValue(name, true));
}
""",
    isolate_styles=False,
)
# All that is beside the page's own content.
_ALONE = """<style>
[data-testid="stSidebar"], [data-testid="stExpandSidebarButton"], [data-testid="stHeader"], .st-key-pages_row,
[data-testid="stBottom"] { display: none !important; }
[data-testid="stMainBlockContainer"] { padding-top: 1rem; max-width: none; }
</style>"""


def alone() -> None:
    """Hide the menus and the sidebar of this page."""
    st.html(_ALONE)


def playing() -> bool:
    """Whether the steps are over."""
    return st.session_state.get(PLAYING, False)


def play(on: bool) -> None:
    """Go on to the explorer, or back to the steps."""
    st.session_state[PLAYING] = on


def measure(view: View) -> tuple[list[Slide], list[Job]]:
    """The steps with what is known; what is not is measured, one after another, by the jobs."""
    bench = state.workbench()
    found, jobs = slides(bench, view.model), []
    for at, slide in enumerate(found):
        if slide.step is Step.BASELINE or slide.recipe is None or slide.shot is not None:
            continue
        if jobs and not jobs[-1].ended:
            break
        key, recipe = (view.model, slide.recipe), slide.recipe
        job = state.follow(
            f"stage {slide.step}", key, lambda recipe=recipe: bench.ask(StudyKind.STAGE, view.model, recipe)
        )
        jobs.append(job)
        found[at] = replace(slide, problem=job.error or "")
    state.keep()
    return found, jobs


def show(view: View, found: list[Slide]) -> None:
    """Draw the steps."""
    subject = state.workbench().subject(view.model)
    markup = stage.draw(
        naming.called(view.model),
        found,
        subject.task.words,
        subject.baseline,
        len(subject.judged),
        subject.parameters,
        originals(subject.statistics)[1],
    )
    _STAGE(key="stage", data=markup, on_leave_change=leave, on_play_change=lambda: play(True))


def leave() -> None:
    """Go back to Explore, for a callback."""
    play(False)
    menu.go("pages/explore.py")


def over() -> bool:
    """Whether the steps were left, on to the explorer or by Escape: only a whole run of the page can follow."""
    return playing() or menu.going()
