"""The pipeline: steps in their order, nothing touched, the same again; what comes out lies where the recipe says."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope import codec
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.measure.rates import rates
from paretoscope.measure.size import ladder
from paretoscope.measure.variant import Variant
from paretoscope.methods import kmeans, pipeline
from paretoscope.methods.pipeline import compress, compress_layer
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.structure import Structure
from paretoscope.model.tensors import Codebook, Integers, Plain, as_integers
from paretoscope.recipe.recipe import BITS, CLIPPINGS, STARTS, Recipe
from torch import nn

examples = settings(derandomize=True, deadline=None, database=None, max_examples=60)

SETTINGS = [
    dict(zip(("sparsity", "clusters", "bits", "granularity", "calibration"), values, strict=True))
    for values in itertools.product(
        (0.0, 0.6), (None, 5, 256), (32, 16, 8, 3, 2, 1), ("channel", "tensor"), ("range", "mse")
    )
]
RECIPES = st.builds(
    Recipe.of,
    sparsity=st.sampled_from([0.0, 0.3, 0.8, 0.999]),
    scope=st.sampled_from(["global", "layer"]),
    clusters=st.sampled_from([None, 2, 7, 64, 256]),
    bits=st.sampled_from(BITS),
    granularity=st.sampled_from(["channel", "tensor"]),
    calibration=st.sampled_from(["range", "mse"]),
    rest=st.sampled_from(["fp32", "fp16"]),
)


def build() -> nn.Module:
    """Convolution, depthwise convolution and linear layers of different spread, and a normalisation between them."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 7),
        nn.Linear(7, 3),
    )
    with torch.no_grad():
        net[2].weight.mul_(4)
        net[6].weight.mul_(1 / 16)
        net[1].running_var.uniform_(0.5, 2)
        net[1].num_batches_tracked += 12345
    return net.eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build()


@pytest.fixture(scope="module")
def statistics(model: nn.Module) -> ModelStatistics:
    return ModelStatistics.of(model, "small")


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
        layer.bias.zero_()
    return layer


def compressed_weight(rows: list[list[float]], **settings) -> np.ndarray:
    return compress(ModelStatistics.of(linear(*rows), "one"), Recipe.of(**settings)).decode("weight")


def bits_of(compressed: CompressedModel) -> dict[str, tuple]:
    """Everything a compressed model holds, to compare two of them bit by bit."""

    def of(tensor):
        match tensor:
            case Plain(values=values):
                return "plain", values.dtype.str, values.shape, values.tobytes()
            case Integers(codes=codes, scale=scale, bits=bits, zero=zero):
                zeros = None if zero is None else (zero.dtype.str, zero.shape, zero.tobytes())
                return (
                    "integers",
                    codes.dtype.str,
                    codes.shape,
                    codes.tobytes(),
                    scale.shape,
                    scale.tobytes(),
                    bits,
                    zeros,
                )
            case Codebook(indices=indices, entries=entries):
                return "codebook", indices.dtype.str, indices.shape, indices.tobytes(), of(entries)

    return {name: of(tensor) for name, tensor in {**compressed.weights, **compressed.rest}.items()}


def pruned_twin(statistics: ModelStatistics, sparsity: float, scope: str) -> dict[str, np.ndarray]:
    weights = {name: layer.weight.copy() for name, layer in statistics.layers.items()}
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    for names in groups:
        ranked = sorted((abs(v), n, i) for n, name in enumerate(names) for i, v in enumerate(weights[name].flat))
        for _, n, i in ranked[: math.floor(sparsity * len(ranked))]:
            weights[names[n]].reshape(-1)[i] = 0
    return weights


