import dataclasses
import itertools

import numpy as np
import pytest
from paretoscope import codec
from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import Calling
from paretoscope.measure.sensitivity import Sensitivity, SensitivityPoint, coded_bytes, compress_alone
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.recipe.recipe import Code, Prune, Recipe, Repair
from paretoscope.search.suggest import Harm, Option, Target, hull, options, suggest, suggest_measured

GRIDS = {"sparsity": (0.5, 0.9), "clusters": (16, 4), "bits": (8, 4, 2)}
SETTINGS = {"calibration": "mse"}
# How much worse each layer takes its own rounding errors.
HARM = {"a.weight": 1.0, "b.weight": 30.0, "c.weight": 0.05}


@pytest.fixture(scope="module")
def statistics() -> ModelStatistics:
    draw = np.random.default_rng(3)
    shapes = {"a.weight": (60, 40), "b.weight": (30, 16, 3, 3), "c.weight": (10, 30)}
    layers = {name: LayerStatistics.of(name, draw.laplace(size=s).astype(np.float32)) for name, s in shapes.items()}
    magnitudes = np.sort(np.concatenate([layer.magnitudes for layer in layers.values()]))
    bias = {"a.bias": draw.normal(size=60).astype(np.float32)}
    return ModelStatistics("net", layers, bias, (*layers, *bias), magnitudes)


@pytest.fixture(scope="module")
def sensitivity(statistics) -> Sensitivity:
    """Divergences that grow with the squared error, accuracy that falls with them."""
    curves = {}
    for name, layer in statistics.layers.items():
        curves[name] = {}
        for setting, grid in GRIDS.items():
            points = []
            for value in grid:
                compressed = compress_alone(statistics, name, {**SETTINGS, setting: value})
                kl = HARM[name] * float(np.mean((compressed.decode(name) - layer.weight) ** 2))
                points.append(
                    SensitivityPoint(value, max(0, 990 - int(100 * kl)), 1000, kl, coded_bytes(compressed, name))
                )
            curves[name][setting] = tuple(points)
    dense = {name: coded_bytes(compress_alone(statistics, name, {}), name) for name in statistics.layers}
    return Sensitivity("net", 990, 1000, SETTINGS, dense, curves)


def artefact(statistics):
    return lambda recipe: len(codec.write(compress(statistics, recipe)))


@pytest.mark.slow
def test_options_have_nearly_the_bytes_that_are_measured(statistics, sensitivity):
    for name in statistics.layers:
        found = options(sensitivity, statistics, name)
        assert found[0] == Option((), sensitivity.layer_bytes[name], 0.0)
        assert len(found) == 1 + 2 + (2 + 3) * (1 + 2)
        for option in found:
            compressed = compress_alone(statistics, name, {**SETTINGS, **dict(option.settings)})
            # A codebook's entropy is the one before pruning, and a small layer's tables weigh more.
            assert option.bytes == pytest.approx(coded_bytes(compressed, name), rel=0.2, abs=40)


def test_the_hull_holds_the_best_option_for_every_price():
    draw = np.random.default_rng(0)
    for _ in range(20):
        cloud = [Option((("bits", i),), *pair) for i, pair in enumerate(draw.integers(0, 30, size=(12, 2)).tolist())]
        corners = hull(cloud)
        for price in (0.01, 0.1, 0.5, 1.0, 3.0, 20.0):
            best = min(option.kl + price * option.bytes for option in cloud)
            assert min(option.kl + price * option.bytes for option in corners) == pytest.approx(best)
        sizes, harms = [each.bytes for each in corners], [each.kl for each in corners]
        assert sizes == sorted(set(sizes), reverse=True)
        assert harms == sorted(set(harms))


def test_no_other_choice_of_that_size_harms_less_but_for_little(statistics, sensitivity):
    menus = [hull(options(sensitivity, statistics, name)) for name in statistics.layers]
    dense = artefact(statistics)(Recipe())
    fixed = dense - sum(sensitivity.layer_bytes.values())
    for share in (0.5, 0.2, 0.1):
        found = suggest(sensitivity, statistics, Target(bytes=int(share * dense)))
        assert found.reached
        room = found.predicted_bytes - fixed
        best = min(
            sum(option.kl for option in choice)
            for choice in itertools.product(*menus)
            if sum(option.bytes for option in choice) <= room
        )
        assert found.kl <= 1.5 * best + 1e-9


