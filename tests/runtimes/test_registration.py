"""A runtime is one file: put into the room, it is registered, and no other file names it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paretoscope import runtimes as room
from paretoscope.base.errors import CompressionError

FILE = """
from paretoscope.runtimes.base import Runtime
from paretoscope.runtimes.pytorch import PyTorchSession, build_module

ENTRY = Runtime(
    name="{name}",
    title="Twin",
    summary="PyTorch under another name.",
    reference="None.",
    number_formats=("fp32",),
    version="1",
    build_as=lambda runnable, number_format: build_module(runnable, "{name}"),
    open=PyTorchSession,
)
"""


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """add(module, name): one more file in the room, with a runtime of that name."""
    added = []

    def write(module: str, name: str) -> None:
        (tmp_path / f"{module}.py").write_text(FILE.format(name=name))
        added.append(f"{room.__name__}.{module}")

    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    yield write
    for name in added:
        sys.modules.pop(name, None)
        vars(room).pop(name.rpartition(".")[2], None)


def test_a_file_is_enough(add: Callable[[str, str], None]) -> None:
    known = room.runtimes.names()
    add("zz_twin", "twin")
    assert room._first().names() == (*known, "twin")


def test_two_files_with_one_name_are_refused(add: Callable[[str, str], None]) -> None:
    add("zz_twin", "torch")
    with pytest.raises(CompressionError, match="'torch' is registered already"):
        room._first()


def test_their_order_is_that_of_their_files() -> None:
    assert room.runtimes.names() == ("onnxruntime", "openvino", "torch", "sparse", "torch-compiled")
