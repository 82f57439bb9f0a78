import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.figures import learn
from paretoscope.figures.learn import PICTURED, STEPS
from paretoscope.model.statistics import LayerStatistics
from paretoscope.recipe.recipe import BITS, SETTINGS, Recipe
from paretoscope.recipe.steps.code import Coder

RNG = np.random.default_rng(0)
LAYER = LayerStatistics.of("fc", RNG.normal(0, 0.1, (20, 30)).astype(np.float32))
WEIGHTS = learn.sixteen(LAYER)


def test_sixteen_weights_are_those_of_the_layer_at_even_ranks_in_its_order() -> None:
    flat = LAYER.weight.reshape(-1)
    places = [int(np.flatnonzero(flat == value)[0]) for value in WEIGHTS]
    assert places == sorted(places)
    ranks = np.searchsorted(LAYER.ordered, np.sort(WEIGHTS))
    assert np.diff(ranks).min() >= 37 and np.diff(ranks).max() <= 38  # 600 / 16
    assert np.array_equal(WEIGHTS, learn.sixteen(LAYER))


def test_a_layer_of_few_weights_repeats_them() -> None:
    few = learn.sixteen(LayerStatistics.of("one", np.array([[2.0, -1.0]], np.float32)))
    assert few.tolist() == [2.0] * 8 + [-1.0] * 8


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.5, 0.8, 0.99])
def test_pruning_takes_the_smallest(sparsity: float) -> None:
    lesson = learn.gather(WEIGHTS, Recipe.of(sparsity=sparsity), "prune")
    zeros = int(sparsity * 16)
    order = np.argsort(np.abs(WEIGHTS))
    assert not lesson.after[order[:zeros]].any() and np.array_equal(lesson.after[order[zeros:]], WEIGHTS[order[zeros:]])
    assert np.array_equal(lesson.before, WEIGHTS)
    assert f"{zeros} of 16 became zero" in lesson.told or sparsity * 16 < 1


@pytest.mark.parametrize(
    "name, values, beside",
    [
        ("sparsity", (0.2, 0.5), {}),
        ("threshold", (0.05, 0.1), {}),
        ("pattern", ("2:4", "1:4"), {}),
        ("clusters", (4, 8), {}),
        ("start", ("optimal", "linear"), {"clusters": 4, "sparsity": 0.5}),
        ("population", (0, 4), {"clusters": 8, "sparsity": 0.2}),
        ("bits", (4, 3), {}),
        ("percentile", (90.0, 95.0), {"bits": 4, "calibration": "percentile"}),
        ("symmetric", (False, True), {"bits": 4}),
        ("power_of_two", (False, True), {"bits": 1}),
        ("ternary", (0.0, 0.7), {"bits": 1}),
        ("coder", ("ans", "huffman"), {"clusters": 4, "sparsity": 0.5}),
    ],
)
def test_the_picture_of_a_setting_follows_it(name: str, values: tuple, beside: dict) -> None:
    drawn = {
        learn.draw(learn.gather(WEIGHTS, Recipe.of(**beside, **{name: value}), SETTINGS[name].step)) for value in values
    }
    assert name in PICTURED and len(drawn) == len(values)


def test_every_setting_with_a_picture_is_tried_above() -> None:
    (marked,) = (m for m in test_the_picture_of_a_setting_follows_it.pytestmark if m.name == "parametrize")
    assert {name for name, *_ in marked.args[1]} == PICTURED


def test_each_step_begins_where_the_one_before_ended() -> None:
    recipe = Recipe.of(sparsity=0.5, clusters=4, bits=3)
    lessons = [learn.gather(WEIGHTS, recipe, step, layer="fc") for step in STEPS]
    for one, next_one in itertools.pairwise(lessons):
        assert np.array_equal(one.after, next_one.before)
    pruned, shared, rounded, coded = lessons
    assert len(np.unique(shared.after[shared.after != 0])) == 4 and "Shared values: 4." in shared.told
    largest = float(np.abs(rounded.after).max())
    assert np.allclose(rounded.after / largest * 3, np.rint(rounded.after / largest * 3))  # 3 bits: -3 .. 3
    assert np.array_equal(coded.after, rounded.after)
    assert pruned.written > shared.written > rounded.written == coded.written
    assert "fc" in coded.alt and coded.told in coded.alt


@pytest.mark.parametrize("coder", [Coder.ANS, Coder.HUFFMAN, Coder.CONTEXT])
def test_bits_of_codes_follow_how_often_they_occur(coder: Coder) -> None:
    lesson = learn.gather(WEIGHTS, Recipe.of(sparsity=0.5, clusters=4, coder=coder.value), "code")
    _, at, counts = np.unique(lesson.codes, return_inverse=True, return_counts=True)
    if coder is Coder.HUFFMAN:
        lengths = {int(bits) for bits in lesson.bits}
        assert lengths <= {1, 2, 3, 4} and np.sum(0.5**lesson.bits / counts[at]) == 1  # Kraft
    else:
        assert np.allclose(lesson.bits, -np.log2(counts[at] / 16))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("clusters", [None, 2, 256])
def test_every_end_of_the_sliders_gives_a_picture(bits: int, clusters: int | None) -> None:
    for weights in (WEIGHTS, np.zeros(16, np.float32), np.full(16, 1e-30, np.float32)):
        for sparsity in (0.0, 0.99):
            recipe = Recipe.of(sparsity=sparsity, clusters=clusters, bits=bits)
            for step in STEPS:
                lesson = learn.gather(weights, recipe, step)
                drawn = learn.draw(lesson)
                assert ElementTree.fromstring(drawn).tag == "svg" and "nan" not in drawn and lesson.told


def test_what_only_a_whole_network_has_is_left_out() -> None:
    lesson = learn.gather(WEIGHTS, Recipe.of(bits=4, calibration="rate", rounding="gptq", keep_ends=True), "quantize")
    assert len(np.unique(lesson.after)) > 4 and lesson.does


def test_a_step_that_is_off_says_so_and_an_unknown_one_is_refused() -> None:
    assert learn.gather(WEIGHTS, Recipe(), "share").told.startswith("Off")
    with pytest.raises(CompressionError, match="prune, share, quantize, code"):
        learn.gather(WEIGHTS, Recipe(), "melt")