def test_tighter_targets_give_smaller_and_more_harmful_recipes(statistics, sensitivity):
    dense = artefact(statistics)(Recipe())
    found = [suggest(sensitivity, statistics, Target(bytes=dense // ratio)) for ratio in (2, 4, 8, 12)]
    assert all(a.predicted_bytes > b.predicted_bytes for a, b in itertools.pairwise(found))
    assert all(a.kl < b.kl for a, b in itertools.pairwise(found))
    wishes = (0, 0.5, 2, 10)
    drops = [suggest(sensitivity, statistics, Target(drop=drop)) for drop in wishes]
    assert all(a.predicted_bytes >= b.predicted_bytes for a, b in itertools.pairwise(drops))
    assert all(a.reached and a.predicted_drop <= wish + 0.05 for a, wish in zip(drops, wishes, strict=True))


def test_the_layer_that_minds_most_is_spared(statistics, sensitivity):
    found = suggest(sensitivity, statistics, Target(bytes=artefact(statistics)(Recipe()) // 8))
    errors = {}
    for name, layer in statistics.layers.items():
        decoded = compress(statistics, found.recipe).decode(name)
        errors[name] = float(np.mean((decoded - layer.weight) ** 2))
    assert errors["b.weight"] < errors["a.weight"] / 2


@pytest.mark.slow
def test_the_prediction_is_near_the_artefact_and_with_a_measure_the_size_is_met(statistics, sensitivity):
    measure = artefact(statistics)
    for ratio in (3, 6, 10):
        wanted = measure(Recipe()) // ratio
        predicted = suggest(sensitivity, statistics, Target(bytes=wanted))
        assert predicted.predicted_bytes == pytest.approx(measure(predicted.recipe), rel=0.15)
        met = suggest(sensitivity, statistics, Target(bytes=wanted), measure=measure)
        assert met.reached
        assert met.predicted_bytes == measure(met.recipe) <= wanted


def test_what_is_already_small_enough_stays_as_it_is(statistics, sensitivity):
    assert suggest(sensitivity, statistics, Target(bytes=10**7)).recipe == Recipe()


def test_what_cannot_be_reached_is_said(statistics, sensitivity):
    found = suggest(sensitivity, statistics, Target(bytes=10))
    assert not found.reached
    assert found.predicted_bytes > 10
    assert not suggest(sensitivity, statistics, Target(bytes=10), measure=artefact(statistics)).reached


def test_repair_and_code_are_those_of_the_base(statistics, sensitivity):
    base = Recipe(prune=Prune(0.3), repair=Repair(bias=True), code=Code(rest="fp16"))
    recipe = suggest(sensitivity, statistics, Target(bytes=2000), base=base).recipe
    assert (recipe.prune, recipe.repair, recipe.code) == (None, base.repair, base.code)
    assert {override.layers for override in recipe.overrides} == {"a", "b", "c"}


def test_layers_that_were_not_measured_stay_as_they_are(statistics, sensitivity):
    part = dataclasses.replace(
        sensitivity,
        curves={"a.weight": {"bits": sensitivity.curves["a.weight"]["bits"]}},
        layer_bytes={"a.weight": sensitivity.layer_bytes["a.weight"]},
    )
    found = suggest(part, statistics, Target(bytes=1))
    assert [(o.layers, dict(o.settings)) for o in found.recipe.overrides] == [("a", {"bits": 2, "calibration": "mse"})]
    assert found.predicted_bytes == pytest.approx(artefact(statistics)(found.recipe), rel=0.01)


def test_names_that_look_like_patterns_match_only_themselves(statistics, sensitivity):
    layer = dataclasses.replace(statistics.layers["a.weight"], name="x[0]*.weight")
    odd = ModelStatistics("net", {"x[0]*.weight": layer}, {}, ("x[0]*.weight",), layer.magnitudes)
    curves = Sensitivity(
        "net", 990, 1000, SETTINGS, {"x[0]*.weight": 9000}, {"x[0]*.weight": sensitivity.curves["a.weight"]}
    )
    (override,) = suggest(curves, odd, Target(bytes=1)).recipe.overrides
    assert override.matches("x[0]*.weight")
    assert not override.matches("x0y.weight")


def test_measured_on_the_way_the_drop_is_kept_to_however_wrong_the_prediction_is(statistics, sensitivity):
    wanted = 1.0
    dense = artefact(statistics)(Recipe())
    for worse in (0.2, 1.0, 20.0, 1e6):
        tried = []

        def evaluate(recipe, worse=worse, tried=tried):
            decoded = compress(statistics, recipe)
            errors = (
                np.mean((decoded.decode(n) - each.weight) ** 2) * HARM[n] for n, each in statistics.layers.items()
            )
            tried.append((recipe, 10 * worse * float(sum(errors))))
            return tried[-1][1]

        reports = []
        found = suggest_measured(
            sensitivity,
            statistics,
            wanted,
            evaluate,
            progress=Calling(lambda share, _, partial, reports=reports: reports.append((share, partial))),
        )
        assert found.reached
        assert found.predicted_drop <= wanted + 0.05
        assert found.recipe == Recipe() or (found.recipe, found.predicted_drop) in tried
        sizes = {recipe: len(codec.write(compress(statistics, recipe))) for recipe, lost in tried if lost <= wanted}
        assert len(codec.write(compress(statistics, found.recipe))) == min(sizes.values(), default=dense)
        assert len(reports) == len(tried) <= 8
        assert reports[-1][0] == 1


def test_harm_rises_with_divergence(sensitivity):
    harm = Harm.of(sensitivity)
    # A task whose figure is no percentage has points of its own.
    own = Harm.of(sensitivity, factor=1.0)
    np.testing.assert_allclose(100 * own.points, harm.points)
    assert 100 * own.tolerance == pytest.approx(harm.tolerance)
    drops = [harm.drop(kl) for kl in np.linspace(0, 2 * harm.kl[-1], 50)]
    assert drops == sorted(drops)
    assert drops[0] == 0
    assert harm.drop(harm.kl_at(1.0)) <= 1.0 + harm.tolerance
    assert harm.kl_at(1000.0) == harm.kl[-1]


@pytest.mark.parametrize(
    "wishes", [{}, {"bytes": 10, "drop": 1.0}, {"bytes": -1}, {"drop": float("nan")}, {"bytes": "1"}]
)
def test_refuses_targets_that_say_nothing_or_too_much(wishes):
    with pytest.raises(RecipeError):
        Target(**wishes)
