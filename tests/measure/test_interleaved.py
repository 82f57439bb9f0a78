import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction

import numpy as np
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import Calling
from paretoscope.measure import interleaved
from paretoscope.measure.interleaved import MAX_SINGLES, compare, median_interval, outliers

MS = 2.0**-10  # a power of two, about a millisecond: times of the fake clock are sums of these without rounding


class Lab:
    """A clock that moves only when something runs, and what ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.loaded: list[str] = []
        self.unloaded: list[str] = []

    def clock(self) -> float:
        return self.now

    def side(self, name: str, duration: Callable[[int], float]):
        """A loader of a call that takes `duration(round)` seconds."""

        @contextmanager
        def load() -> Iterator[Callable[[], None]]:
            self.loaded.append(name)
            number = self.loaded.count(name) - 1

            def call() -> None:
                self.ran.append(name)
                self.now += duration(number)

            yield call
            self.unloaded.append(name)

        return load

    def compare(self, candidate: Callable[[int], float], baseline: Callable[[int], float], **settings):
        sides = self.side("candidate", candidate), self.side("baseline", baseline)
        return compare(*sides, clock=self.clock, **settings)


def steady(seconds: float) -> Callable[[int], float]:
    return lambda number: seconds


def test_a_constant_ratio_is_found_exactly_and_without_width():
    result = Lab().compare(steady(MS), steady(2 * MS))
    assert (result.speedup, result.speedup_low, result.speedup_high) == (2, 2, 2)
    assert (result.median_ms, result.baseline_median_ms) == (1000 * MS, 2000 * MS)
    assert result.stopped_by == "precision"
    assert result.calls == 1
    assert result.candidate_ms.shape == result.baseline_ms.shape == (15, 11)  # 11 pairs are the first to fill 20 ms
    assert result.pairs == 165


def test_short_calls_are_repeated_alike_until_a_sample_is_long_enough():
    lab = Lab()
    result = lab.compare(steady(2.0**-17), steady(2.0**-15))
    assert result.calls == math.ceil(1e-4 * 2**17) == 14
    assert result.median_ms == 1000 * 2.0**-17
    assert result.speedup == 4
    assert lab.ran.count("candidate") == lab.ran.count("baseline")


def test_single_calls_of_both_sides_are_kept_with_their_tails():
    lab = Lab()
    numbers = iter(range(10**6))

    def sometimes_slow(number: int) -> float:
        return 2.0**-17 * (100 if next(numbers) % 50 == 49 else 1)

    result = lab.compare(sometimes_slow, steady(2.0**-16), width=1.0)
    singles = result.singles
    # 2 % are slow: none of the means of 14 calls shows one as it was, but the single calls do.
    assert singles.candidate_ms.size == singles.baseline_ms.size
    assert 1000 < singles.candidate_ms.size <= MAX_SINGLES
    assert set(singles.candidate_ms) == {1000 * 2.0**-17, 100_000 * 2.0**-17}
    assert set(singles.baseline_ms) == {1000 * 2.0**-16}
    slow = (singles.candidate_ms > 0.5).sum()
    assert slow / singles.candidate_ms.size == pytest.approx(0.02, rel=0.2)
    assert outliers(singles.candidate_ms) == slow
    assert result.candidate_ms.max() < 100_000 * 2.0**-17


def test_samples_that_are_single_calls_are_not_taken_twice():
    lab = Lab()
    result = lab.compare(steady(MS), steady(MS), max_rounds=1)
    assert result.calls == 1
    np.testing.assert_array_equal(result.singles.candidate_ms, result.candidate_ms.ravel())
    assert lab.ran.count("candidate") == result.pairs + 4  # the warm-up sees that four calls are alike


def test_no_more_single_calls_are_kept_than_allowed():
    result = Lab().compare(steady(2.0**-19), steady(2.0**-19), width=0.0, max_rounds=401, budget_s=1e6)
    assert result.singles.candidate_ms.size == result.singles.baseline_ms.size == MAX_SINGLES


def test_outliers_lie_above_tukeys_far_fence():
    values = np.array([1.0, 2, 3, 4, 5])  # quartiles 2 and 4: the fence is at 4 + 3 * 2
    assert outliers(values) == 0
    assert [outliers(np.array([*values[:4], last])) for last in (9.9, 10.0, 10.1)] == [0, 0, 1]
    assert outliers(np.array([-99.0, *values[1:]])) == 0  # fast calls are none
    assert outliers(np.ones(7)) == 0


def test_every_pair_holds_both_sides_in_an_order_drawn_with_the_seed():
    def orders(seed: int) -> list[list[str]]:
        lab = Lab()
        result = lab.compare(steady(MS), steady(MS), seed=seed, max_rounds=1)
        assert result.calls == 1
        timed = lab.ran[-2 * result.pairs :]
        return [timed[i : i + 2] for i in range(0, len(timed), 2)]

    pairs = orders(seed=1)
    assert all(sorted(pair) == ["baseline", "candidate"] for pair in pairs)
    assert len({tuple(pair) for pair in pairs}) == 2
    assert orders(seed=1) == pairs
    assert any(orders(seed) != pairs for seed in range(2, 8))


def test_every_round_loads_both_sides_anew():
    lab = Lab()
    result = lab.compare(steady(MS), steady(MS))
    rounds = len(result.candidate_ms)
    assert lab.loaded.count("candidate") == lab.loaded.count("baseline") == rounds
    assert sorted(lab.unloaded) == sorted(lab.loaded)
    assert len(set(lab.loaded[::2])) == 2  # neither side always comes first


def test_a_change_of_speed_that_both_sides_share_leaves_the_ratio_alone():
    def slowing(seconds: float) -> Callable[[int], float]:
        return lambda number: seconds * (1 if number < 5 else 3)

    result = Lab().compare(slowing(MS), slowing(2 * MS))
    assert (result.speedup_low, result.speedup, result.speedup_high) == (2, 2, 2)
    assert result.median_ms == 3000 * MS


def test_what_differs_from_round_to_round_is_within_the_interval():
    luck = np.resize([0.95, 1.05], 31)
    result = Lab().compare(lambda number: MS * luck[number], steady(MS), width=0.0, max_rounds=31)
    assert result.speedup_low == pytest.approx(1 / 1.05)
    assert result.speedup_high == pytest.approx(1 / 0.95)


def noisy(seed: int, seconds: float = MS) -> Callable[[int], float]:
    rng = np.random.default_rng(seed)
    return lambda number: seconds * rng.uniform(1, 2)


def test_it_goes_on_until_the_interval_is_as_narrow_as_wanted():
    narrow = Lab().compare(noisy(1), noisy(2), width=0.05, budget_s=1e6, max_rounds=10_001)
    wide = Lab().compare(noisy(1), noisy(2), width=0.2, budget_s=1e6, max_rounds=10_001)
    for result, width in ((narrow, 0.05), (wide, 0.2)):
        assert result.stopped_by == "precision"
        assert result.speedup_high - result.speedup_low <= width * result.speedup
        assert result.speedup_low <= result.speedup <= result.speedup_high
    assert len(narrow.candidate_ms) > len(wide.candidate_ms) >= 15


def test_it_ends_when_the_budget_is_spent():
    lab = Lab()
    result = lab.compare(noisy(1), noisy(2), width=0.0, budget_s=2.0)
    a_round = lab.now / len(result.candidate_ms)
    assert result.stopped_by == "budget"
    assert 2.0 <= lab.now <= 2.0 + 3 * a_round
    assert len(result.candidate_ms) % 2 == 1


def test_slow_calls_get_five_short_rounds_whatever_the_budget():
    result = Lab().compare(steady(1.0), steady(1.0), budget_s=0.5)
    assert result.stopped_by == "budget"
    assert result.candidate_ms.shape == (5, 3)


@pytest.mark.parametrize("most, rounds", [(1, 1), (2, 1), (7, 7), (8, 7)])
def test_it_ends_after_the_most_rounds_allowed(most, rounds):
    result = Lab().compare(noisy(1), noisy(2), width=0.0, budget_s=1e6, max_rounds=most)
    assert result.stopped_by == "rounds"
    assert len(result.candidate_ms) == rounds


def test_the_warm_up_lasts_until_calls_stop_getting_faster():
    lab = Lab()
    calls = iter([8, 8, 8, 8, 4, 4, 4, 4, 2, 2, 2, 2])

    def warming(number: int) -> float:
        return MS * next(calls, 1)

    result = lab.compare(warming, warming, max_rounds=1, budget_s=100.0)
    assert (result.candidate_ms == 1000 * MS).all()


def test_the_warm_up_does_not_outlast_its_share_of_the_budget():
    lab = Lab()
    speed = iter(0.9**k for k in range(10_000))
    result = lab.compare(lambda number: MS * next(speed), steady(MS), max_rounds=1, budget_s=20 * MS)
    assert len(lab.ran) - 2 * result.pairs * result.calls <= 8


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 5, 30])
def test_a_check_can_cancel_and_both_sides_are_unloaded(after):
    lab = Lab()
    ended: list[str] = []
    checks = iter(range(after))

    def check(*_: object) -> None:
        if next(checks, None) is None:
            raise Cancelled

    @contextmanager
    def side(name: str):
        try:
            yield lambda: setattr(lab, "now", lab.now + 0.1)
        finally:
            ended.append(name)

    with pytest.raises(Cancelled):
        compare(
            lambda: side("candidate"),
            lambda: side("baseline"),
            clock=lab.clock,
            progress=Calling(check),
            width=0.0,
            budget_s=1e6,
        )
    assert ended.count("candidate") == ended.count("baseline") >= 1
    assert gc.isenabled()


def test_a_check_that_cancels_at_once_loads_nothing():
    lab = Lab()

    def check(*_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        lab.compare(steady(MS), steady(MS), progress=Calling(check))
    assert lab.loaded == lab.ran == []


def test_checks_are_called_every_now_and_then_and_without_the_machine(monkeypatch):
    lab = Lab()
    held, seen, called = [], [], []

    @contextmanager
    def hold(what: object) -> Iterator[None]:
        held.append(what)
        yield
        held.pop()

    monkeypatch.setattr(interleaved, "machine", lambda exclusive: hold(exclusive))
    monkeypatch.setattr(interleaved, "released", lambda: hold("released"))

    def check(*_: object) -> None:
        seen.append(held[-1])
        called.append(lab.now)

    def duration(number: int) -> float:
        assert held[-1] is True
        return MS

    lab.compare(duration, duration, progress=Calling(check))
    assert set(seen) == {"released"}
    assert np.diff(called).min() >= 0.05
    assert len(called) > 5
    assert held == []


def test_both_sides_are_warmed_again_after_a_check_that_took_long():
    """Other work leaves both sides cold: three calls are slow then, and no sample may hold one."""
    lab = Lab()
    cold = {"candidate": 3, "baseline": 3}
    times = iter([0.0, 1.0] * 1000)

    def check(*_: object) -> None:
        if took := next(times):
            lab.now += took
            cold.update(candidate=3, baseline=3)

    def side(name: str) -> Callable[[int], float]:
        def duration(number: int) -> float:
            if cold[name]:
                cold[name] -= 1
                return 8 * MS
            return MS

        return duration

    result = lab.compare(side("candidate"), side("baseline"), progress=Calling(check), max_rounds=21, width=0.0)
    assert (result.candidate_ms == 1000 * MS).all() and (result.baseline_ms == 1000 * MS).all()
    assert (result.singles.candidate_ms == 1000 * MS).all()
    assert next(times, None) is not None


def test_a_warm_up_ends_though_every_check_takes_long_and_every_call_too():
    lab = Lab()

    def check(*_: object) -> None:
        lab.now += 60.0

    result = lab.compare(steady(1.0), steady(1.0), progress=Calling(check), budget_s=10.0, max_rounds=1)
    assert (result.candidate_ms == 1000.0).all()


def test_the_time_of_checks_is_not_charged_to_the_budget():
    lab = Lab()

    def check(*_: object) -> None:
        lab.now += 60.0

    result = lab.compare(noisy(1), noisy(2), width=0.0, budget_s=1.0, progress=Calling(check))
    assert result.stopped_by == "budget"
    assert result.rounds > 5
    assert lab.now > 60.0


def test_a_known_ratio_is_given_more_rounds():
    def unlucky(number: int) -> float:  # rounds that mislead come first
        return MS * (1.5 if number < 31 else 1)

    settings = {"width": 0.5, "budget_s": 1.0}
    misled = Lab().compare(unlucky, steady(MS), **settings)
    assert misled.speedup_high < 1 and misled.rounds < 31
    given = Lab().compare(unlucky, steady(MS), truth=1.0, **settings)
    assert given.speedup_low <= 1 <= given.speedup_high
    assert given.rounds > misled.rounds


def test_a_ratio_that_never_comes_out_as_known_ends_with_the_patience():
    lab = Lab()
    result = lab.compare(steady(2 * MS), steady(MS), truth=1.0, budget_s=1.0)
    assert result.speedup_high < 1
    assert 4.0 <= lab.now <= 4.5
    assert result.stopped_by == "precision"


def test_a_failing_call_ends_the_comparison():
    def fail() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        compare(lambda: nullcontext(fail), lambda: nullcontext(fail))
    assert gc.isenabled()


def test_garbage_is_not_collected_within_a_sample():
    lab = Lab()
    collecting = []

    def call() -> None:
        collecting.append(gc.isenabled())
        lab.now += MS

    compare(lambda: nullcontext(call), lambda: nullcontext(call), clock=lab.clock, max_rounds=1)
    assert not any(collecting) and gc.isenabled()
    gc.disable()
    try:
        compare(lambda: nullcontext(call), lambda: nullcontext(call), clock=lab.clock, max_rounds=1)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("settings", [{"budget_s": 0}, {"width": -0.1}, {"max_rounds": 0}, {"budget_s": math.nan}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(CompressionError, match="comparison needs"):
        Lab().compare(steady(MS), steady(MS), **settings)


def interval_by_counting(n: int, tail: Fraction) -> tuple[int, int]:
    """Ranks of the bootstrap interval of a median, from the binomial distribution in exact arithmetic."""

    def at_most(i: int) -> Fraction:
        return sum(
            math.comb(n, j) * Fraction(i, n) ** j * Fraction(n - i, n) ** (n - j) for j in range(n // 2 + 1, n + 1)
        )

    low, high = (next(i for i in range(1, n + 1) if at_most(i) >= level) for level in (tail, 1 - tail))
    return low, high


@pytest.mark.parametrize("n", [1, 3, 5, 7, 9, 15, 25, 41])
def test_the_interval_of_a_median_is_the_limit_of_the_bootstrap(n):
    values = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert median_interval(values)[1:] == interval_by_counting(n, Fraction(1, 40))
    assert median_interval(values)[0] == np.median(values)


def test_the_interval_of_a_median_agrees_with_resampling():
    rng = np.random.default_rng(5)
    values = rng.lognormal(size=21)
    medians = np.median(rng.choice(values, (100_000, 21)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975], method="inverted_cdf")
    assert median_interval(values) == (np.median(values), low, high)
    np.testing.assert_allclose(median_interval(3 * values), 3 * np.array(median_interval(values)))


@pytest.mark.parametrize("rounds, promised", [(5, 0.93), (15, 0.96), (25, 0.95), (101, 0.94)])
def test_the_interval_covers_what_is_promised(rounds, promised):
    # The true median lies between the i-th and j-th smallest of n with probability P(i <= Bin(n, 1/2) < j).
    low, high = map(int, median_interval(np.arange(1.0, rounds + 1))[1:])
    assert sum(math.comb(rounds, k) for k in range(low, high)) / 2**rounds >= promised


def test_an_even_number_of_values_is_refused():
    with pytest.raises(CompressionError, match="odd"):
        median_interval(np.ones(4))
