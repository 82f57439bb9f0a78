"""What a person can afford, against a search through all recipes by hand."""

import itertools

import numpy as np
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.search.budget import Answer, Budget, Limit, answer


def drawn(seed: int, n: int = 12) -> dict[Limit, np.ndarray]:
    draw = np.random.default_rng(seed)
    ms = draw.uniform(0.01, 0.2, n).round(2)
    ms[draw.random(n) < 0.3] = np.nan
    return {
        Limit.SIZE: draw.integers(1, 100, n) * 1000.0,
        Limit.MS: ms,
        Limit.LOST: draw.integers(-2, 9, n) / 2,
    }


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limited", [c for n in (1, 2, 3) for c in itertools.combinations(Limit, n)])
def test_the_answer_is_that_of_a_search_by_hand(seed: int, limited: tuple[Limit, ...]) -> None:
    columns = drawn(seed)
    most = {Limit.SIZE: 30_000.0, Limit.MS: 0.08, Limit.LOST: 0.5}
    budget = Budget(**{limit: most[limit] for limit in limited})
    fitting = [at for at in range(12) if all(columns[limit][at] <= most[limit] for limit in limited)]
    found = answer(budget, columns)
    assert found.fitting == len(fitting) and found.fits == bool(fitting)
    order = (Limit.SIZE, Limit.LOST) if Limit.LOST in limited else (Limit.LOST, Limit.SIZE)
    if fitting:
        assert found.place == min(fitting, key=lambda at: tuple(columns[limit][at] for limit in order))
    elif found.place is not None:
        assert found.over and all(
            columns[limit][found.place] - most[limit] == pytest.approx(over) and over > 0
            for limit, over in found.over.items()
        )


def test_what_lacks_its_time_only_is_counted() -> None:
    columns = {Limit.SIZE: np.array([1.0, 1, 9]), Limit.MS: np.full(3, np.nan), Limit.LOST: np.zeros(3)}
    assert answer(Budget(size=2, ms=1), columns) == Answer(None, False, {}, 0, 2)


def test_a_link_brings_a_budget_back() -> None:
    budget = Budget(size=50_000, ms=0.1, lost=0.5)
    assert budget.to_query() == {"most_kb": "50", "most_ms": "0.1", "most_lost": "0.5"}
    assert Budget.from_query(budget.to_query()) == (budget, ())
    found, problems = Budget.from_query({"most_kb": "many", "most_ms": "-1", "most_lost": "0"})
    assert found == Budget(lost=0) and len(problems) == 2 and "'many'" in problems[0]


@pytest.mark.parametrize(
    "limits", [{"size": 0}, {"ms": -1}, {"lost": -0.1}, {"size": float("nan")}, {"ms": float("inf")}]
)
def test_limits_that_are_none_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(CompressionError, match="Leave it out"):
        Budget(**limits)
