import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.methods import prune
from paretoscope.methods.prune import Cut
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.recipe.recipe import SCOPES, LayerRecipe, Prune, Recipe

examples = settings(derandomize=True, deadline=None, database=None, max_examples=100)

# Few magnitudes, so that most examples have ties within layers and across them; both zeros; extremes.
TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-45, -3e38])
LAYERS = st.lists(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=TIED)
    | arrays.arrays(np.float32, st.integers(1, 12), elements=st.floats(-1e3, 1e3, width=32)),
    min_size=1,
    max_size=4,
)
SPARSITIES = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.99, math.nextafter(1, 0)])


def statistics_of(*weights: np.ndarray) -> ModelStatistics:
    layers = {f"layer{i}": LayerStatistics.of(f"layer{i}", weight) for i, weight in enumerate(weights)}
    magnitudes = np.sort(np.abs(np.concatenate([weight.reshape(-1) for weight in weights])))
    return ModelStatistics("test", layers, {}, tuple(layers), magnitudes)


def pruned(weights: list[np.ndarray], sparsity: float, scope: str) -> list[np.ndarray]:
    statistics = statistics_of(*weights)
    cuts = prune.cuts(statistics, Prune(sparsity, scope))
    assert list(cuts) == list(statistics.layers)
    return [prune.apply(layer.weight, cuts[name]) for name, layer in statistics.layers.items()]


def slow_twin(weights: list[np.ndarray], sparsity: float, scope: str) -> list[np.ndarray]:
    """Rank every weight by magnitude, then layer, then place; zero the first floor(s n) of the model or of a layer."""
    result = [weight.copy() for weight in weights]
    groups = [range(len(weights))] if scope == "global" else [[i] for i in range(len(weights))]
    for group in groups:
        ranked = sorted((abs(value), i, place) for i in group for place, value in enumerate(weights[i].reshape(-1)))
        for _, i, place in ranked[: math.floor(sparsity * len(ranked))]:
            result[i].reshape(-1)[place] = 0
    return result


@given(LAYERS, SPARSITIES, st.sampled_from(SCOPES))
@example([np.float32([0.0, -0.0, 0.0])], 0.5, "layer")
@example([np.float32([1, 1]), np.float32([[1, -1]]), np.float32([1])], 0.8, "global")
@examples
def test_slow_twin(weights, sparsity, scope):
    for one, other in zip(pruned(weights, sparsity, scope), slow_twin(weights, sparsity, scope), strict=True):
        assert one.dtype == np.float32 and one.shape == other.shape
        assert one.tolist() == other.tolist()


@given(LAYERS, SPARSITIES, st.sampled_from(SCOPES))
@examples
def test_what_is_kept_is_kept_bit_for_bit(weights, sparsity, scope):
    for before, after in zip(weights, pruned(weights, sparsity, scope), strict=True):
        kept = after != 0
        assert after[kept].tobytes() == before[kept].tobytes()


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.29, 0.5, 0.7, 0.95, 0.999, math.nextafter(1, 0)])
@pytest.mark.parametrize("tied", [False, True])
def test_exactly_floor_of_s_times_n_zeros(sparsity, tied):
    rng = np.random.default_rng(0)
    shapes = [(7, 3, 3, 3), (11, 13), (5,)]
    if tied:
        weights = [rng.choice(np.float32([-3, -2, -1, 1, 2, 3]), shape) for shape in shapes]
    else:
        weights = [rng.standard_normal(shape, np.float32) for shape in shapes]
    sizes = [weight.size for weight in weights]
    zeros = [int((weight == 0).sum()) for weight in pruned(weights, sparsity, "layer")]
    assert zeros == [math.floor(sparsity * size) for size in sizes]
    zeros = [int((weight == 0).sum()) for weight in pruned(weights, sparsity, "global")]
    assert sum(zeros) == math.floor(sparsity * sum(sizes))


@given(LAYERS, st.sampled_from(SCOPES))
@examples
def test_at_least_one_weight_is_not_pruned(weights, scope):
    weights = [np.where(weight == 0, np.float32(1), weight) for weight in weights]
    assert any(weight.any() for weight in pruned(weights, math.nextafter(1, 0), scope))