class TestAnyRecipe:
    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_gives_what_it_says(self, statistics, settings):
        compressed = compress(statistics, Recipe.of(**settings))
        zeros = total = 0
        for tensor in compressed.weights.values():
            decoded = tensor.decode()
            zeros += np.count_nonzero(decoded == 0)
            total += decoded.size
            assert decoded.dtype == np.float32 and np.isfinite(decoded).all()
            if settings["clusters"]:
                assert isinstance(tensor, Codebook)
                assert len(np.unique(decoded[decoded != 0])) <= settings["clusters"]
                entries = tensor.entries.decode()
                assert len(np.unique(entries)) == len(entries) and (entries != 0).all()
                assert tensor.indices.max() <= len(entries)
                assert tensor.indices.dtype == (np.uint8 if len(entries) <= 255 else np.uint16)
            elif settings["bits"] == 32:
                assert isinstance(tensor, Plain)
            else:
                assert isinstance(tensor, Integers)
                top = max(1, 2 ** (settings["bits"] - 1) - 1)
                assert np.abs(tensor.codes.astype(int)).max() <= top
                assert tensor.scale.shape == (() if settings["granularity"] == "tensor" else (decoded.shape[0],))
            if settings["bits"] <= 8:
                assert np.array_equal(as_integers(tensor).decode(), decoded)
        assert zeros >= int(settings["sparsity"] * total)

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_touches_nothing_and_gives_the_same_again(self, recipe):
        model = build()
        statistics = ModelStatistics.of(model, "small")
        arrays = [layer.__dict__[name] for layer in statistics.layers.values() for name in ("weight", "ordered")]
        arrays += [*statistics.rest.values(), statistics.magnitudes]
        state = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
        held = [array.tobytes() for array in arrays]
        one, other = compress(statistics, recipe), compress(statistics, recipe)
        one.load_into(build())
        assert {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()} == state
        assert [array.tobytes() for array in arrays] == held
        assert bits_of(one) == bits_of(other)
        assert bits_of(compress(ModelStatistics.of(build(), "small"), recipe)) == bits_of(one)

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_names_shapes_and_origin(self, recipe):
        model = build()
        statistics = ModelStatistics.of(model, "small")
        compressed = compress(statistics, recipe)
        assert (compressed.architecture, compressed.source) == ("small", statistics.digest)
        assert compressed.recipe == recipe
        assert compressed.order == tuple(model.state_dict())
        assert set(compressed.weights) == set(statistics.layers) and set(compressed.rest) == set(statistics.rest)
        decoded = compressed.state_dict()
        for name, tensor in model.state_dict().items():
            assert decoded[name].shape == tensor.shape and decoded[name].dtype == tensor.dtype
            assert decoded[name].numpy().tobytes() == compressed.decode(name).tobytes()

    @pytest.mark.slow
    @given(RECIPES, st.integers(-20, 20))
    @examples
    def test_scaling_all_weights_by_a_power_of_two_scales_what_is_decoded(self, recipe, exponent):
        model, scaled = build(), build()
        with torch.no_grad():
            for name, parameter in scaled.named_parameters():
                if name in ModelStatistics.of(model, "small").layers:
                    parameter.mul_(2.0**exponent)
        one = compress(ModelStatistics.of(model, "small"), recipe)
        other = compress(ModelStatistics.of(scaled, "small"), recipe)
        for name in one.weights:
            assert np.array_equal(one.decode(name) * np.float32(2.0**exponent), other.decode(name))

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_order_of_the_channels_does_not_matter(self, recipe):
        model, shuffled = build(), build()
        order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
        with torch.no_grad():
            shuffled[0].weight.copy_(model[0].weight[order])
        one = compress(ModelStatistics.of(model, "small"), recipe)
        other = compress(ModelStatistics.of(shuffled, "small"), recipe)
        # One scale for all channels is a sum over them, and a sum in another order may round otherwise.
        exact = recipe.bits in (1, 32) or recipe.quantize.granularity == "channel" or recipe.share
        close = np.array_equal if exact and recipe.bits != 1 else lambda a, b: np.allclose(a, b, rtol=1e-5)
        assert close(one.decode("0.weight")[order.numpy()], other.decode("0.weight"))

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_threads_change_nothing(self, recipe):
        statistics = ModelStatistics.of(build(), "small")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "WEIGHTS_FOR_THREADS", 0)
            threaded = compress(statistics, recipe)
            patch.setattr(pipeline, "WEIGHTS_FOR_THREADS", 1 << 60)
            serial = compress(statistics, recipe)
        assert bits_of(threaded) == bits_of(serial)

    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_a_layer_alone_is_the_same_as_in_its_model(self, recipe):
        """But for the one thing that ties layers together: the threshold of global pruning."""
        statistics = ModelStatistics.of(build(), "small")
        compressed = compress(statistics, recipe)
        if recipe.prune is None:
            for name, layer in statistics.layers.items():
                assert np.array_equal(compress_layer(layer, recipe, None).decode(), compressed.decode(name))


