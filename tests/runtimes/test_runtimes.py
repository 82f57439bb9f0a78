import copy

import numpy as np
import pytest
import torch
from compressed_models import NAMES, compress_module, data_of, logits_of, model_of, noise, shape_of, subject
from paretoscope.base.errors import CompressionError, ModelError, RuntimeUnavailableError, UnknownNameError
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runnable, onnx_runtime, predict, runtimes
from torch import nn

# Those that are installed, less the one that compiles for 10 s before it can do anything: it has tests of its own.
RUNTIMES = tuple(entry.name for entry in runtimes if not entry.missing and entry.name != "torch-compiled")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def small_program(runtime: str) -> Program:
    return runtimes.get(runtime).build(Runnable(small(), (1, 4, 4)))


def test_the_registry_describes_the_runtimes():
    assert {"onnxruntime", "openvino", "torch", "torch-compiled"} <= set(runtimes.names())
    for entry in runtimes:
        assert entry.title and entry.summary and entry.reference
        assert bool(entry.version) or bool(entry.missing)
    with pytest.raises(CompressionError, match="registered already"):
        runtimes.add(runtimes.get("torch"))
    with pytest.raises(UnknownNameError, match="onnxruntime"):
        runtimes.get("tensorrt")


def test_integer_activations_run_as_int8_where_a_runtime_has_it():
    formats = {entry.name: [entry.number_format(integer) for integer in (False, True)] for entry in runtimes}
    assert formats["onnxruntime"] == formats["openvino"] == ["fp32", "int8"]
    assert all(each == ["fp32", "fp32"] for name, each in formats.items() if name not in ("onnxruntime", "openvino"))


