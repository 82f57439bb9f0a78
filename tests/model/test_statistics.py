import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.base.errors import ModelError
from paretoscope.model import weights
from paretoscope.model.statistics import BLOCK, LayerStatistics, ModelStatistics
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

examples = settings(derandomize=True, deadline=None, database=None, max_examples=60)

WEIGHTS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6),
    elements=st.sampled_from([0.0, -0.0, 1.0, -1.0]) | st.floats(-1e6, 1e6, width=32),
)


class Small(nn.Module):
    """One of each kind that matters, small enough to know by heart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(4, 6)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(6, 2)
        self.fc = nn.Linear(6, 2)


@pytest.fixture
def model() -> Small:
    return Small()


@pytest.fixture
def statistics(model) -> ModelStatistics:
    return ModelStatistics.of(model, "small")


class TestLayer:
    @given(WEIGHTS)
    @examples
    def test_twin(self, weight):
        layer = LayerStatistics.of("w", weight)
        flat = weight.reshape(-1).tolist()
        assert layer.ordered.dtype == np.float32 and layer.ordered.tolist() == sorted(flat)
        assert layer.magnitudes.tolist() == sorted(abs(value) for value in flat)
        assert layer.channel_max.dtype == np.float32
        assert layer.channel_max.tolist() == [max(abs(v) for v in row.reshape(-1).tolist()) for row in weight]
        assert math.isclose(layer.centre, math.fsum(flat) / len(flat), rel_tol=1e-12, abs_tol=1e-9)

    @pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000])
    @pytest.mark.parametrize("offset", [0, 1000])
    def test_block_sums_are_prefix_sums_at_every_block(self, count, offset):
        weight = (offset + np.random.default_rng(count).normal(size=count)).astype(np.float32)
        layer = LayerStatistics.of("w", weight)
        centred = [float(value) - layer.centre for value in layer.ordered]
        assert layer.block_sums.dtype == np.float64
        for block in range(count // BLOCK + 1):
            before = centred[: block * BLOCK]
            assert layer.block_sums[0, block] == pytest.approx(math.fsum(before), rel=1e-12, abs=1e-11)
            assert layer.block_sums[1, block] == pytest.approx(math.fsum(v * v for v in before), rel=1e-12, abs=1e-11)
        assert layer.block_sums.shape == (2, count // BLOCK + 2)

    @given(WEIGHTS, st.randoms(use_true_random=False))
    @examples
    def test_order_of_the_weights_changes_nothing_but_the_channels(self, weight, random):
        flat = weight.reshape(-1).tolist()
        random.shuffle(flat)
        one = LayerStatistics.of("w", weight)
        other = LayerStatistics.of("w", np.array(flat, np.float32).reshape(weight.shape))
        assert one.ordered.tolist() == other.ordered.tolist()
        assert one.centre == other.centre
        assert np.array_equal(one.block_sums, other.block_sums)

    @given(WEIGHTS, st.integers(-20, 20))
    @examples
    def test_scaling_by_a_power_of_two_scales_all(self, weight, exponent):
        factor = np.float32(2.0**exponent)
        weight = np.where(np.abs(weight) < 1e-6, 0, weight).astype(np.float32)  # no underflow
        one, other = LayerStatistics.of("w", weight), LayerStatistics.of("w", weight * factor)
        assert np.array_equal(one.ordered * factor, other.ordered)
        assert np.array_equal(one.channel_max * factor, other.channel_max)
        assert one.centre * float(factor) == other.centre
        assert np.array_equal(one.block_sums * [[float(factor)], [float(factor) ** 2]], other.block_sums)

    def test_input_is_not_touched(self):
        weight = np.array([[3, -1], [2, 0]], np.float32)
        LayerStatistics.of("w", weight)
        assert weight.tolist() == [[3, -1], [2, 0]]

    @pytest.mark.parametrize(
        ("bad", "count"), [([math.nan], 1), ([math.inf], 1), ([-math.inf], 1), ([math.nan, math.inf, -math.inf], 3)]
    )
    def test_values_that_are_not_finite_are_refused_by_name(self, bad, count):
        weight = np.ones((2, 4), np.float32)
        weight.reshape(-1)[: len(bad)] = bad
        with pytest.raises(ModelError) as caught:
            LayerStatistics.of("features.3.weight", weight)
        message = str(caught.value)
        assert message.startswith("weights must be finite; features.3.weight has ")
        assert f"{count} of 8" in message and message.endswith("Train or load the model again.")

    def test_the_largest_floats_are_finite(self):
        largest = np.finfo(np.float32).max
        layer = LayerStatistics.of("w", np.array([[largest, -largest], [largest, 1e-45]], np.float32))
        assert np.isfinite(layer.block_sums).all() and math.isfinite(layer.centre)


class TestCompressible:
    def test_convolutions_linear_layers_and_attention(self, model, statistics):
        names = {"conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "fc.weight"}
        assert weights.names(model) == names
        assert set(statistics.layers) == names

    def test_attention_of_different_widths_has_three_projections(self):
        attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        assert weights.names(attention) == {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.Conv1d(2, 3, 5), (3, 2, 5)),
            (nn.Conv2d(2, 4, 3, groups=2), (4, 1, 3, 3)),
            (nn.Conv3d(1, 2, 2), (2, 1, 2, 2, 2)),
            (nn.Linear(3, 2), (2, 3)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_kinds(self, layer, shape):
        statistics = ModelStatistics.of(layer, "one")
        assert list(statistics.layers) == ["weight"]
        assert statistics.layers["weight"].weight.shape == shape
        assert list(statistics.rest) == ["bias"]

    @pytest.mark.parametrize("layer", [nn.Embedding(3, 2), nn.BatchNorm1d(3), nn.LayerNorm(4), nn.ReLU()])
    def test_a_model_without_any_is_refused(self, layer):
        with pytest.raises(ModelError, match=r"^a model needs .*; nothing-net has none\. Pass another model\.$"):
            ModelStatistics.of(nn.Sequential(layer), "nothing-net")

    def test_a_model_whose_weights_are_parametrized_away_is_refused_too(self):
        with pytest.raises(ModelError, match="nothing-net has none"):
            ModelStatistics.of(weight_norm(nn.Linear(3, 2)), "nothing-net")

    def test_layers_without_a_weight(self):
        """A layer of no inputs has nothing to compress, but the model keeps its place for it."""
        with pytest.warns(UserWarning, match="zero-element"):
            empty = nn.Linear(0, 3)
        statistics = ModelStatistics.of(nn.Sequential(empty, nn.Linear(3, 2)), "hollow")
        assert list(statistics.layers) == ["1.weight"]
        assert statistics.rest["0.weight"].shape == (3, 0)
        with pytest.raises(ModelError, match="hollow has none"):
            ModelStatistics.of(empty, "hollow")


class TestModel:
    def test_state_is_split_without_loss(self, model, statistics):
        state = model.state_dict()
        assert statistics.order == tuple(state)
        assert set(statistics.layers) | set(statistics.rest) == set(state)
        assert not set(statistics.layers) & set(statistics.rest)
        assert list(statistics.layers) == [name for name in state if name in statistics.layers]
        for name, tensor in state.items():
            array = statistics.layers[name].weight if name in statistics.layers else statistics.rest[name]
            assert array.shape == tuple(tensor.shape)
            assert np.array_equal(array, tensor.numpy())
        assert statistics.rest["norm.num_batches_tracked"].dtype == np.int64

    def test_magnitudes_of_all_layers_are_ordered_together(self, statistics):
        flat = [abs(v) for layer in statistics.layers.values() for v in layer.weight.reshape(-1).tolist()]
        assert statistics.magnitudes.tolist() == sorted(flat)

    def test_the_sorted_weights_survive_the_global_order(self, statistics):
        for layer in statistics.layers.values():
            assert layer.ordered.tolist() == sorted(layer.weight.reshape(-1).tolist())

    def test_size_is_the_bytes_of_the_state(self, model, statistics):
        assert statistics.size_bytes == sum(t.numel() * t.element_size() for t in model.state_dict().values())

    def test_model_is_not_touched(self, model):
        before = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
        model.train()
        statistics = ModelStatistics.of(model, "small")
        _ = statistics.digest
        assert {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()} == before
        assert model.training and model.fc.weight.requires_grad

    def test_statistics_stay_those_of_the_moment_they_were_taken(self, model, statistics):
        """Training goes on, or decoded weights are loaded into the model: the digest must still be that of the sums."""
        untouched = ModelStatistics.of(Small(), "small")
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.zero_()
        assert np.array_equal(statistics.layers["fc.weight"].weight, untouched.layers["fc.weight"].weight)
        assert np.array_equal(statistics.rest["fc.bias"], untouched.rest["fc.bias"])
        assert statistics.digest == untouched.digest

    @pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
    def test_other_number_formats_are_refused_by_name(self, model, kind):
        model.fc.to(kind)
        with pytest.raises(ModelError) as caught:
            ModelStatistics.of(model, "small")
        message = str(caught.value)
        assert message.startswith(f"weights must be float32; fc.weight is {kind}.") and ".float()" in message

    def test_the_rest_may_be_of_any_type_and_any_values(self, model):
        model.norm.double()
        rest = {
            "mask": torch.full((3, 3), -math.inf).triu(1),
            "index": torch.arange(6, dtype=torch.int32).view(2, 3),
            "flags": torch.tensor([True, False]),
            "one": torch.tensor(2.5, dtype=torch.float16),
            "none": torch.empty(0, 4),
            "fill": torch.tensor([torch.finfo(torch.float32).min, math.nan]),
        }
        for name, tensor in rest.items():
            model.register_buffer(name, tensor)
        statistics = ModelStatistics.of(model, "small")
        assert statistics.rest["norm.weight"].dtype == np.float64
        for name, tensor in rest.items():
            kept = statistics.rest[name]
            assert kept.shape == tuple(tensor.shape) and kept.tobytes() == tensor.numpy().tobytes(), name

    def test_types_that_nothing_holds_are_refused(self, model):
        model.norm.to(torch.bfloat16)
        with pytest.raises(ModelError, match=r"^tensors must be of a type of NumPy's; norm\.weight is torch\.bfloat16"):
            ModelStatistics.of(model, "small")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_bad_weight_is_refused_by_the_layer_it_is_in(self, model, value):
        with torch.no_grad():
            model.attention.out_proj.weight[1, 2] = value
        with pytest.raises(ModelError, match=r"; attention\.out_proj\.weight has 1 of 36 that are NaN or infinite"):
            ModelStatistics.of(model, "small")


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0, 0.3])
def test_magnitudes_are_those_of_a_sort(shift):
    values = np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32) + np.float32(shift)
    values[0, :4] = 0.0, -0.0, 1.5, -1.5
    layer = LayerStatistics.of("w", values)
    wanted = np.sort(np.abs(values), axis=None)
    assert layer.magnitudes.tobytes() == wanted.tobytes()
    other = -2 * values[:3]
    whole = ModelStatistics.of_arrays({"a": values, "b": other}, {}, ("a", "b"))
    expected = np.sort(np.abs(np.concatenate([values, other])), axis=None)
    assert whole.magnitudes.tobytes() == expected.tobytes()


class TestDigest:
    def test_same_weights_same_digest(self, statistics):
        assert ModelStatistics.of(Small(), "small").digest == statistics.digest
        assert len(statistics.digest) == 64 and int(statistics.digest, 16)

    def test_memory_layout_does_not_matter(self, statistics):
        other = Small().to(memory_format=torch.channels_last)
        assert not other.conv.weight.is_contiguous()
        assert ModelStatistics.of(other, "small").digest == statistics.digest

    def test_is_pinned(self):
        """Stored records are found by it."""
        layer = nn.Linear(2, 1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.5, -1.0]]))
            layer.bias.zero_()
        assert (
            ModelStatistics.of(layer, "one").digest
            == "9f61ad5480a9bfbb7b296dcc1c39b3f6e172cc6706afc584b81e02c85443f509"
        )

    @pytest.mark.parametrize("name", ["conv.weight", "fc.bias", "norm.running_mean", "embedding.weight"])
    def test_one_bit_of_any_entry_changes_it(self, statistics, name):
        other = Small()
        other.state_dict()[name].view(torch.int32).view(-1)[0] ^= 1
        assert ModelStatistics.of(other, "small").digest != statistics.digest

    def test_a_counter_changes_it(self, statistics):
        other = Small()
        other.norm.num_batches_tracked += 1
        assert ModelStatistics.of(other, "small").digest != statistics.digest

    def test_the_architecture_changes_it(self, model, statistics):
        assert ModelStatistics.of(model, "other").digest != statistics.digest

    def test_names_and_shapes_change_it(self):
        with torch.no_grad():
            layers = [nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)]
            for layer in layers:
                layer.weight.zero_()
        flat, tall = (ModelStatistics.of(layer, "one").digest for layer in layers)
        inner = ModelStatistics.of(nn.Sequential(layers[0]), "one").digest
        assert len({flat, tall, inner}) == 3


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


class TestTies:
    def test_a_tensor_of_two_names_is_counted_once(self):
        statistics = ModelStatistics.of(Tied(), "tied")
        assert statistics.ties == {
            "twin.weight": "inner.weight",
            "twin.bias": "inner.bias",
            "decoder.weight": "embedding.weight",
        }
        # The embedding is compressed because a linear layer computes with it.
        assert list(statistics.layers) == ["embedding.weight", "inner.weight"]
        assert list(statistics.rest) == ["inner.bias", "decoder.bias"]
        assert statistics.order == tuple(Tied().state_dict())
        assert len(statistics.magnitudes) == 40 * 16 + 16 * 16
        assert statistics.size_bytes == 4 * sum(parameter.numel() for parameter in Tied().parameters())

    def test_tensors_that_are_only_equal_are_two(self):
        apart = Tied(tied=False)
        apart.twin.load_state_dict(apart.inner.state_dict())
        statistics = ModelStatistics.of(apart, "apart")
        assert not statistics.ties
        assert list(statistics.layers) == ["inner.weight", "twin.weight", "decoder.weight"]
        assert statistics.size_bytes == 4 * sum(parameter.numel() for parameter in apart.parameters())

    def test_a_whole_module_may_have_two_names(self):
        layer = nn.Linear(3, 3)
        statistics = ModelStatistics.of(nn.Sequential(layer, nn.ReLU(), layer, layer), "thrice")
        assert statistics.ties == {f"{i}.{leaf}": f"0.{leaf}" for i in (2, 3) for leaf in ("weight", "bias")}
        assert statistics.size_bytes == 4 * 12

    def test_buffers_may_be_tied_too(self):
        norm = nn.BatchNorm1d(3)
        statistics = ModelStatistics.of(nn.Sequential(nn.Linear(3, 3), norm, norm), "norms")
        assert statistics.ties == {f"2.{leaf}": f"1.{leaf}" for leaf in norm.state_dict()}

    def test_the_digest_tells_tied_from_equal(self):
        tied, equal = Tied(), Tied(tied=False)
        equal.load_state_dict(tied.state_dict())
        assert ModelStatistics.of(tied, "a").digest == ModelStatistics.of(Tied(), "a").digest
        assert ModelStatistics.of(tied, "a").digest != ModelStatistics.of(equal, "a").digest

    def test_weights_that_are_no_numbers_are_refused_under_the_first_name(self):
        tied = Tied()
        with torch.no_grad():
            tied.decoder.weight[0, 0] = torch.nan
        with pytest.raises(ModelError, match=r"weights must be finite; embedding\.weight has 1 of 640"):
            ModelStatistics.of(tied, "tied")