class TestStepsTogether:
    @pytest.mark.parametrize("scope", ["global", "layer"])
    @pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.99])
    def test_pruning_alone(self, statistics, sparsity, scope):
        compressed = compress(statistics, Recipe.of(sparsity=sparsity, scope=scope))
        for name, twin in pruned_twin(statistics, sparsity, scope).items():
            assert compressed.decode(name).tobytes() == twin.tobytes()

    @pytest.mark.parametrize("scope", ["global", "layer"])
    @pytest.mark.parametrize("clusters", [None, 4, 64])
    @pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
    def test_exactly_floor_of_s_times_n_zeros(self, statistics, sparsity, clusters, scope):
        """Sharing keeps the zeros and adds none; so does 1 bit, which has no zero of its own."""
        sizes = {name: layer.weight.size for name, layer in statistics.layers.items()}
        for bits in (32, 1):
            compressed = compress(statistics, Recipe.of(sparsity=sparsity, scope=scope, clusters=clusters, bits=bits))
            zeros = {name: int((compressed.decode(name) == 0).sum()) for name in sizes}
            if scope == "layer":
                assert zeros == {name: math.floor(sparsity * size) for name, size in sizes.items()}
            else:
                assert sum(zeros.values()) == math.floor(sparsity * sum(sizes.values()))

    @pytest.mark.slow
    @given(RECIPES.filter(lambda recipe: recipe.prune))
    @examples
    def test_what_is_pruned_stays_zero(self, recipe):
        statistics = ModelStatistics.of(build(), "small")
        compressed = compress(statistics, recipe)
        for name, twin in pruned_twin(statistics, recipe.prune.sparsity, recipe.prune.scope).items():
            assert not compressed.decode(name)[twin == 0].any()

    @pytest.mark.parametrize("granularity", ["channel", "tensor"])
    @pytest.mark.parametrize("bits", [2, 4, 8, 16])
    def test_prune_then_quantize(self, statistics, bits, granularity):
        compressed = compress(statistics, Recipe.of(sparsity=0.5, bits=bits, granularity=granularity))
        top = 2 ** (bits - 1) - 1
        for name, twin in pruned_twin(statistics, 0.5, "global").items():
            weight = statistics.layers[name].weight
            rows = weight.reshape(len(weight) if granularity == "channel" else 1, -1)
            scale = np.abs(rows).max(axis=1) / np.float32(top)
            codes = np.clip(np.rint(twin.reshape(rows.shape) / scale[:, None]), -top, top)
            assert np.array_equal(compressed.weights[name].codes, codes.reshape(weight.shape))
            assert np.array_equal(compressed.weights[name].scale.reshape(-1), scale)

    def test_prune_then_binarize_is_ternary(self, statistics):
        compressed = compress(statistics, Recipe.of(sparsity=0.5, bits=1, calibration="mse"))
        for name, twin in pruned_twin(statistics, 0.5, "global").items():
            assert np.array_equal(compressed.weights[name].codes, np.sign(twin))
            magnitudes = [np.abs(row[row != 0]).astype(np.float64) for row in twin.reshape(len(twin), -1)]
            alphas = [row.mean() if row.size else 0 for row in magnitudes]
            assert np.allclose(compressed.weights[name].scale, alphas, rtol=2e-7)

    @pytest.mark.parametrize("calibration", ["range", "mse"])
    @pytest.mark.parametrize("granularity", ["channel", "tensor"])
    @pytest.mark.parametrize("bits", [2, 3, 5, 8, 16])
    @pytest.mark.parametrize("sparsity", [0.0, 0.7])
    def test_share_then_quantize_rounds_the_entries(self, statistics, sparsity, bits, granularity, calibration):
        recipe = Recipe.of(sparsity=sparsity, clusters=32, bits=bits, granularity=granularity, calibration=calibration)
        compressed = compress(statistics, recipe)
        top = 2 ** (bits - 1) - 1
        for name, twin in pruned_twin(statistics, sparsity, "global").items():
            tensor = compressed.weights[name]
            assert isinstance(tensor.entries, Integers) and tensor.entries.bits == bits
            assert tensor.entries.scale.shape == () and tensor.entries.codes.ndim == 1
            if not twin.any():
                assert len(tensor.entries.codes) == 0 and not tensor.indices.any()
                continue
            codes = tensor.entries.codes.astype(int)
            assert np.abs(codes).max() <= top and (np.diff(codes) > 0).all() and (codes != 0).all()
            scale = np.float32(tensor.entries.scale)
            if calibration == "range":
                assert np.abs(codes).max() == top
            entries = kmeans.fit(statistics.layers[name], np.sum(twin < 0), np.sum(twin > 0), 32)
            rounded = np.clip(np.rint(entries / scale), -top, top) * scale
            nearest = np.abs(twin[..., None] - entries.astype(np.float64)).argmin(axis=-1)
            expected = np.where(twin == 0, np.float32(0), rounded.astype(np.float32)[nearest])
            assert np.array_equal(tensor.decode(), expected)

    def test_share_then_binarize_leaves_two_values_or_one(self, statistics):
        for tensor in compress(statistics, Recipe.of(clusters=16, bits=1)).weights.values():
            assert tensor.entries.codes.tolist() == [-1, 1]
        rows = [[1.0, 2.0], [3.0, 5.0]]  # entries 2, of three weights, and 5
        assert compressed_weight(rows, clusters=2, bits=1).tolist() == [[2.75, 2.75], [2.75, 2.75]]
        assert compressed_weight(rows, clusters=2, bits=1, calibration="mse").tolist() == [[2.75, 2.75], [2.75, 2.75]]

    def test_entries_that_round_to_one_are_one(self):
        rows = [[1.0, 1.1, -7.0, 0.2, 2.0, 0.0]]
        compressed = compress(ModelStatistics.of(linear(*rows), "one"), Recipe.of(clusters=8, bits=4))
        tensor = compressed.weights["weight"]
        assert tensor.entries.codes.tolist() == [-7, 1, 2]
        assert tensor.indices.tolist() == [[2, 2, 1, 0, 3, 0]]

    def test_a_cluster_whose_mean_is_zero_is_zero(self):
        rows = [[-1.0, 1.0, 100.0, 101.0]]
        tensor = compress(ModelStatistics.of(linear(*rows), "one"), Recipe.of(clusters=2)).weights["weight"]
        assert tensor.entries.decode().tolist() == [100.5]
        assert tensor.decode().tolist() == [[0, 0, 100.5, 100.5]]

    def test_merging_narrows_the_indices(self):
        compressed = compress(ModelStatistics.of(build()[5], "one"), Recipe.of(clusters=256, bits=4))
        tensor = compressed.weights["weight"]
        assert len(tensor.entries.codes) <= 14 and tensor.indices.dtype == np.uint8

    def test_256_clusters_need_wider_indices(self):
        compressed = compress(ModelStatistics.of(build()[5], "one"), Recipe.of(clusters=256))
        tensor = compressed.weights["weight"]
        assert len(tensor.entries.values) == 256 and tensor.indices.dtype == np.uint16

    @pytest.mark.parametrize("clusters", [None, 2, 16, 256])
    @pytest.mark.parametrize("bits", BITS)
    def test_a_layer_that_pruning_takes_away_entirely(self, clusters, bits):
        model = nn.Sequential(linear([0.1, -0.2, 0.3], [-0.4, 0.5, 0.6]), linear([1, 2, 3], [-4, 5, -6]))
        recipe = Recipe.of(sparsity=0.5, clusters=clusters, bits=bits)
        compressed = compress(ModelStatistics.of(model, "small"), recipe)
        assert not compressed.decode("0.weight").any() and compressed.decode("1.weight").any()
        if bits <= 8:
            # The second layer's six weights, whole numbers, are smaller as 16-bit floats than codes with two scales.
            for tensor in compressed.weights.values():
                if not isinstance(tensor, Plain):
                    assert np.array_equal(as_integers(tensor).decode(), tensor.decode())
            assert not isinstance(compressed.weights["0.weight"], Plain)