def test_global_takes_more_of_the_layer_with_small_weights():
    small, large = np.float32([0.1, -0.2, 0.3, -0.4]), np.float32([1, 2, 3, -4])
    whole = pruned([small, large], 0.5, "global")
    assert [weight.tolist() for weight in whole] == [[0, 0, 0, 0], [1, 2, 3, -4]]
    each = pruned([small, large], 0.5, "layer")
    assert [weight.tolist() for weight in each] == [[0, 0, np.float32(0.3), np.float32(-0.4)], [0, 0, 3, -4]]


def test_equal_magnitudes_go_first_layer_and_first_place_first():
    weights = [np.float32([[1, -1], [5, 1]]), np.float32([-1, 1, 1, 1])]
    assert [w.tolist() for w in pruned(weights, 0.25, "global")] == [[[0, 0], [5, 1]], [-1, 1, 1, 1]]
    assert [w.tolist() for w in pruned(weights, 0.5, "global")] == [[[0, 0], [5, 0]], [0, 1, 1, 1]]
    assert [w.tolist() for w in pruned(weights, 0.5, "layer")] == [[[0, 0], [5, 1]], [0, 0, 1, 1]]


def test_zeros_count_as_pruned_weights():
    """A weight that was zero already is among the least: no other has to go for it."""
    assert pruned([np.float32([3, 0, 2, 0])], 0.5, "global")[0].tolist() == [3, 0, 2, 0]
    assert pruned([np.float32([3, 0, 2, 0])], 0.75, "global")[0].tolist() == [3, 0, 0, 0]


@given(LAYERS, SPARSITIES, SPARSITIES, st.sampled_from(SCOPES))
@examples
def test_more_sparsity_takes_what_less_took_and_more(weights, one, other, scope):
    less, more = sorted([one, other])
    for few, many in zip(pruned(weights, less, scope), pruned(weights, more, scope), strict=True):
        assert not many[few == 0].any()


@given(LAYERS, SPARSITIES, st.sampled_from(SCOPES))
@examples
def test_signs_do_not_matter(weights, sparsity, scope):
    flipped = pruned([-weight for weight in weights], sparsity, scope)
    for one, other in zip(pruned(weights, sparsity, scope), flipped, strict=True):
        assert one.tolist() == (-other).tolist()


@given(LAYERS, SPARSITIES, st.sampled_from(SCOPES), st.integers(-10, 10))
@examples
def test_scale_does_not_matter(weights, sparsity, scope, exponent):
    factor = np.float32(2.0**exponent)
    weights = [np.clip(np.where(np.abs(w) < 1e-30, np.sign(w), w), -1e30, 1e30).astype(np.float32) for w in weights]
    scaled = pruned([weight * factor for weight in weights], sparsity, scope)
    for one, other in zip(pruned(weights, sparsity, scope), scaled, strict=True):
        assert (one * factor).tolist() == other.tolist()


@pytest.mark.slow
@given(LAYERS, SPARSITIES, st.randoms(use_true_random=False))
@examples
def test_order_decides_between_equals_only(weights, sparsity, random):
    flat = [value for weight in weights for value in weight.reshape(-1).tolist()]
    shuffled = random.sample(flat, len(flat))
    one, other = (pruned([np.float32(values)], sparsity, "layer")[0] for values in (flat, shuffled))
    assert sorted(np.abs(one).tolist()) == sorted(np.abs(other).tolist())


@given(LAYERS, SPARSITIES)
@examples
def test_one_layer_is_the_same_in_both_scopes(weights, sparsity):
    assert pruned(weights[:1], sparsity, "global")[0].tolist() == pruned(weights[:1], sparsity, "layer")[0].tolist()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("value", [0.0, -0.0, 0.5, -3e38, 1e-45])
def test_constant_layers(value, scope):
    weight = np.full((4, 5), value, np.float32)
    result = pruned([weight], 0.3, scope)[0]
    assert result.reshape(-1)[:6].tolist() == [0] * 6
    assert result.reshape(-1)[6:].tolist() == [float(np.float32(value))] * 14


def test_one_weight_stays():
    assert pruned([np.float32([[2.5]])], 0.99, "global")[0].tolist() == [[2.5]]


def test_apply_is_pure_and_takes_any_memory_layout():
    weight = np.arange(1, 13, dtype=np.float32).reshape(3, 4) % 4
    before = weight.copy()
    result = prune.apply(weight, Cut(1.0, 2))
    assert weight.tolist() == before.tolist() and not np.shares_memory(result, weight)
    assert prune.apply(np.asfortranarray(weight), Cut(1.0, 2)).tolist() == result.tolist()
    assert result.tolist() == [[0, 2, 3, 0], [0, 2, 3, 0], [1, 2, 3, 0]]


