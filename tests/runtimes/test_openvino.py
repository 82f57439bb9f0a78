import subprocess
import sys
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from compressed_models import data_of, logits_of, model_of, shape_of, subject
from paretoscope.base.errors import RuntimeUnavailableError
from paretoscope.graph.trace import inputs_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runnable, predict
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME
from paretoscope.runtimes.openvino import OPENVINO, REQUIREMENT

installed = pytest.mark.skipif(bool(OPENVINO.missing), reason=f"install {OPENVINO.missing}")
MODELS = ("lenet-300-100", "simple-cnn")
RECIPE = Recipe.of(bits=8, activations=8)


@pytest.mark.slow
@installed
@pytest.mark.parametrize("name", MODELS)
def test_fp32_predictions_over_the_test_split_are_pytorchs(name):
    model, images = model_of(name), data_of(name).test_images.numpy()
    session = OPENVINO.prepare(OPENVINO.build(Runnable(model, shape_of(name))))
    expected = logits_of(model, images)
    np.testing.assert_array_equal(predict(session, images), expected.argmax(1))
    np.testing.assert_allclose(session.run(images[:3]), expected[:3], atol=1e-4)


@installed
@pytest.mark.parametrize("name", MODELS)
def test_int8_predictions_are_those_of_the_same_file_elsewhere(name):
    images = data_of(name).test_images.numpy()
    program = OPENVINO.build(subject(name, RECIPE))
    assert program.number_format == "int8"
    twin = ONNX_RUNTIME.build(subject(name, RECIPE))
    assert (program.content, program.graph) == (twin.content, twin.graph)
    predicted = predict(OPENVINO.prepare(program), images)
    differing = (predicted != predict(ONNX_RUNTIME.prepare(twin), images)).mean()
    assert differing <= 0.01


@installed
def test_a_bound_call_runs_the_images_that_it_was_given():
    images = data_of("lenet-300-100").test_images[:6].numpy()
    model = model_of("lenet-300-100")
    session = OPENVINO.prepare(OPENVINO.build(Runnable(model, shape_of("lenet-300-100"))), threads=2)
    call = session.bind(images[:2])
    for first in (0, 2):
        call()
        np.testing.assert_allclose(
            session._requests[2].get_output_tensor().data, logits_of(model, images[first : first + 2]), atol=1e-4
        )
        call = session.bind(images[2:4])
    np.testing.assert_allclose(session.run(images[3:]), logits_of(model, images[3:]), atol=1e-4)
    description = session.describe()
    assert (description["threads"], description["version"]) == (2, metadata.version("openvino"))
    session.close()


@installed
def test_a_file_that_is_no_graph_is_refused():
    program = Program("openvino", "fp32", "", inputs_of((1, 4, 4)), b"not a graph")
    with pytest.raises(RuntimeUnavailableError, match=r"OpenVINO must be able to load the graph; it says: .+ Use the"):
        OPENVINO.prepare(program)


def test_where_it_is_missing_it_says_what_to_install():
    absent = replace(OPENVINO, missing=REQUIREMENT)
    for use in (lambda: absent.build(Runnable(model_of("lenet-5"), (1, 28, 28))), lambda: absent.prepare(None)):
        with pytest.raises(RuntimeUnavailableError, match=f"Install {REQUIREMENT}"):
            use()
    assert OPENVINO.missing in ("", REQUIREMENT)
    assert bool(OPENVINO.missing) == (OPENVINO.version == "")


@pytest.mark.slow
def test_the_library_is_imported_by_a_session_and_not_before():
    code = "import sys, paretoscope.runtimes as room; room.runtimes.names(); sys.exit('openvino' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