@pytest.mark.parametrize("clusters", [None, 2, 256])
@pytest.mark.parametrize("bits", BITS)
class TestDegenerateLayers:
    def test_all_zeros(self, clusters, bits):
        for sparsity in (0, 0.5):
            weight = compressed_weight([[0.0, 0.0], [0.0, 0.0]], sparsity=sparsity, clusters=clusters, bits=bits)
            assert weight.tolist() == [[0, 0], [0, 0]]

    @pytest.mark.parametrize("value", [0.7, -1e-20, 1e30])
    def test_constants_and_one_weight_lose_nothing(self, clusters, bits, value):
        for rows in ([[value]], [[value] * 3] * 5):
            weight = compressed_weight(rows, clusters=clusters, bits=bits)
            assert np.allclose(weight, np.float32(value), rtol=2e-7, atol=0)

    def test_a_layer_without_a_weight_keeps_its_place(self, clusters, bits):
        with pytest.warns(UserWarning, match="zero-element"):
            model = nn.Sequential(nn.Linear(0, 3), nn.Linear(3, 2))
        compressed = compress(ModelStatistics.of(model, "hollow"), Recipe.of(clusters=clusters, bits=bits))
        assert compressed.state_dict()["0.weight"].shape == (3, 0)
        assert compressed.load_into(model) is model


