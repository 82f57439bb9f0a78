import numpy as np
import pytest
import torch
from compressed_models import compress_module, logits_of, noise, small, small_program, subject
from paretoscope.base.errors import CompressionError, ModelError, RuntimeUnavailableError, UnknownNameError
from paretoscope.graph.trace import inputs_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runnable, onnx_runtime, predict, runtimes
from torch import nn


def test_the_registry_describes_the_runtimes():
    assert {"onnxruntime", "openvino", "torch", "torch-compiled"} <= set(runtimes.names())
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


def test_a_program_runs_in_its_own_runtime_only():
    with pytest.raises(ModelError, match="the runtime that built it, torch"):
        runtimes.get("onnxruntime").prepare(small_program("torch"))


def test_a_file_that_is_no_graph_is_refused():
    program = Program("onnxruntime", "fp32", "", inputs_of((1, 4, 4)), b"not a graph")
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
