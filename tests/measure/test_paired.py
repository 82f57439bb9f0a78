import pytest
import timings
from paretoscope.measure.paired import paired_interval, paired_ms, reference_ms


def test_the_reference_is_the_median_of_what_the_baseline_took():
    taken = [timings.latency(0.1, 2.0, baseline_median_ms=ms) for ms in (0.5, 0.1, 0.3)]
    assert reference_ms(taken) == 0.3
    assert reference_ms(reversed(taken)) == 0.3
    # The median of an even number is one that was measured, not something between a quiet and a busy moment.
    assert reference_ms(taken[:2]) == 0.1
    assert reference_ms([]) is None


def test_a_timing_that_many_recipes_share_counts_once():
    quiet, busy = timings.latency(0.1, baseline_median_ms=0.2), timings.latency(0.1, baseline_median_ms=0.9)
    other = timings.latency(0.1, baseline_median_ms=0.3)
    assert reference_ms([busy] * 10 + [quiet, other]) == 0.3


def test_what_is_not_decided_does_not_count():
    wide = timings.latency(1.05, speedup_low=0.91, speedup_high=6.33, baseline_median_ms=9.0)
    assert reference_ms([wide]) is None
    assert reference_ms([wide, timings.latency(0.1, baseline_median_ms=0.2)]) == 0.2


@pytest.mark.parametrize("slowdown", [1.0, 0.5, 3.0])
def test_a_moment_at_which_all_is_slower_changes_nothing(slowdown):
    timing = timings.latency(0.1 * slowdown, 2.0, speedup_low=1.9, speedup_high=2.5)
    assert timing.baseline_median_ms == pytest.approx(0.2 * slowdown)
    assert paired_ms(timing, 0.5) == 0.25
    assert paired_interval(timing, 0.5) == (0.2, pytest.approx(0.5 / 1.9))