# One of every kind of tensor and of every method that looks at the values of a layer.
BY_RATE = {"calibration": "rate", "weighting": "magnitude", "rest": "rate"}
METHODS = [
    {},
    {"sparsity": 0.5},
    {"sparsity": 0.5, "scope": "layer"},
    {"threshold": 0.01},
    {"pattern": "1:2"},
    *({"clusters": 16, "start": start} for start in STARTS),
    {"clusters": 2, "sparsity": 0.4},
    {"clusters": 16, "population": 2, "moved": "zero"},
    {"clusters": 16, "rarest": 15, "moved": "nearest"},
    {"clusters": 8, "bits": 3},
    *(
        {"bits": bits, "calibration": calibration, "symmetric": symmetric, "granularity": granularity}
        for bits in (16, 8, 2)
        for calibration in CLIPPINGS
        for symmetric in (True, False)
        for granularity in ("channel", "tensor")
    ),
    *(
        {"bits": 1, "calibration": calibration, "power_of_two": calibration == "mse"}
        for calibration in ("range", "mse")
    ),
    {"bits": 1, "ternary": 0.7},
    {"bits": 4, "keep_ends": True, "rest": "fp16", "coder": "huffman"},
    *(
        {**BY_RATE, "bits": bits, "exchange": exchange, "granularity": granularity, "coder": coder}
        for bits in (16, 8, 2)
        for exchange in (1e-12, 1e-4, 1e3)
        for granularity, coder in (("channel", "context"), ("tensor", "ans"))
    ),
    {**BY_RATE, "bits": 8, "sparsity": 0.5, "coder": "smallest"},
    {**BY_RATE, "bits": 8, "keep_ends": True, "coder": "huffman"},
    {"clusters": 8, "bits": 4, "coder": "context"},
    {"coder": "context", "rest": "fp16"},
]
ODD_LAYERS = {
    "zeros": [[0.0] * 4] * 3,
    "minus zeros": [[-0.0, 0.0], [0.0, -0.0]],
    "constant": [[0.7] * 4] * 3,
    "constant rows": [[0.1] * 4, [-0.2] * 4, [0.0] * 4],
    "one weight": [[-0.3]],
    "two weights": [[0.25, -0.5]],
    "three weights": [[1.0], [2.0], [-3.0]],
    "one column of many rows": [[i / 7 - 1] for i in range(20)],
    "two values": [[0.5, -0.25, 0.5, -0.25]] * 4,
    "fewer values than clusters": [[1.0, 2.0, 3.0, 1.0], [3.0, 2.0, 2.0, 1.0]],
    "one that is not zero": [[0.0, 0.0, 0.0, 1e-3]] * 2,
    "a far outlier": [[1e-6, -1e-6, 2e-6, 1e6]],
    "very small": [[1e-42, -3e-42, 2e-42, 0.0]],
    "very large": [[1.5e38, -1.5e38, 5e37, 1e38]],
    "all positive": [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]],
}


