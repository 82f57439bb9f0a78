import numpy as np
import pytest
from paretoscope.codec import write_streams
from paretoscope.figures import learn, walk
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.figures.walk import Codes
from paretoscope.model.statistics import LayerStatistics
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.steps.code import Coder

RNG = np.random.default_rng(1)
LAYER = LayerStatistics.of("conv", RNG.normal(0, 0.1, (16, 8, 3, 3)).astype(np.float32))
RECIPE = Recipe.of(sparsity=0.75, clusters=8, bits=8, coder="huffman")
SEEN = walk.gather(LAYER, RECIPE)


def test_the_layer_is_the_one_nearest_to_a_thousand_weights() -> None:
    sizes = {"few": (10, 10), "right": (30, 40), "many": (300, 300), "bias": (1000,)}
    layers = {
        name: LayerStatistics.of(name, RNG.normal(size=shape).astype(np.float32)) for name, shape in sizes.items()
    }
    assert walk.chosen(layers).name == "right"


def test_stages_follow_the_steps_of_the_recipe() -> None:
    assert [stage.step for stage in SEEN.stages] == ["", "prune", "share", "quantize"]
    floats, pruned, shared, rounded = (stage.matrix for stage in SEEN.stages)
    assert np.array_equal(floats, LAYER.weight.reshape(16, 72)) and SEEN.stages[0].plain == 4 * 1152
    assert np.count_nonzero(pruned) == 1152 // 4 and np.array_equal(pruned[pruned != 0], floats[pruned != 0])
    assert len(np.unique(shared)) == len(np.unique(rounded)) == 9
    assert "75.0 % of the weights are zero" in SEEN.stages[1].told
    assert [stage.step for stage in walk.gather(LAYER, Recipe.of(bits=8)).stages] == ["", "quantize"]


def test_bytes_before_coding_count_weights_and_what_stands_beside() -> None:
    assert SEEN.stages[1].plain == 4 * 1152
    assert SEEN.stages[2].plain == 1152 * 4 // 8 + 8 * 4  # 9 symbols: 4 bits; 8 floats
    assert SEEN.stages[3].plain == 1152 * 4 // 8 + 8 + 4  # 8 bytes, and their scale
    assert walk.gather(LAYER, Recipe.of(bits=4)).stages[1].plain == 1152 // 2 + 16 * 4


def test_bytes_after_coding_are_those_of_the_codec() -> None:
    model = learn.alone(LAYER.weight, RECIPE, learn.STEPS)
    for coder in (Coder.HUFFMAN, Coder.ANS):
        # A block has 8 bytes of framing at most, and is filled up to words.
        assert 0 <= write_streams(model, coder).size() - SEEN.written[coder] <= 12
    assert SEEN.stages[-1].coded == SEEN.written[Coder.HUFFMAN] > SEEN.written[Coder.ANS]
    assert SEEN.stages[0].coded > SEEN.stages[1].coded > SEEN.stages[2].coded > SEEN.stages[3].coded


def test_codes_are_counted_the_most_frequent_first() -> None:
    codes = SEEN.codes
    assert codes.counts.sum() == 1152 and codes.counts[0] == 864 and np.all(np.diff(codes.counts) <= 0)
    assert np.sum(0.5**codes.lengths) == 1 and codes.lengths[0] == 1 and codes.fixed == 4
    assert codes.entropy <= codes.huffman < codes.entropy + 1
    told = walk.why(codes)
    assert (
        "75.0 % of the weights and takes 1 bit;" in told and f"{codes.huffman:.2f} bits a weight instead of 4" in told
    )


@pytest.mark.parametrize(("counts", "words"), [([7], "one code alone"), ([5, 5], "Little is to be gained")])
def test_where_nothing_is_gained_it_says_so(counts: list[int], words: str) -> None:
    lengths = np.array([0] if len(counts) == 1 else [1, 1])
    codes = Codes(np.arange(len(counts)), np.array(counts), lengths, walk.equal_bits(len(counts)))
    assert words in walk.why(codes)


def test_floats_have_no_codes() -> None:
    seen = walk.gather(LAYER, Recipe())
    assert seen.codes is None and len(seen.stages) == 1


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_pictures_show_every_cell_and_every_code(theme) -> None:
    tall = walk.gather(LayerStatistics.of("tall", LAYER.weight.reshape(72, 16)), RECIPE)
    for stage in (*SEEN.stages, tall.stages[-1]):
        (cells,) = walk.draw(stage, 0.4, theme).data
        assert np.array(cells.z).shape == (16, 72) and (cells.zmin, cells.zmax) == (-0.4, 0.4)
        assert "16 x 72" in stage.alt or "72 x 16" in stage.alt
    bars = walk.draw_codes(SEEN.codes, theme).data
    assert [trace.name for trace in bars] == ["Share of the weights", "Huffman", "Ideal", "Equal lengths"]
    assert list(bars[1].y) == SEEN.codes.lengths.tolist() and sum(bars[0].y) == pytest.approx(100)
    many = walk.gather(LAYER, Recipe.of(bits=8)).codes
    assert len(walk.draw_codes(many, theme).data[1].y) == walk.MOST_BARS
