"""The stage: six steps from a network to its trained, coded form, one sentence and one moving picture each.

`draw` makes HTML of plain data; `script` and `style` move it: `showStage(root, send)` steps by keys, clicks and swipes.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from paretoscope.base.units import format_bytes, format_p
from paretoscope.figures.stage import pictures
from paretoscope.measure.stage import Slide, Step
from paretoscope.measure.wording import size_ratio
from paretoscope.tasks import BaselineFigures, Words

FOLDER = Path(__file__).parent
NAMES = {
    Step.BASELINE: "Baseline",
    Step.INT8: "Int8",
    Step.PRUNE: "Prune",
    Step.SHARE: "Share",
    Step.CODE: "Code",
    Step.TRAINED: "Train",
}
UNMEASURED = "This step is not measured yet; it is being measured now."
UNTRAINED = "Nothing was trained of this network yet: the page Recover does that."


def script() -> str:
    """The JavaScript that steps: function `showStage`."""
    return (FOLDER / "stage.js").read_text()


def style() -> str:
    """The style; colours are variables of the page."""
    return (FOLDER / "stage.css").read_text()


def size_of(slide: Slide, baseline: BaselineFigures) -> int | None:
    """Bytes that a step shows: packed before the coder comes, then the file's; None where it is not measured."""
    if slide.step is Step.BASELINE:
        return baseline.size_bytes
    if slide.shot is None:
        return None
    size = slide.shot.record.size
    return size.artefact if slide.step in (Step.CODE, Step.TRAINED) else size.packed


def sentence(slide: Slide, weights: int) -> str:
    """What a step does, in one sentence. weights: of the network."""
    shot = slide.shot
    match slide.step:
        case Step.BASELINE:
            return f"{weights:,} weights, each a number of 32 bits."
        case Step.INT8:
            return "Eight bits are enough to say which number a weight is."
        case Step.PRUNE:
            share = "The smallest" if shot is None else f"The smallest {100 * shot.record.rates.sparse_rate:.0f} %"
            return f"{share} of the weights become zero, and zeros need no place of their own."
        case Step.SHARE:
            count = slide.recipe.share.clusters if slide.recipe is not None and slide.recipe.share is not None else 0
            return f"The others share {count} values a layer: each weight says only which one is its own."
        case Step.CODE:
            return "What comes often gets a short word, what is rare a long one. Nothing more is lost."
        case Step.TRAINED:
            return "Trained within all its limits, the network learns to live with them."


def draw(
    title: str,
    slides: Sequence[Slide],
    words: Words,
    baseline: BaselineFigures,
    n: int,
    weights: int,
    originals: Sequence[float],
) -> str:
    """The stage as HTML.

    title: of the network. n: test samples. weights: parameters. originals: some weights of the baseline.
    """
    sizes = [size_of(each, baseline) for each in slides]
    shown = "".join(
        _slide(each, size, words, baseline, n, weights, originals) for each, size in zip(slides, sizes, strict=True)
    )
    most = baseline.size_bytes
    steps = "".join(_step(each, size, most) for each, size in zip(slides, sizes, strict=True))
    return (
        f'<div class="ps-top"><span>{html.escape(title)}</span>'
        '<button class="ps-leave" type="button">Leave <kbd>Esc</kbd></button></div>'
        f'<div class="ps-slides" aria-live="polite">{shown}</div>'
        f'<nav class="ps-steps" aria-label="Steps">{steps}'
        '<button class="ps-next" type="button">Next <kbd>→</kbd></button></nav>'
    )


def _slide(
    slide: Slide,
    size: int | None,
    words: Words,
    baseline: BaselineFigures,
    n: int,
    weights: int,
    originals: Sequence[float],
) -> str:
    picture = pictures.draw(slide, originals, baseline, words)
    return (
        f'<section class="ps-slide" data-step="{slide.step.value}">'
        f"<h1>{html.escape(sentence(slide, weights))}</h1>"
        f'<div class="ps-picture">{picture}</div>'
        f'<div class="ps-figures">{_figures(slide, size, words, baseline, n)}</div></section>'
    )


def _figures(slide: Slide, size: int | None, words: Words, baseline: BaselineFigures, n: int) -> str:
    if slide.step is not Step.BASELINE and (slide.shot is None or size is None):
        told = UNTRAINED if slide.step is Step.TRAINED and slide.recipe is None else UNMEASURED
        told = f"This step does not go with this network: {slide.problem}" if slide.problem else told
        return f'<p class="ps-missing">{html.escape(told)}</p>'
    assert size is not None, "the baseline has a size"
    if slide.step is Step.BASELINE or slide.shot is None:
        parts = [
            (format_bytes(size), "as it was trained"),
            (words.value(baseline.value), f"{words.name}, {n:,} test samples"),
        ]
    else:
        figures = slide.shot.record.figures
        form = "the file" if slide.step in (Step.CODE, Step.TRAINED) else "packed, not coded yet"
        verdict = _verdict(figures.distinguishable, figures.value - baseline.value)
        parts = [
            (format_bytes(size), f"{size_ratio(baseline.size_bytes / size)} smaller, {form}"),
            (words.value(figures.value), f"{words.name}, {words.change(figures.value - baseline.value)}"),
            (verdict, f"{words.test}, {format_p(figures.p_value)}"),
        ]
    return "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(told)}</span></div>" for value, told in parts)


def _verdict(distinguishable: bool, change: float) -> str:
    if not distinguishable:
        return "no measurable difference" if change > 0 else "no measurable loss"
    return "measurably better" if change > 0 else "a measurable loss"


def _step(slide: Slide, size: int | None, most: int) -> str:
    told = "not measured" if size is None else format_bytes(size)
    share = 0.0 if size is None else 100 * size / most
    name = NAMES[slide.step]
    return (
        f'<button class="ps-step" type="button" data-step="{slide.step.value}" aria-label="{name}, {told}">'
        f'<i><em style="width:{max(share, 0.6 if size else 0):.2f}%"></em></i><span>{name}</span><small>{told}</small>'
        "</button>"
    )
