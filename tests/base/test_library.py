from pathlib import Path

import pytest
from paretoscope.base import cache, library
from paretoscope.base.errors import CompressionError, UnknownNameError
from paretoscope.base.library import Index, check_name


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index("data", tmp_path / "names")


@pytest.mark.parametrize("name", ["a", "my-data", "v1.2_b", "A" * 64, "con-1", "console"])
def test_names_that_are_taken(name: str) -> None:
    assert check_name("data", name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../a", "a/b", "a\\b", "-a", "a-", ".a", "a.", "a b", "ä", "A" * 65),
        *("con", "NUL", "com1.x", "a\n", "a\0", None, 3),
    ],
)
def test_names_that_are_refused(name: object) -> None:
    with pytest.raises(CompressionError, match="my-data"):
        check_name("data", name)


def test_the_folder_is_the_variables_or_beside_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(library.ENVIRONMENT, raising=False)
    assert library.folder() == cache.folder() / "library"
    monkeypatch.setenv(library.ENVIRONMENT, str(tmp_path))
    assert library.folder() == tmp_path


def test_what_is_put_is_got_until_it_is_removed(index: Index) -> None:
    assert index.names() == () and "b" not in index
    index.put("b", {"digest": "1"})
    index.put("a", {"digest": "2"})
    index.put("b", {"digest": "3"})
    assert index.names() == ("a", "b") and index.get("b") == {"digest": "3"} and "b" in index
    index.remove("b")
    assert index.names() == ("a",)
    for gone in (index.get, index.remove):
        with pytest.raises(UnknownNameError, match="Choose one of: a"):
            gone("b")


def test_an_empty_library_says_what_to_do(index: Index) -> None:
    with pytest.raises(UnknownNameError, match="Add it first"):
        index.get("b")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_name_says_so(index: Index, tmp_path: Path, content: bytes) -> None:
    index.put("a", {})
    (tmp_path / "names" / "a.json").write_bytes(content)
    with pytest.raises(CompressionError, match="damaged"):
        index.get("a")


def test_other_files_are_no_names(index: Index, tmp_path: Path) -> None:
    index.put("a", {})
    (tmp_path / "names" / ".hidden.json").write_text("{}")
    (tmp_path / "names" / "b.txt").write_text("{}")
    assert index.names() == ("a",)
