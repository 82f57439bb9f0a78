"""The stage: every step with its own numbers, its weights as they are, and no number where nothing is measured."""

import re
import xml.etree.ElementTree as xml
from dataclasses import replace

import numpy as np
import pytest
from paretoscope.figures import stage
from paretoscope.measure.stage import Shot, Slide, Step
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.classification import WORDS

ORIGINALS = tuple(float(each) for each in np.linspace(-0.5, 0.5, 64))
PRUNED = tuple(0.0 if abs(each) < 0.25 else each for each in ORIGINALS)


@pytest.fixture
def slides(make_record) -> list[Slide]:
    record = make_record(Recipe.of(sparsity=0.5, clusters=16, bits=8), size=50_000)
    record = replace(record, rates=replace(record.rates, sparse_rate=0.5))
    counts = tuple((value, 1 << at) for at, value in enumerate(np.linspace(-1, 1, 6)))
    shot = Shot(record, "fc.weight", PRUNED, tuple(range(-3, 61)), counts, 6)
    return [Slide(step, record.recipe, None if step is Step.BASELINE else shot, 0.3) for step in Step]


def drawn(slides: list[Slide], baseline, title: str = "A net") -> str:
    return stage.draw(title, slides, WORDS, baseline, 800, 250_000, ORIGINALS)


def part(text: str, step: Step) -> str:
    return text.partition(f'class="ps-slide" data-step="{step.value}"')[2].partition("</section>")[0]


def test_each_step_has_one_sentence_one_picture_and_its_own_size(slides, baseline) -> None:
    text = drawn(slides, baseline)
    for step, size in zip(Step, ["1 MB", "200 KB", "200 KB", "200 KB", "50 KB", "50 KB"], strict=True):
        own = part(text, step)
        assert own.count("<h1>") == own.count("<svg") == 1 and f"<b>{size}</b>" in own, step
        xml.fromstring(re.search(r"<svg.*</svg>", own)[0])
    assert "The smallest 50 % of the weights" in text and "The others share 16 values a layer" in text


def test_pictures_are_of_the_weights(slides, baseline) -> None:
    text = drawn(slides, baseline)
    assert part(text, Step.PRUNE).count("ps-gone") == sum(not each for each in PRUNED)
    first = part(text, Step.INT8)
    assert f"{ORIGINALS[0]:+.6f}" in first and ">-3<" in first
    words = re.findall(r'class="ps-word"[^>]* x="([\d.]+)"', part(text, Step.CODE))
    lengths = [words.count(each) for each in dict.fromkeys(words)]
    assert lengths == [6, 5, 4, 3, 2, 1]  # of shares 1/63, 2/63, ... 32/63
    assert "30.0 %" in part(text, Step.TRAINED)


def test_what_is_not_measured_has_no_number(slides, baseline) -> None:
    some = [replace(each, shot=None) if each.step is Step.SHARE else each for each in slides]
    some[-1] = replace(some[-1], recipe=None, shot=None, untrained=None)
    some[2] = replace(some[2], shot=None, problem="no <such> layer")
    text = drawn(some, baseline)
    for step, told in ((Step.SHARE, stage.UNMEASURED), (Step.TRAINED, stage.UNTRAINED), (Step.PRUNE, "&lt;such&gt;")):
        assert told in part(text, step) and "<b>" not in part(text, step)


def test_titles_of_users_are_text(slides, baseline) -> None:
    assert "<img" not in drawn(slides, baseline, "<img src=x>")


def test_less_motion_shows_the_end_at_once() -> None:
    style = stage.style()
    assert re.search(r"prefers-reduced-motion: reduce\) \{[^}]*animation: none", style)
    assert not re.search(r"\bto \{", style), "animations lead to what is there without them"
