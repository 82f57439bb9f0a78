"""Each change of docs/extending.md works: all are made to a copy of the package, and each is used there for real.

A process of its own runs the checks in `changes`, one file each, on the copy: one for all, so that torch is imported
once.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import extending
import pytest

ROOT = Path(__file__).parents[2]
CHANGES = extending.changes()
KEPT = ("app.py", "pyproject.toml", ".streamlit", "compression", "pages")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each test in the changed copy, by its file's name; "" is the whole report."""
    copy = tmp_path_factory.mktemp("changed")
    for name in KEPT:
        # With their times and their compiled functions, which would take half a minute to compile again.
        whole = (ROOT / name).is_dir()
        (shutil.copytree if whole else shutil.copy2)(ROOT / name, copy / name)
    (copy / "assets").symlink_to(ROOT / "assets")
    tests = copy / "tests"
    tests.mkdir()
    for path in (Path(__file__).parent / "changes").glob("check_*.py"):
        shutil.copy2(path, tests / path.name.replace("check", "test"))
    shutil.copy2(ROOT / "tests" / "conftest.py", tests)
    shutil.copytree(ROOT / "tests" / "helpers", tests / "helpers")
    for blocks in CHANGES.values():
        for block in blocks:
            block.write(copy)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        "-q",
        "-rA",
        "--tb=short",
        "--continue-on-collection-errors",
        "tests",
    ]
    environment = os.environ | {"PYTHONPATH": str(copy / "compression")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    found = re.findall(r"^(PASSED|FAILED|ERROR) tests/test_(\w+)\.py", done.stdout, re.MULTILINE)
    report = {"": done.stdout + done.stderr}
    for outcome, name in found:
        report[name] = outcome if report.get(name, "PASSED") == "PASSED" else report[name]
    return report


def test_there_are_ten_changes_of_one_to_three_files() -> None:
    assert list(CHANGES) == [
        *("method", "setting", "runtime", "network_source", "data_source", "task", "export_format"),
        *("figure", "page", "study"),
    ]
    assert {path.stem for path in (Path(__file__).parent / "changes").iterdir()} >= {
        f"check_{each}" for each in CHANGES
    }
    told = re.findall(r"^\| \[[a-z ]+\]\(#([a-z-]+)\) \| (\d) \|", extending.PAGE.read_text(), re.MULTILINE)
    files = {name: len({block.path for block in blocks}) for name, blocks in CHANGES.items()}
    assert [int(count) for _, count in told] == list(files.values())
    assert all(1 <= count <= 3 for count in files.values())
    headings = re.findall(r"^## (.*)$", extending.PAGE.read_text(), re.MULTILINE)
    assert [anchor for anchor, _ in told] == [heading.lower().replace(" ", "-") for heading in headings]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_the_change_works(name: str, results: dict[str, str]) -> None:
    assert results.get(name) == "PASSED", results[""]


def test_a_change_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\n")
    block = extending.Block("a.py", "diff", " two\n+three\n")
    with pytest.raises(AssertionError, match=r"must have once what docs/extending\.md changes:\ntwo"):
        block.write(tmp_path)
    with pytest.raises(AssertionError, match="is there already"):
        extending.Block("a.py", "python", "").write(tmp_path)