@pytest.mark.slow
@pytest.mark.parametrize("rows", ODD_LAYERS.values(), ids=ODD_LAYERS)
def test_odd_layers_go_through_every_method_and_the_file(rows):
    statistics = ModelStatistics.of(linear(*rows), "one")
    weight = np.float32(rows)
    for method in METHODS:
        compressed = compress(statistics, Recipe.of(**method))
        decoded = compressed.decode("weight")
        assert np.isfinite(decoded).all(), method
        assert decoded.shape == weight.shape
        again = codec.read(codec.write(compressed))
        assert bits_of(again) == bits_of(compressed), method
        if "sparsity" in method and len(method) == 1:
            zeros = max(weight.size // 2, np.count_nonzero(weight == 0))
            assert np.count_nonzero(decoded == 0) == zeros
        # The classic starts end in the nearest local optimum, which need not be the best one.
        if method == {"clusters": 16, "start": "optimal"} and len(np.unique(weight)) <= 16:
            np.testing.assert_allclose(decoded, weight, rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("rows", ODD_LAYERS.values(), ids=ODD_LAYERS)
def test_odd_layers_are_rounded_with_error_compensation_too(rows):
    statistics = ModelStatistics.of(linear(*rows), "one")
    columns = len(rows[0])
    inputs = np.random.default_rng(0).normal(size=(30, columns))
    for hessian in (inputs.T @ inputs / 30, np.zeros((columns, columns)), np.ones((columns, columns))):
        for method in METHODS:
            compressed = compress(statistics, Recipe.of(**method), hessians={"weight": hessian[None]})
            assert np.isfinite(compressed.decode("weight")).all(), method
            assert bits_of(codec.read(codec.write(compressed))) == bits_of(compressed), method


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused_by_layer(value):
    broken = build()
    with torch.no_grad():
        broken[5].weight[2, 3] = value
    with pytest.raises(ModelError, match=r"weights must be finite; 5\.weight has 1 of 896 .* Train or load the model"):
        ModelStatistics.of(broken, "small")


class Tied(nn.Module):
    """A decoder that reads its embedding's weights, and two linear layers that are one."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(40, 16)
        self.inner = nn.Linear(16, 16)
        self.twin = nn.Linear(16, 16)
        self.decoder = nn.Linear(16, 40)
        if tied:
            self.decoder.weight = self.embedding.weight
            self.twin.weight, self.twin.bias = self.inner.weight, self.inner.bias

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.twin(torch.relu(self.inner(self.embedding(tokens).mean(1)))))


class TestTies:
    SETTINGS = (
        {},
        {"bits": 3},
        {"sparsity": 0.5, "clusters": 4, "rest": "fp16", "coder": "huffman"},
        {"bits": 3, "bias": True},
        {"bits": 3, "bias": True, "rest": "fp16"},
        {"bits": 3, "rounding": "gptq", "symmetric": False},
        {"clusters": 4, "rounding": "gptq", "bias": True, "batchnorm": True},
    )

    @staticmethod
    def compressed(settings: dict, tied: bool = True) -> CompressedModel:
        model = Tied(tied).eval()
        statistics = ModelStatistics.of(model, "tied")
        tokens = torch.randint(0, 40, (50, 7), generator=torch.Generator().manual_seed(1))
        return Variant(model, Structure(), statistics, statistics.digest, tokens).compress(Recipe.of(**settings))

    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_a_tensor_is_stored_once_and_comes_back_under_both_names(self, settings):
        compressed = self.compressed(settings)
        data = codec.write(compressed)
        read = codec.read(data)
        assert read.ties == compressed.ties
        assert read.order == compressed.order == tuple(Tied().state_dict())
        assert bits_of(read) == bits_of(compressed)
        assert not read.ties.keys() & {*read.weights, *read.rest}
        state = read.state_dict()
        for name, target in read.ties.items():
            assert torch.equal(state[name], state[target])
        assert codec.write(read) == data
        apart = len(codec.write(self.compressed(settings, tied=False)))
        assert len(data) < 0.75 * apart

    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_a_module_that_is_loaded_stays_tied(self, settings):
        read = codec.read(codec.write(self.compressed(settings)))
        loaded = read.load_into(Tied())
        assert loaded.decoder.weight is loaded.embedding.weight
        assert loaded.twin.bias is loaded.inner.bias
        assert all(torch.equal(value, read.state_dict()[name]) for name, value in loaded.state_dict().items())
        untied = read.load_into(Tied(tied=False))
        tokens = torch.arange(40).reshape(8, 5)
        with torch.no_grad():
            assert torch.equal(loaded(tokens), untied(tokens))

    def test_lossless_is_lossless(self):
        state = codec.read(codec.write(self.compressed({}))).state_dict()
        for name, tensor in Tied().state_dict().items():
            assert torch.equal(state[name], tensor), name

    def test_figures_count_it_once(self):
        pruned = self.compressed({"sparsity": 0.5})
        zeros = sum(np.count_nonzero(tensor.decode() == 0) for tensor in pruned.weights.values())
        assert zeros == (40 * 16 + 16 * 16) // 2
        assert rates(pruned).sparse_rate == 0.5
        steps = ladder(pruned)
        assert steps.dense == ModelStatistics.of(Tied(), "tied").size_bytes
        assert steps.artefact == len(codec.write(pruned))


class TestLossless:
    @pytest.mark.parametrize("coder", ["ans", "huffman"])
    def test_gives_back_every_bit(self, model, statistics, coder):
        compressed = compress(statistics, Recipe.of(coder=coder))
        for name, tensor in model.state_dict().items():
            assert compressed.decode(name).tobytes() == tensor.numpy().tobytes()

    def test_of_odd_values_too(self):
        rows = [[-0.0, 0.0, 1e-45, -1e-45], [3.4028235e38, -3.4028235e38, 1.17549435e-38, 0.1]]
        assert compressed_weight(rows).tobytes() == np.float32(rows).tobytes()

    def test_computes_the_same(self, model, statistics):
        images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        loaded = compress(statistics, Recipe()).load_into(build())
        with torch.no_grad():
            assert torch.equal(loaded(images), model(images))


class TestRest:
    @pytest.mark.parametrize("settings", [{}, {"sparsity": 0.9, "clusters": 4, "bits": 2}], ids=["lossless", "lossy"])
    def test_fp32_keeps_every_bit(self, model, statistics, settings):
        compressed = compress(statistics, Recipe.of(**settings))
        for name in compressed.rest:
            assert compressed.decode(name).tobytes() == model.state_dict()[name].numpy().tobytes()

    def test_fp16_rounds_floats_and_leaves_counters(self, model, statistics):
        compressed = compress(statistics, Recipe.of(rest="fp16"))
        for name, tensor in compressed.rest.items():
            original = model.state_dict()[name].numpy()
            if original.dtype == np.int64:
                assert tensor.values.dtype == np.int64 and tensor.decode() == original == 12345
            else:
                assert tensor.values.dtype == np.float16
                assert np.array_equal(tensor.decode(), original.astype(np.float16).astype(np.float32))
        assert compressed.decode("1.num_batches_tracked").shape == ()

    def test_fp16_does_not_touch_the_weights(self, statistics):
        one, other = (compress(statistics, Recipe.of(bits=8, rest=rest)) for rest in ("fp32", "fp16"))
        for name in one.weights:
            assert one.decode(name).tobytes() == other.decode(name).tobytes()

    @pytest.mark.parametrize("value", [65520.0, -65520.0, 1e6, -3e38])
    @pytest.mark.parametrize("beside", [0.5, math.inf, -math.inf, math.nan])
    def test_what_would_overflow_stays_fp32(self, value, beside):
        """An entry that is infinite anyway, a mask for instance, is no excuse for making its neighbours infinite."""
        changed = build()
        with torch.no_grad():
            changed[0].bias[2], changed[0].bias[3] = value, beside
        rest = compress(ModelStatistics.of(changed, "small"), Recipe.of(rest="fp16")).rest
        assert rest["0.bias"].values.dtype == np.float32
        assert rest["0.bias"].decode().tobytes() == changed[0].bias.detach().numpy().tobytes()
        assert rest["5.bias"].values.dtype == np.float16

    @pytest.mark.parametrize("value", [65504.0, -65519.0, math.inf, -math.inf, math.nan])
    def test_what_fits_is_fp16(self, value):
        changed = build()
        with torch.no_grad():
            changed[0].bias[2] = value
        rest = compress(ModelStatistics.of(changed, "small"), Recipe.of(rest="fp16")).rest
        assert rest["0.bias"].values.dtype == np.float16
        assert np.array_equal(np.isfinite(rest["0.bias"].decode()), np.isfinite(changed[0].bias.detach().numpy()))


class TestLoading:
    @pytest.mark.slow
    @given(RECIPES)
    @examples
    def test_a_loaded_model_holds_the_decoded_tensors(self, recipe):
        compressed = compress(ModelStatistics.of(build(), "small"), recipe)
        target = build().train()
        loaded = compressed.load_into(target)
        assert loaded is target and not loaded.training
        for name, tensor in loaded.state_dict().items():
            assert tensor.numpy().tobytes() == compressed.decode(name).tobytes()
        assert all(parameter.requires_grad for parameter in loaded.parameters())

    def test_its_outputs_are_those_of_the_decoded_weights(self, statistics):
        compressed = compress(statistics, Recipe.of(sparsity=0.5, clusters=8, bits=6))
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        by_hand = build()
        by_hand.load_state_dict(compressed.state_dict())
        with torch.no_grad():
            assert torch.equal(compressed.load_into(build())(images), by_hand(images))

    def test_the_model_may_be_changed_afterwards(self, statistics):
        compressed = compress(statistics, Recipe.of(bits=8))
        before = bits_of(compressed)
        loaded = compressed.load_into(build())
        state = compressed.state_dict()
        with torch.no_grad():
            for tensor in [*loaded.state_dict().values(), *state.values()]:
                tensor.zero_()
        assert bits_of(compressed) == before
        lossless = compress(statistics, Recipe())
        for tensor in lossless.state_dict().values():
            tensor.zero_()
        assert lossless.decode("0.weight").any() and statistics.layers["0.weight"].weight.any()

    @pytest.mark.parametrize(
        ("other", "named"),
        [
            (lambda: nn.Sequential(nn.Linear(3, 3)), "0.weight"),
            (lambda: nn.Sequential(*build()[:6]), "6.weight"),
            (lambda: nn.Sequential(*build(), nn.Linear(3, 3)), "7.weight"),
            (lambda: nn.Sequential(*build()[:6], nn.Linear(7, 4)), "6.weight"),
            (lambda: nn.Sequential(*build()[:6], nn.Linear(7, 3, bias=False)), "6.bias"),
        ],
        ids=["other", "shorter", "longer", "other width", "no bias"],
    )
    def test_another_architecture_is_refused_and_left_as_it_was(self, statistics, other, named):
        compressed = compress(statistics, Recipe.of(bits=8))
        target = other()
        before = {name: tensor.numpy().tobytes() for name, tensor in target.state_dict().items()}
        with pytest.raises(ModelError) as caught:
            compressed.load_into(target)
        message = str(caught.value)
        assert message.startswith("a compressed small needs a model of the same state dict; ")
        assert named in message and message.endswith("Build the architecture that it names.")
        assert {name: tensor.numpy().tobytes() for name, tensor in target.state_dict().items()} == before

    def test_an_unknown_tensor_has_no_floats(self, statistics):
        with pytest.raises(KeyError):
            compress(statistics, Recipe()).decode("7.weight")


class TestOverridesWithoutEffect:
    """Which overrides are refused, and which are told of."""

    NAMES = ("conv1.weight", "fc1.weight", "fc2.weight")

    @pytest.mark.parametrize(
        ("layers", "said"),
        [
            ("fc3", "Did you mean fc2 or fc1?"),
            ("cnv1", "Did you mean conv1"),
            ("layer*", "The layers are conv1, fc1, fc2."),
            ("fc1.bias", "got 'fc1.bias', which matches none"),
            ("FC1", "which matches none"),
        ],
    )
    def test_what_matches_no_layer_is_refused_with_the_nearest(self, layers, said):
        recipe = Recipe.of(overrides=[{"layers": "fc*", "bits": 8}, {"layers": layers, "bits": 4}])
        with pytest.raises(RecipeError, match="an override must match a layer") as caught:
            pipeline.check_overrides(recipe, self.NAMES)
        assert said in str(caught.value) and len(str(caught.value)) < 500
        assert [each.layers for each in pipeline.unmatched(recipe, self.NAMES)] == [layers]

    @pytest.mark.parametrize("layers", ["fc1", "fc1.weight", "*2", "conv?", "fc1.0", "fc1.1.weight"])
    def test_layers_and_the_parts_that_low_rank_makes_of_them_match(self, layers):
        pipeline.check_overrides(Recipe.of(overrides=[{"layers": layers, "bits": 4}]), self.NAMES)

    def test_many_layers_make_a_short_message(self):
        names = tuple(f"a.long.name.of.a.layer.{i}.weight" for i in range(999))
        with pytest.raises(RecipeError) as caught:
            pipeline.check_overrides(Recipe.of(overrides=[{"layers": "x" * 200, "bits": 4}]), names)
        assert len(str(caught.value)) < 500 and "994 more" in str(caught.value)

    def test_what_is_gone_or_replaced_is_told(self):
        shapes = dict.fromkeys(self.NAMES, (4, 4))

        def notes(*overrides):
            return pipeline.notes_of(shapes, Recipe.of(overrides=overrides))

        assert notes({"layers": "fc*", "bits": 8}, {"layers": "fc1", "bits": 4}) == ()
        assert notes({"layers": "fc1", "bits": 8}, {"layers": "fc*", "bits": 4}) == (
            "Later overrides replace all that is set for 'fc1'.",
        )
        # A rule of pruning replaces every other one.
        assert len(notes({"layers": "fc1", "sparsity": 0.5}, {"layers": "fc1", "threshold": 0.1})) == 1
        assert notes({"layers": "fc1", "sparsity": 0.5, "bits": 8}, {"layers": "fc1", "threshold": 0.1}) == ()
        assert notes({"layers": "fc1.0", "bits": 8}) == (
            "No layer is called 'fc1.0' here: what is set for it has no effect.",
        )