def test_weights_of_eight_bits_with_float_activations_run_as_fp32():
    recipe = Recipe.of(bits=8, activations=32)
    assert runtimes.get("onnxruntime").build(subject("lenet-5", recipe)).number_format == "fp32"


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", NAMES)
def test_every_runtime_predicts_what_pytorch_predicts(name, runtime, bits):
    entry, given = runtimes.get(runtime), subject(name, Recipe.of(bits=bits, activations=bits))
    program = entry.build(given)
    assert (program.runtime, program.number_format) == (runtime, entry.number_format(bits == 8))
    images = data_of(name).test_images[:200].numpy()
    expected = logits_of(given.module, images)
    predicted = predict(entry.prepare(program), images)
    assert predicted.dtype == np.int64
    wrong = np.flatnonzero(predicted != expected.argmax(1))
    assert len(wrong) <= (2 if program.number_format == "int8" else 0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_depends_on_the_architecture_and_the_number_format_only(runtime):
    entry = runtimes.get(runtime)
    baseline = entry.build(Runnable(model_of("lenet-5"), shape_of("lenet-5")))
    pruned = entry.build(subject("lenet-5", Recipe.of(sparsity=0.5)))
    assert small_program(runtime).graph != baseline.graph
    if entry.sees_zeros:
        assert pruned.graph != baseline.graph
        return
    eight = entry.build(subject("lenet-5", Recipe.of(bits=8, activations=8)))
    four = entry.build(subject("lenet-5", Recipe.of(bits=4, clusters=8, granularity="tensor", activations=8)))
    assert pruned.graph == baseline.graph
    assert eight.graph == four.graph
    assert (eight.graph == baseline.graph) == ("int8" not in entry.number_formats)


def test_the_structure_of_a_module_counts_its_types_settings_and_shapes():
    def graph(module: nn.Module) -> str:
        return runtimes.get("torch").build(Runnable(module.eval(), (1, 4, 4))).graph

    class Sequential(nn.Sequential):
        pass

    layers = nn.Flatten(), nn.Linear(16, 4)
    graphs = {graph(nn.Sequential(*layers)), graph(Sequential(*layers)), graph(nn.Sequential(*layers, nn.ReLU()))}
    graphs |= {graph(nn.Sequential(layers[0], nn.Linear(16, 5))), graph(nn.Sequential(*layers).double())}
    assert len(graphs) == 5
    assert graph(nn.Sequential(nn.Flatten(), nn.Linear(16, 4))) in graphs


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_program_does_not_follow_the_module_that_it_was_built_from(runtime):
    module = small()
    entry = runtimes.get(runtime)
    program = entry.build(Runnable(module, (1, 4, 4)))
    images = noise(3, 1, 4, 4)
    expected = logits_of(copy.deepcopy(module), images)
    with torch.no_grad():
        module[0].weight.zero_()
    np.testing.assert_allclose(entry.prepare(program).run(images), expected, atol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bound_call_runs_and_a_session_describes_itself(runtime):
    entry = runtimes.get(runtime)
    session = entry.prepare(small_program(runtime), threads=2)
    call = session.bind(noise(2, 1, 4, 4))
    call()
    call()
    description = session.describe()
    assert description["threads"] == 2
    assert (description["number format"], description["version"]) == ("fp32", entry.version)
    session.close()


@pytest.mark.parametrize("chunk", [1, 3, 7, 256])
def test_predictions_do_not_depend_on_the_chunk(chunk):
    images = noise(7, 1, 4, 4)
    session = runtimes.get("torch").prepare(small_program("torch"))
    assert predict(session, images, chunk).tolist() == logits_of(small(), images).argmax(1).tolist()


def test_pytorch_runs_on_the_threads_of_its_session_and_puts_them_back():
    seen = []

    class Watch(nn.Module):
        def forward(self, images):
            seen.append(torch.get_num_threads())
            return images.flatten(1)

    before = torch.get_num_threads()
    entry = runtimes.get("torch")
    program = entry.build(Runnable(Watch().eval(), (1, 4, 4)))
    for threads in (1, 2):
        session = entry.prepare(program, threads)
        session.run(noise(1, 1, 4, 4))
        session.bind(noise(1, 1, 4, 4))()
    assert seen == [1, 1, 2, 2]
    assert torch.get_num_threads() == before


WRONG_IMAGES = {
    "another shape": noise(2, 1, 5, 4),
    "no batch axis": noise(1, 4, 4),
    "no image": noise(0, 1, 4, 4),
    "float64": noise(2, 1, 4, 4).astype(np.float64),
}


@pytest.mark.parametrize("images", WRONG_IMAGES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_of_another_kind_are_refused(runtime, images):
    session = runtimes.get(runtime).prepare(small_program(runtime))
    for use in (session.run, session.bind):
        with pytest.raises(ModelError, match="images must be float32"):
            use(WRONG_IMAGES[images])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_in_any_memory_order_are_taken(runtime):
    session = runtimes.get(runtime).prepare(small_program(runtime))
    images = noise(4, 4, 1, 5).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(session.run(images), logits_of(small(), images.copy()), atol=1e-5)


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2"])
def test_threads_must_be_a_positive_whole_number(threads):
    with pytest.raises(ModelError, match="threads"):
        runtimes.get("onnxruntime").prepare(small_program("onnxruntime"), threads)


def test_a_program_runs_in_its_own_runtime_only():
    with pytest.raises(ModelError, match="the runtime that built it, torch"):
        runtimes.get("onnxruntime").prepare(small_program("torch"))


def test_a_file_that_is_no_graph_is_refused():
    program = Program("onnxruntime", "fp32", "", (1, 4, 4), b"not a graph")
    with pytest.raises(RuntimeUnavailableError, match="able to load"):
        runtimes.get("onnxruntime").prepare(program)


def test_an_integer_program_needs_weights_and_calibration_images():
    with pytest.raises(ModelError, match="calibration images"):
        runtimes.get("onnxruntime").build(Runnable(small(), (1, 4, 4), integer=True))


@pytest.mark.parametrize("overflows", [False, True])
def test_integer_sums_are_exact_where_fast_kernels_overflow(monkeypatch, overflows):
    # 127 * 255 twice is more than 16 bits hold. The real probe decides which kernels a session gets on this machine.
    real = onnx_runtime._overflows()
    monkeypatch.setattr(onnx_runtime, "_overflows", lambda: overflows or real)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16, bias=False)).eval()
    with torch.no_grad():
        module[1].weight.fill_(1)
    compressed = compress_module(module, Recipe.of(bits=8))
    images = np.ones((1, 1, 8, 8), np.float32)
    entry = runtimes.get("onnxruntime")
    session = entry.prepare(entry.build(Runnable(module, (1, 8, 8), True, compressed.weights, images)))
    np.testing.assert_allclose(session.run(images), 64, rtol=1e-5)
