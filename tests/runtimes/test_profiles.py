from collections import defaultdict

import numpy as np
import pytest
import torch
from compressed_models import NAMES, compress_module, data_of, model_of, noise, shape_of, subject
from paretoscope.model import weights
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Runnable, Runtime, onnx_profile, predict, pytorch, runtimes
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME
from paretoscope.runtimes.profiles import OTHER, TRIM, by_weight, node_owners, typical
from scipy.stats import trim_mean
from torch import nn

RECIPES = {"fp32": Recipe(), "int8": Recipe.of(bits=8, activations=8)}
PROFILED = [
    pytest.param(runtime, number_format, marks=pytest.mark.skipif(bool(runtime.missing), reason=runtime.missing))
    for runtime in (runtimes.get(name) for name in ("onnxruntime", "openvino", "torch"))
    for number_format in runtime.number_formats
]


@pytest.mark.parametrize("runtime, number_format", PROFILED)
@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_the_zoo_is_named_and_nothing_else(name, runtime: Runtime, number_format):
    program = runtime.build(subject(name, RECIPES[number_format]), number_format)
    times = runtime.profile(program, data_of(name).test_images[:2].numpy(), 1, 4)
    assert set(times) == {*weights.names(model_of(name)), OTHER}
    assert min(times.values()) >= 0
    layers = sum(times.values()) - times[OTHER]
    assert layers > 0
    if runtime is not runtimes.get("openvino"):  # whose clock shows only whole microseconds
        assert min(times[weight] for weight in times if weight != OTHER) > 0


@pytest.mark.parametrize("number_format", RECIPES)
def test_onnx_runtimes_times_add_up_to_those_of_its_nodes(monkeypatch, number_format):
    program = ONNX_RUNTIME.build(subject("resnet-20", RECIPES[number_format]))
    noted = []
    real = onnx_profile.events

    def events(*arguments):
        noted.extend(real(*arguments))
        return noted

    monkeypatch.setattr(onnx_profile, "events", events)
    times = ONNX_RUNTIME.profile(program, data_of("resnet-20").test_images[:1].numpy(), 1, 15)
    nodes = defaultdict(list)
    for event in noted:
        if event["cat"] == "Node":
            nodes[event["name"]].append(event["dur"])
    # Names may stand for several nodes, once each a run.
    total = sum(typical(each) * len(each) / 20 for each in nodes.values())
    assert sum(times.values()) == pytest.approx(total)
    assert times[OTHER] < total / 2


def test_pytorchs_times_add_up_to_those_of_its_operators(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(pytorch.time, "perf_counter", lambda: next(ticks) * 1e-6)  # every operator takes 1 us
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3), nn.Linear(3, 2)).eval()
    entry = runtimes.get("torch")
    times = entry.profile(entry.build(Runnable(module, (1, 4, 4))), noise(1, 1, 4, 4), 1, 4)
    assert times["0.weight"] == pytest.approx(1)
    # A linear layer is a view of its weight and a product with it.
    assert times["3.weight"] == pytest.approx(times["4.weight"])
    assert times["3.weight"] >= 0.999
    assert sum(times.values()) == pytest.approx(round(sum(times.values())))


def test_an_operator_with_several_weights_is_split_by_their_sizes():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = images.flatten(2)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)

    entry = runtimes.get("torch")
    times = entry.profile(entry.build(Runnable(Attention().eval(), (5, 2, 4))), noise(3, 5, 2, 4), 1, 4)
    assert times["attention.in_proj_weight"] == pytest.approx(3 * times["attention.out_proj.weight"])
    assert times["attention.out_proj.weight"] > 0


def test_profiling_changes_no_answer():
    entry = runtimes.get("torch")
    program = entry.build(Runnable(model_of("lenet-5"), shape_of("lenet-5")))
    images = data_of("lenet-5").test_images[:20].numpy()
    before = predict(entry.prepare(program), images)
    entry.profile(program, images, 1, 2)
    np.testing.assert_array_equal(predict(entry.prepare(program), images), before)


def test_threads_and_the_batch_reach_the_session(monkeypatch):
    seen = []
    program = ONNX_RUNTIME.build(Runnable(model_of("lenet-5"), shape_of("lenet-5")))

    def profile(data, samples, options, runs):
        seen.append((len(samples[0]), options.intra_op_num_threads, runs))
        return {}

    monkeypatch.setattr("paretoscope.runtimes.onnx_runtime.onnx_profile", profile)
    ONNX_RUNTIME.profile(program, data_of("lenet-5").test_images[:7].numpy(), 2, 9)
    assert seen == [(7, 2, 9)]


def test_nodes_belong_to_the_weights_that_they_multiply_with_or_follow():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    owners = node_owners(ONNX_RUNTIME.build(Runnable(module, (1, 4, 4))).content)
    assert (owners["0"], owners["1"], owners["4"]) == ("0.weight", "0.weight", "4.weight")
    assert set(owners.values()) == {"0.weight", "4.weight"}
    assert next(owner for name, owner in owners.items() if name.startswith("Relu")) == "0.weight"


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(images.flatten(1)).relu())


@pytest.mark.parametrize("number_format", RECIPES)
def test_a_weight_that_layers_share_has_the_time_of_all(number_format):
    module, images = Shared().eval(), noise(4, 1, 4, 4)
    compressed = compress_module(module, RECIPES[number_format])
    given = Runnable(module, (1, 4, 4), number_format == "int8", compressed.weights, images)
    program = ONNX_RUNTIME.build(given)
    assert program.number_format == number_format
    assert set(node_owners(program.content).values()) == {"layer.weight"}


def test_times_are_summed_by_owner_and_the_rest_comes_last():
    times = by_weight({"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}, {"a": "w", "b": "w", "x": "v"})
    assert times == {"w": 3.0, "v": 0.0, OTHER: 12.0}
    assert list(times)[-1] == OTHER


def test_the_typical_duration_is_unmoved_by_interruptions():
    assert typical([1, 2, 2, 3, 2, 2, 900, 2]) == 2
    assert typical([1, 2, 1, 2]) == 1.5


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 30, 101])
def test_the_typical_duration_is_scipys_trimmed_mean(n):
    durations = np.random.default_rng(n).exponential(3, n).tolist()
    assert typical(durations) == trim_mean(durations, TRIM)
