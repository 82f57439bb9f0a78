"""Verdicts on made-up timings, in runtimes that exist only here."""

import re
from dataclasses import replace

import pytest
import timings
from hypothesis import assume, given
from hypothesis import strategies as st
from paretoscope.base.registry import Registry
from paretoscope.measure import wording
from paretoscope.measure.latency import Noise
from paretoscope.measure.record import Digests, Ladder, Latency, Rates, Record
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Runtime
from paretoscope.search import verdict
from paretoscope.search.verdict import Alternative, Verdict
from paretoscope.tasks.classification import Accuracy, Baseline, Classification

SPARSE = Recipe.of(sparsity=0.9)
INTEGER = Recipe.of(bits=8, activations=8)
HALF = Recipe.of(nodes=0.5)


def judge(recipe: Recipe, latency: Latency, **others) -> Verdict:
    return verdict.judge(recipe, latency, Classification.words, **others)


@pytest.fixture(autouse=True)
def known_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense runtime with integer kernels, a slow one without, and one that skips zeros; none can be run."""
    registry: Registry[Runtime] = Registry("runtime")
    for name, title, formats, sees_zeros in (
        ("onnxruntime", "ONNX Runtime", ("fp32", "int8"), False),
        ("torch", "PyTorch", ("fp32",), False),
        ("sparse", "Sparse kernels", ("fp32",), True),
    ):
        registry.add(Runtime(name, title, "", "", formats, "1", None, None, sees_zeros=sees_zeros))
    monkeypatch.setattr(verdict, "runtimes", registry)


def timed(speedup: float = 1.0, ms: float = 0.1, margin: float = 0.02, **others) -> Latency:
    """An fp32 timing whose interval lies `margin` of the ratio to both sides."""
    ends = {"speedup_low": (1 - margin) * speedup, "speedup_high": (1 + margin) * speedup}
    return timings.latency(ms, speedup, **{"number_format": "fp32", **ends, **others})


def noise(low: float, high: float) -> Noise:
    return Noise((low * high) ** 0.5, low, high, rounds=15, stopped_by="precision")


def record(recipe: Recipe, zeros: float = 0.0, left: float = 1.0, accuracy: float = 0.9) -> Record:
    figures = Accuracy(1000, round(1000 * accuracy), accuracy, accuracy - 0.01, accuracy + 0.01, accuracy, 0.5, 0.01)
    return Record(
        model="a-model",
        dataset="a-dataset",
        recipe=recipe,
        digests=Digests("m" * 64, "d" * 64, recipe.digest, "a" * 64),
        figures=figures,
        baseline=Baseline(950, 0.95, 0.95, 1_000_000),
        rates=Rates(sparse_rate=zeros, shared_rate=0.0, architecture_simplification=left),
        size=Ladder(1_000_000, 500_000, 200_000, 120_000, 99_000, 100_000),
    )


def test_another_task_is_told_in_its_own_words() -> None:
    words = replace(Classification.words, name="error", factor=1, unit="m", change_unit="m")
    half = Alternative("half the channels", HALF, timed(1.6), record(HALF, left=0.3, accuracy=0.873))
    known = record(SPARSE, zeros=0.9)
    said = verdict.judge(SPARSE, timed(1.0), words, record=known, alternatives=[half])
    assert said.advice.endswith("would save 38 % of the time, at 0.9 m error (-0.0 m).")
    untried = verdict.judge(SPARSE, timed(1.0), words, record=known, alternatives=[replace(half, record=None)])
    assert untried.advice.endswith("; the error is measured when you try it.")


def test_zeros_in_a_dense_runtime_are_not_faster_and_half_the_channels_would_be() -> None:
    half = Alternative("half the channels", HALF, timed(1.6), record(HALF, left=0.3, accuracy=0.873))
    said = judge(SPARSE, timed(1.0), record=record(SPARSE, zeros=0.9), noise=noise(0.99, 1.01), alternatives=[half])
    assert said.tone == "same"
    assert said.text == "Not faster: 90 % zeros, but ONNX Runtime multiplies zeros at full price."
    assert said.advice == (
        "Removing half the channels instead would save 38 % of the time, at 87.3 % accuracy (-2.7 pt)."
    )
    assert (said.recipe, said.runtime, said.button) == (HALF, None, "Try half the channels")


def test_integer_kernels_are_named_where_they_are_faster() -> None:
    said = judge(INTEGER, timed(1.9, margin=0.026, number_format="int8"), noise=noise(0.99, 1.01))
    assert said.tone == "faster"
    assert said.text == "1.90x faster [1.85, 1.95]: integer kernels."
    assert (said.advice, said.recipe, said.runtime, said.button, said.caveat) == ("", None, None, "", "")


def test_slower_is_told_with_the_inverse_of_ratio_and_interval() -> None:
    latency = timed(0.5, number_format="int8", speedup_low=0.45, speedup_high=0.625)
    said = judge(INTEGER, latency)
    assert said.tone == "slower"
    assert said.headline == "2.00x slower [1.60, 2.22]"
    assert said.reason == "integer kernels, and that costs more than it saves in ONNX Runtime"


def test_the_headline_rounds_as_everything_else_does() -> None:
    latency = timed(1 / 1.083, number_format="int8", speedup_low=1 / 1.09, speedup_high=1 / 1.08)
    assert judge(INTEGER, latency).headline == "1.08x slower [1.08, 1.09]"
    assert judge(INTEGER, timed(12.34, margin=0.005, number_format="int8")).headline == "12.3x faster [12.3, 12.4]"


@pytest.mark.parametrize("speedup", [1.02, 0.98])
def test_what_the_machine_makes_of_the_baseline_itself_is_noise(speedup: float) -> None:
    latency = timed(speedup, margin=0.01, number_format="int8")
    assert judge(INTEGER, latency).tone != "same"
    said = judge(INTEGER, latency, noise=noise(0.97, 1.03))
    assert said.tone == "same" and said.headline == "Within the noise of this machine"
    assert "integer kernels, but" in said.reason and "factor of 1.03" in said.reason
    assert f"it measured {wording.speed(latency)}, where the baseline differs" in said.reason


def test_noise_that_does_not_contain_one_widens_by_all_of_it_and_is_told() -> None:
    disturbed = noise(1.04, 1.06)
    assert judge(INTEGER, timed(1.07, 0.1, 0.015, number_format="int8"), noise=disturbed).tone == "same"
    said = judge(INTEGER, timed(1.2, 0.1, 0.015, number_format="int8"), noise=disturbed)
    assert said.tone == "faster"
    assert said.caveat.startswith(
        "The baseline against itself comes to 1.05x faster [1.04, 1.06], which does not contain 1"
    )


def test_the_sparse_runtime_says_in_how_many_layers_it_skips() -> None:
    known = record(SPARSE, zeros=0.9)
    latency = timed(2.8, runtime="sparse")
    said = judge(SPARSE, latency, record=known, skipping=(3, 3))
    assert said.text == "2.80x faster [2.74, 2.86]: zeros are skipped in 3 of 3 layers."
    assert judge(SPARSE, latency, record=known).reason == "90 % zeros are skipped where that pays"
    dense = judge(SPARSE, timed(1.0, runtime="sparse"), record=replace(known), skipping=(0, 3))
    assert dense.text == "Not faster: at 90 % zeros each of the 3 layers is faster dense."
    partly = judge(SPARSE, timed(1.0, runtime="sparse"), record=known, skipping=(1, 3))
    assert partly.headline == "Within the noise of this machine"
    assert partly.reason.startswith("zeros are skipped in 1 of 3 layers, but it measured as fast [0.98, 1.02]")


@pytest.mark.parametrize(
    ("recipe", "runtime", "reason"),
    [
        (Recipe(), "onnxruntime", "the recipe changes neither the graph nor the number format"),
        (Recipe.of(bits=4), "onnxruntime", "weights of 4 bits, but ONNX Runtime computes with them in fp32"),
        (Recipe.of(bits=1), "onnxruntime", "weights of 1 bit, but ONNX Runtime computes with them in fp32"),
        (Recipe.of(clusters=16), "torch", "16 shared values, but PyTorch multiplies by every weight all the same"),
        (INTEGER, "torch", "integers are asked for, but PyTorch computes in fp32"),
        (Recipe.of(sparsity=0.5, bits=4), "torch", "50 % zeros, but PyTorch multiplies zeros at full price"),
        (Recipe.of(sparsity=0.01), "sparse", "the recipe changes neither the graph nor the number format"),
    ],
)
def test_why_the_baselines_graph_takes_the_baselines_time(recipe: Recipe, runtime: str, reason: str) -> None:
    said = judge(recipe, timed(1.0, runtime=runtime))
    assert (said.tone, said.headline, said.reason) == ("same", "Not faster", reason)


def test_measured_zeros_count_rather_than_wished_ones() -> None:
    pattern = Recipe.of(pattern="2:4")
    said = judge(pattern, timed(1.0), record=record(pattern, zeros=0.5))
    assert said.reason == "50 % zeros, but ONNX Runtime multiplies zeros at full price"


def test_a_smaller_network_says_what_is_left_of_it() -> None:
    both = Recipe.of(nodes=0.5, bits=8, activations=8)
    said = judge(both, timed(3.0, number_format="int8"), record=record(both, left=0.26))
    assert said.reason == "26 % of the parameters are left and integer kernels"
    assert judge(Recipe.of(fold=True), timed(3.0), record=record(HALF)).reason == "a simpler graph"


def test_the_baselines_own_program_is_neither_faster_nor_slower_whatever_was_measured() -> None:
    for speedup in (1.1, 0.9):
        said = judge(SPARSE, timed(speedup, margin=0.01))
        assert (said.tone, said.headline) == ("same", "Not faster")
        assert f"It measured {wording.speed(timed(speedup, margin=0.01))}, though" in said.caveat
        assert "both compute the same" in said.caveat
        assert judge(SPARSE, timed(speedup, margin=0.01), noise=noise(0.85, 1.15)).caveat == ""


def test_a_runtime_in_which_zeros_pay_goes_before_a_better_recipe() -> None:
    known = record(SPARSE, zeros=0.9)
    sparse = timed(2.8, ms=0.04, runtime="sparse")
    half = Alternative("half the channels", HALF, timed(4.0, ms=0.025))
    said = judge(SPARSE, timed(1.0), record=known, others=[sparse], alternatives=[half])
    assert (said.runtime, said.recipe, said.button) == ("sparse", None, "Switch to Sparse kernels")
    assert said.advice == (
        "With Sparse kernels the same recipe takes 0.04 ms instead of 0.1 ms, because the 90 % zeros are skipped "
        "there, each timed beside the baseline in its own runtime: that saves 60 % of the time."
    )


def test_a_runtime_that_is_faster_for_another_reason_competes_with_the_recipes() -> None:
    other = timed(1.0, ms=0.05, runtime="torch")
    half = Alternative("half the channels", HALF, timed(4.0, ms=0.025))
    some = Alternative("a quarter of the channels", Recipe.of(nodes=0.25), timed(1.5, ms=0.067))
    assert judge(INTEGER, timed(1.0), others=[other], alternatives=[some, half]).recipe == HALF
    said = judge(INTEGER, timed(1.0), others=[other], alternatives=[some])
    assert said.runtime == "torch" and "skipped" not in said.advice
    # Zeros that only ride along in a sparse runtime whose dense kernels are the fast ones do not go first.
    riding = timed(1.0, ms=0.05, runtime="sparse")
    assert judge(SPARSE, timed(1.0), record=record(SPARSE, 0.9), others=[riding], alternatives=[half]).recipe == HALF


def test_only_what_clearly_beats_the_current_recipe_is_advised() -> None:
    current = timed(1.0, margin=0.05)
    overlapping = Alternative("half the channels", HALF, timed(1.08, margin=0.04))
    clear = Alternative("half the channels", HALF, timed(1.2, margin=0.04))
    assert not judge(SPARSE, current, alternatives=[overlapping]).advice
    assert judge(SPARSE, current, alternatives=[clear]).recipe == HALF
    assert not judge(SPARSE, current, alternatives=[clear], noise=noise(0.94, 1.06)).advice
    assert not judge(SPARSE, current, others=[timed(1.0, ms=0.095, margin=0.05, runtime="torch")]).advice
    # Neither is the runtime that it is in, in another number format, nor the recipe itself.
    assert not judge(SPARSE, current, others=[timed(3.0, ms=0.03, number_format="int8")]).advice
    assert not judge(HALF, current, alternatives=[clear]).advice


def test_an_estimate_is_not_compared_with_an_exact_accuracy() -> None:
    half = Alternative("half the channels", HALF, timed(1.6), record(HALF, accuracy=0.873))
    part = record(SPARSE, zeros=0.9)
    part = replace(part, figures=replace(part.figures, n=100, correct=90))
    assert judge(SPARSE, timed(1.0), record=part, alternatives=[half]).advice.endswith("at 87.3 % accuracy.")


def test_accuracy_that_nobody_has_measured_is_not_claimed() -> None:
    said = judge(SPARSE, timed(1.0), alternatives=[Alternative("integer kernels", INTEGER, timed(2.0))])
    assert said.advice == (
        "Integer kernels instead would save 50 % of the time; the accuracy is measured when you try it."
    )


@given(
    low=st.floats(0.05, 20),
    width=st.floats(1, 1.49),
    spread=st.floats(1, 1.5),
    recipe=st.sampled_from([Recipe(), SPARSE, INTEGER, HALF]),
    runtime=st.sampled_from(["onnxruntime", "sparse"]),
)
def test_never_faster_nor_slower_where_the_widened_interval_contains_one(low, width, spread, recipe, runtime) -> None:
    number_format = "int8" if recipe.integer and runtime == "onnxruntime" else "fp32"
    ends = {"speedup_low": low, "speedup_high": low * width}
    latency = timed((low * low * width) ** 0.5, runtime=runtime, number_format=number_format, **ends)
    said = judge(recipe, latency, noise=noise(1 / spread, spread))
    # Clear of the edges, where the last bit decides.
    assume(abs(low / spread - 1) > 1e-9 and abs(low * width * spread - 1) > 1e-9)
    inside = low / spread <= 1 <= low * width * spread
    same_program = (recipe, runtime) in [
        (Recipe(), "onnxruntime"),
        (Recipe(), "sparse"),
        (SPARSE, "onnxruntime"),
        (INTEGER, "sparse"),
    ]
    assert (said.tone == "same") == (inside or same_program)
    assert bool(re.search("x (faster|slower)", said.headline)) == (said.tone != "same")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1.9, "1.9"), (1.04, "1.04"), (1.004, "1.004"), (12.34, "12"), (123.4, "123"), (0.93, "0.93")],
)
def test_ratios_have_the_digits_that_they_need(value: float, text: str) -> None:
    assert verdict._ratio(value) == text


def test_of_an_interval_that_is_too_wide_nothing_is_said() -> None:
    wide = {"speedup_low": 0.91, "speedup_high": 6.33, "number_format": "int8"}
    half = Alternative("half the channels", HALF, timed(4.0, ms=0.025))
    sparse = timed(20.0, ms=0.01, runtime="sparse")
    said = judge(INTEGER, timed(1.05, **wide), noise=noise(0.99, 1.01), others=[sparse], alternatives=[half])
    assert (said.tone, said.headline, said.advice, said.button) == ("same", "Not known yet [0.91, 6.33]", "", "")
    assert said.caveat == wording.UNDECIDED_WHY
    # Nor is anything advised by such a one.
    unknown = timed(20.0, ms=0.001, runtime="sparse", speedup_low=5.0, speedup_high=40.0)
    instead = Alternative("half the channels", HALF, timed(5.0, ms=0.02, speedup_low=3.0, speedup_high=40.0))
    assert judge(INTEGER, timed(1.5, number_format="int8"), others=[unknown], alternatives=[instead]).advice == ""


def test_a_timing_without_the_lock_is_told() -> None:
    assert wording.NOT_ALONE in judge(INTEGER, timed(1.5, number_format="int8", alone=False)).caveat
    assert judge(INTEGER, timed(1.5, number_format="int8", alone=None)).caveat == ""


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0, "0 %"), (0.004, "0.4 %"), (0.38, "38 %"), (0.998, "99.8 %"), (1.0, "100 %")]
)
def test_percentages_do_not_round_to_everything(fraction: float, text: str) -> None:
    assert verdict._percent(fraction) == text