def test_no_cut_takes_nothing():
    weight = np.float32([[0.0, 1e-45], [-0.0, -1]])
    assert prune.apply(weight, Cut(0.0, 0)).tobytes() == weight.tobytes()


THRESHOLDS = st.sampled_from([0.1, 1.0, 2.0, 1e-45, 1e300]) | st.floats(1e-30, 1e4)


@given(LAYERS, THRESHOLDS)
@examples
def test_a_threshold_takes_all_that_is_smaller_and_nothing_else(weights, threshold):
    statistics = statistics_of(*weights)
    cuts = prune.cuts(statistics, Prune(threshold=threshold))
    assert list(cuts) == list(statistics.layers)
    with np.errstate(over="ignore"):
        single = np.float32(threshold)
    for weight, cut in zip(weights, cuts.values(), strict=True):
        result = prune.apply(weight, cut)
        assert result.tolist() == np.where(np.abs(weight) < single, np.float32(0), weight).tolist()


def test_a_weight_at_the_threshold_stays():
    weight = np.float32([0.3, -0.3, 0.29999, np.nextafter(np.float32(0.3), np.float32(0))])
    assert prune.apply(weight, Cut(0.3, 0)).tolist() == [np.float32(0.3), -np.float32(0.3), 0, 0]


def pattern_by_sorting(weight: np.ndarray, kept: int, group: int) -> np.ndarray:
    """Group by group in Python: stable sort by falling magnitude, the rest goes."""
    result = weight.copy()
    for index in np.ndindex(weight.shape[0], weight.shape[1] // group, *weight.shape[2:]):
        places = [(index[0], index[1] * group + i, *index[2:]) for i in range(group)]
        for place in sorted(places, key=lambda place: -abs(weight[place]))[kept:]:
            result[place] = 0
    return result


@st.composite
def patterned(draw):
    group = draw(st.integers(2, 7))
    shape = (draw(st.integers(1, 4)), group * draw(st.integers(1, 3)), *draw(st.sampled_from([(), (3,), (2, 2)])))
    elements = draw(st.sampled_from([TIED, st.floats(-1e3, 1e3, width=32)]))
    return draw(arrays.arrays(np.float32, shape, elements=elements)), draw(st.integers(1, group - 1)), group


class TestPattern:
    @given(patterned())
    @examples
    def test_slow_twin(self, case):
        weight, kept, group = case
        result = prune.apply_pattern(weight, kept, group)
        assert result.dtype == np.float32 and result.shape == weight.shape
        assert result.tolist() == pattern_by_sorting(weight, kept, group).tolist()

    @given(patterned())
    @examples
    def test_every_group_keeps_exactly_n_and_none_smaller_than_what_goes(self, case):
        weight, kept, group = case
        weight = np.where(weight == 0, np.float32(0.5), weight)
        result = prune.apply_pattern(weight, kept, group)
        rows = np.moveaxis(weight, 1, -1).reshape(-1, group), np.moveaxis(result, 1, -1).reshape(-1, group)
        for before, after in zip(*rows, strict=True):
            assert np.count_nonzero(after) == kept
            assert np.abs(before[after != 0]).min() >= np.abs(before[after == 0]).max()
            assert after[after != 0].tolist() == before[after != 0].tolist()

    def test_two_of_four_by_hand_and_ties_to_the_first(self):
        weight = np.float32([[1, -3, 2, 0, 5, 5, -5, 5]])
        assert prune.apply_pattern(weight, 2, 4).tolist() == [[0, -3, 2, 0, 5, 5, 0, 0]]

    def test_kernel_positions_are_apart(self):
        weight = np.zeros((1, 4, 1, 2), np.float32)
        weight[0, :, 0, 0], weight[0, :, 0, 1] = [1, 2, 3, 4], [4, 3, 2, 1]
        result = prune.apply_pattern(weight, 1, 2)
        assert result[0, :, 0, 0].tolist() == [0, 2, 0, 4] and result[0, :, 0, 1].tolist() == [4, 0, 2, 0]

    @pytest.mark.parametrize(
        ("shape", "group", "whole"),
        [((8, 4), 4, True), ((8, 6), 4, False), ((32, 1, 3, 3), 4, False), ((4, 64, 3, 3), 16, True), ((8,), 4, False)],
    )
    def test_a_width_that_does_not_divide_is_left_dense(self, shape, group, whole):
        weight = np.arange(1, math.prod(shape) + 1, dtype=np.float32).reshape(shape)
        assert prune.divides(shape, group) is whole
        result = prune.apply_pattern(weight, 1, group)
        assert (np.count_nonzero(result) == weight.size // group) if whole else np.array_equal(result, weight)
        assert not np.shares_memory(result, weight)

    def test_is_pure_and_takes_any_memory_layout(self):
        weight = np.asfortranarray(np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32))
        before = weight.copy()
        assert prune.apply_pattern(weight, 2, 4).tolist() == pattern_by_sorting(before, 2, 4).tolist()
        assert weight.tolist() == before.tolist()

    def test_no_cut_is_made_for_a_pattern(self):
        assert prune.cuts(statistics_of(np.ones((2, 4), np.float32)), Prune(pattern="2:4")) == {}


def own(**settings) -> LayerRecipe:
    return LayerRecipe(Recipe.of(**settings).prune, None, None, own_rate=True)


class TestCutsOf:
    @given(LAYERS, SPARSITIES, st.sampled_from(SCOPES))
    @examples
    def test_without_overrides_the_cuts_are_the_recipes(self, weights, sparsity, scope):
        statistics, step = statistics_of(*weights), Recipe.of(sparsity=sparsity, scope=scope).prune
        plans = {name: LayerRecipe(step, None, None) for name in statistics.layers}
        expected = prune.cuts(statistics, step) if step else {}
        assert prune.cuts_of(statistics, plans, step) == expected

    @pytest.mark.slow
    @given(LAYERS, SPARSITIES, SPARSITIES, st.randoms(use_true_random=False))
    @examples
    def test_the_others_rank_among_themselves_as_a_model_of_their_own(self, weights, sparsity, alone, random):
        """The twin prunes the layers without a rate of their own as a smaller model, and the rest one by one."""
        statistics, step = statistics_of(*weights), Recipe.of(sparsity=sparsity).prune
        names = list(statistics.layers)
        chosen = set(random.sample(names, random.randint(1, len(names))))
        plans = {n: own(sparsity=alone) if n in chosen else LayerRecipe(step, None, None) for n in names}
        cuts = prune.cuts_of(statistics, plans, step)
        others = [i for i, name in enumerate(names) if name not in chosen]
        expected = dict(zip(others, slow_twin([weights[i] for i in others], sparsity, "global"), strict=True))
        expected |= {i: slow_twin([weights[i]], alone, "layer")[0] for i in range(len(names)) if i not in others}
        for i, name in enumerate(names):
            result = prune.apply(weights[i], cuts[name]) if name in cuts else weights[i]
            assert result.tolist() == expected[i].tolist()

    def test_each_kind_of_override(self):
        weights = [np.float32([1, 2, 3, 4]), np.float32([1, 2, 3, 4]), *[np.float32([[1, 2, 3, 4]])] * 3]
        statistics, step = statistics_of(*weights), Prune(0.5)
        plans = dict(
            zip(
                statistics.layers,
                [
                    LayerRecipe(step, None, None),
                    own(threshold=4.0),
                    own(pattern="1:2"),
                    own(sparsity=0.0),
                    LayerRecipe(Prune(0.5, "layer"), None, None),
                ],
                strict=True,
            )
        )
        assert prune.cuts_of(statistics, plans, step) == {
            "layer0": Cut(2.0, 1),
            "layer1": Cut(4.0, 0),
            "layer4": Cut(2.0, 1),
        }

    def test_overrides_of_a_recipe_that_does_not_prune(self):
        statistics = statistics_of(np.float32([1, 2, 3, 4]), np.float32([1, 2]))
        plans = {"layer0": own(sparsity=0.5), "layer1": LayerRecipe(None, None, None)}
        assert prune.cuts_of(statistics, plans, None) == {"layer0": Cut(2.0, 1)}

    def test_layers_moved_to_the_global_scope_rank_together(self):
        statistics = statistics_of(np.float32([1, 2]), np.float32([10, 20]), np.float32([3, 4]))
        plans = dict.fromkeys(["layer0", "layer1"], LayerRecipe(Prune(0.5, "global"), None, None))
        plans["layer2"] = LayerRecipe(Prune(0.5, "layer"), None, None)
        cuts = prune.cuts_of(statistics, plans, Prune(0.5, "layer"))
        assert [cuts[f"layer{i}"] for i in range(3)] == [Cut(2.0, 1), Cut(2.0, 0), Cut(3.0, 1)]
