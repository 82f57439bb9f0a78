"""Nothing calls home: the libraries of the runtimes are imported at one place, and write and ask for nothing there."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = {"onnxruntime", "openvino"}
HOME = Path("compression/paretoscope/base/libraries.py")

# Python's own attempts are printed; those of native code show as files, or are traced where strace is installed.
WATCH = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("REACHED OUT", event, arguments[-1], flush=True)
sys.addaudithook(watch)
"""
EVALUATE = """
from paretoscope.cli.main import app
app(["evaluate", "lenet-300-100", "--bits", "8", "--activations", "8", "--runtime", "{runtime}"])
"""
PAGE = """
from streamlit.testing.v1 import AppTest
test = AppTest.from_file("app.py", default_timeout=60).run()
assert not test.exception
"""


@pytest.mark.slow
def test_the_libraries_are_imported_at_one_place() -> None:
    for path in [
        path for folder in ("compression", "pages", "benchmarks", "tests") for path in ROOT.glob(f"{folder}/**/*.py")
    ]:
        if path.relative_to(ROOT) == HOME:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & LIBRARIES, f"{path}:{node.lineno}"


def reached(tmp_path: Path, code: str) -> tuple[list[str], list[str]]:
    """What a process that runs the code tried to reach, and the files that it left in its user's home."""
    home = tmp_path / "home"
    home.mkdir()
    left_out = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PARETOSCOPE_STORE": str(tmp_path / "kept" / "r.sqlite"),
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tried = [line for line in done.stdout.splitlines() if line.startswith("REACHED OUT")]
    return tried, [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_an_evaluation_reaches_nobody_and_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    # OpenVINO is an extra; the baseline's answers come from ONNX Runtime either way.
    runtime = "openvino" if find_spec("openvino") else "onnxruntime"
    assert reached(tmp_path, EVALUATE.format(runtime=runtime)) == ([], [])


@pytest.mark.slow
def test_a_page_reaches_nobody_and_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    assert reached(tmp_path, PAGE) == ([], [])
