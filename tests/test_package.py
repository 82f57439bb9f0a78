"""What others install: a wheel that holds everything, and works in a bare environment outside the checkout."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paretoscope import __version__
from paretoscope.cli.main import app
from serving import reserved_port, serve_by
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "compression" / "paretoscope"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by pip with the hatchling that is installed: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bin folder with the wheel; what it needs is found where this Python has it, but the package only in the wheel.

    A .pth file in a folder that another .pth file names is not read: an editable installation stays out of sight.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    needed = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "needed.pth").write_text("\n".join(needed))
    pip("--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel))
    return folder / "bin"


@pytest.fixture
def outside(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An empty folder to start commands in, and an environment that knows nothing of the checkout or of the user."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STREAMLIT"))}
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty", {**environment, "HOME": str(tmp_path)}


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def ran(command: list[object], outside: tuple[Path, dict[str, str]]) -> str:
    """What a command printed that was started outside the checkout."""
    folder, environment = outside
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metadata(wheel: Path, name: str) -> str:
    """One of the files beside the package that describe it."""
    with zipfile.ZipFile(wheel) as archive:
        (found,) = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(found).decode()


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_dashboard_and_nothing_else(wheel: Path) -> None:
    def files(folder: Path) -> Iterator[Path]:
        return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)

    package = {f"paretoscope/{path.relative_to(PACKAGE)}" for path in files(PACKAGE)}
    beside = [ROOT / "app.py", ROOT / ".streamlit" / "config.toml", *files(ROOT / "pages"), *files(ROOT / "assets")]
    dashboard = {f"paretoscope/dashboard/{path.relative_to(ROOT)}" for path in beside}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package | dashboard
    assert "paretoscope/py.typed" in names


def test_requirements_version_and_licence_are_stated_once(wheel: Path) -> None:
    described = importlib.metadata.PathDistribution(zipfile.Path(wheel, f"{wheel.name.split('-py3')[0]}.dist-info/"))
    assert described.version == __version__
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    needed = sorted(line.lower() for line in described.requires or ())
    stated = {lines(ROOT / "requirements.txt"): "{}", lines(ROOT / "requirements-extras.txt"): "{}; extra == 'extras'"}
    assert needed == sorted(form.format(line.lower()) for file, form in stated.items() for line in file)
    assert described.metadata["License-Expression"] == "Apache-2.0"
    licence = metadata(wheel, "licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_text()
    assert (
        licence.startswith("                                 Apache License\n") and "The Paretoscope authors" in licence
    )


def test_the_changelog_begins_with_this_version(wheel: Path) -> None:
    text = metadata(wheel, "extra_metadata/CHANGELOG.md")
    versions = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert versions[0] == re.sub(r"\.dev\d+$", "", __version__) and versions[-1] == "0.1.0"
    assert text == (ROOT / "CHANGELOG.md").read_text()


def lines(file: Path) -> tuple[str, ...]:
    return tuple(line for line in file.read_text().splitlines() if line and not line.startswith("#"))


@pytest.mark.slow
def test_an_installed_package_evaluates_a_model(bare: Path, outside: tuple[Path, dict[str, str]]) -> None:
    where = "import paretoscope; print(paretoscope.__file__)"
    assert Path(ran([bare / "python", "-c", where], outside).strip()).is_relative_to(bare.parent)
    arguments = ["evaluate", "lenet-300-100", "--bits", "8", "--runtime", "none", "--json"]
    installed = json.loads(ran([bare / "paretoscope", *arguments], outside))
    assert installed == json.loads(CliRunner().invoke(app, arguments).stdout)
    assert installed["size"]["artefact"] < installed["baseline"]["size_bytes"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["run"]])
def test_help_calls_the_command_as_it_was_called(
    bare: Path, outside: tuple[Path, dict[str, str]], arguments: list[str]
) -> None:
    usage = " ".join(["Usage:", "{}", *arguments, "[OPTIONS]"])
    assert usage.format("paretoscope") in ran([bare / "paretoscope", *arguments, "--help"], outside)
    module = ran([bare / "python", "-m", "paretoscope", *arguments, "--help"], outside)
    assert usage.format("python -m paretoscope") in module


@pytest.mark.slow
def test_an_installed_dashboard_answers_with_our_settings(bare: Path, outside: tuple[Path, dict[str, str]]) -> None:
    folder, environment = outside
    # What lies where it is started: no module and no page of these names may come in between.
    (folder / "pages").mkdir()
    for name in ("pages/__init__.py", "app.py", "paretoscope.py", "streamlit.py"):
        (folder / name).write_text("raise ImportError(f'{__file__} is of somebody else')")
    environment["STREAMLIT_SERVER_SCRIPT_HEALTH_CHECK_ENABLED"] = "true"
    log = folder.parent / "log"
    with reserved_port() as port:
        command = [str(bare / "paretoscope"), "run", "--port", str(port)]
        serving = contextmanager(serve_by)
        with serving(command, port, log.parent, cwd=folder, environment=environment, end=signal.SIGKILL) as address:
            assert checked(address) == "ok", log.read_text()
    # The address is in our settings; Streamlit's own listen to the network.
    assert f" URL: http://127.0.0.1:{port}" in log.read_text()


def checked(address: str) -> str:
    """What Streamlit says of a run of the script and its page in the server, for which it waits a minute at a time."""
    said = "timeout"
    for _ in range(4):
        if said == "timeout":
            try:
                with urllib.request.urlopen(f"{address}/_stcore/script-health-check", timeout=90) as response:
                    said = response.read().decode()
            except urllib.error.HTTPError as error:
                said = error.read().decode()
    return said


# Names that sys.stdlib_module_names of the running Python may lack: removed in 3.12 and 3.13, added in 3.14 and 3.15.
# Source: "What's New" of each version. Names that begin with an underscore are the interpreter's own.
OTHER_STDLIB_NAMES = """
asynchat asyncore distutils imp smtpd
aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes sndhdr spwd sunau
telnetlib uu xdrlib
annotationlib compression
profiling
"""


def test_no_top_level_name_of_ours_is_one_of_the_standard_library() -> None:
    """Folders that come onto the path: the checkout, compression/, and each folder of tests without an __init__.py."""
    folders = [
        ROOT,
        ROOT / "compression",
        ROOT / "tests",
        *(path for path in (ROOT / "tests").iterdir() if path.is_dir()),
    ]
    modules = {path.stem for folder in folders for path in folder.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for folder in folders[:3] for path in folder.glob("*/*.py")}
    assert {"paretoscope", "pages", "app", "benchmarks", "serving"} <= modules | packages
    assert not {name for name in modules | packages if name.startswith("_")}
    assert not (modules | packages) & (sys.stdlib_module_names | {*OTHER_STDLIB_NAMES.split()})
    assert not (ROOT / "compression" / "__init__.py").exists()
