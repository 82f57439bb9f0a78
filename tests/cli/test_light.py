"""Which libraries a command has imported when it ends: large ones only where it used them."""

import json
import subprocess
import sys

import pytest

# Libraries that the package uses, each of which takes longer to import than a command that does not use it.
LARGE = {
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "pandas",
    "plotly",
    "scipy.special",
    "scipy.stats",
    "sklearn",
    "streamlit",
    "torch._dynamo",
    "torchvision",
}
ENGINE = {"numba", "numpy", "torch"}

SCRIPT = """
import contextlib, io, json, sys
from paretoscope.cli import app
with contextlib.redirect_stdout(io.StringIO()):
    try:
        app(sys.argv[1:])
    except SystemExit as end:
        status = end.code
print(json.dumps([status, sorted(sys.modules)]))
"""


def run(arguments: str) -> tuple[int, set[str]]:
    """Exit status of a command, and the modules that it has imported."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    status, modules = json.loads(done.stdout)
    return status, set(modules)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--help", 0),
        ("evaluate --help", 0),
        ("recipe --preset tiny", 0),
        ("evaluate no-such-model", 1),
        ("evaluate no-such-model --runtime none", 1),
    ],
)
def test_what_needs_no_network_imports_no_torch(arguments, status):
    found, modules = run(arguments)
    assert found == status
    assert not modules & (LARGE | ENGINE)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["presets simple-cnn", "evaluate simple-cnn --runtime none"])
def test_large_libraries_that_a_command_does_not_use_are_not_imported(arguments):
    found, modules = run(arguments)
    assert found == 0
    assert not modules & LARGE
    assert modules >= ENGINE


@pytest.mark.slow
def test_a_runtime_is_imported_when_it_is_asked_for():
    found, modules = run("evaluate simple-cnn --runtime no-such-runtime")
    assert found == 1
    assert modules >= {"onnx", "onnxruntime"}
    assert not modules & {"openvino", "torchvision"}
