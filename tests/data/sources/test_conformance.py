"""What every source of data promises: whatever is registered is walked, so a new one needs examples and no test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_sources import EXAMPLES, Example
from paretoscope.base.errors import CompressionError, DataError
from paretoscope.base.progress import Calling, Cancelled
from paretoscope.data import library
from paretoscope.data.origin import split_options
from paretoscope.data.samples import Kind, Samples
from paretoscope.data.sources import find_origin, origins

CASES = [(name, make) for name in origins.names() for make in EXAMPLES.get(name, ())]
IDS = [f"{name}-{make.__name__}" for name, make in CASES]
# Of files: a set by name and a function have no bytes to be damaged.
FILES = [(name, make) for name, make in CASES if name not in ("named", "code")]


@pytest.fixture(autouse=True)
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    (tmp_path / "sources").mkdir()
    monkeypatch.chdir(tmp_path / "sources")
    return tmp_path / "library"


@pytest.fixture(params=CASES, ids=IDS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    return request.param[1](tmp_path / "sources")


def added(example: Example, name: str = "mine") -> Samples:
    library.add(name, example.whole, code=True)
    return library.open(name)


def plain(raw: object) -> list[object]:
    """What was read, comparable."""
    return [each if isinstance(each, str) else np.asarray(each).tobytes() for each in raw]


def test_every_source_has_examples_and_is_described() -> None:
    assert set(EXAMPLES) == set(origins.names())
    for origin in origins:
        assert origin.title and origin.summary and origin.reference
        assert all(name.isidentifier() and told for name, told in origin.options.items())


@pytest.mark.parametrize(("name", "make"), CASES, ids=IDS)
def test_the_right_source_takes_it(name: str, make: Callable[[Path], Example], tmp_path: Path) -> None:
    example = make(tmp_path / "sources")
    assert find_origin(example.text, code=True).name == name
    assert [origin.name for origin in origins if origin.takes(example.text)] == [name]
    assert set(split_options(example.whole)[1]) <= set(origins.get(name).options)


def test_it_converts(example: Example) -> None:
    samples = added(example)
    assert len(samples) == example.n and samples.train == example.train
    assert tuple(field.name for field in samples.fields) == example.fields
    assert samples.labelled == example.labelled == (samples.labels is not None)
    if samples.labels is not None:
        assert samples.labels.dtype == np.int64 and samples.labels.shape == (example.n,)
        assert int(samples.labels.min()) == 0 and len(np.unique(samples.labels)) > 1
        assert not samples.classes or int(samples.labels.max()) < len(samples.classes)
    assert library.find("mine").source == example.whole and len(samples.digest) == 64


def test_in_chunks_it_is_what_it_is_as_a_whole(example: Example) -> None:
    samples = added(example)
    indices = np.random.default_rng(0).permutation(len(samples))
    whole = samples.read(indices)
    chunks = [samples.read(indices[start : start + 5]) for start in range(0, len(indices), 5)]
    for field in samples.fields:
        pieces = [each for chunk in chunks for each in plain(chunk[field.name])]
        assert pieces == plain(whole[field.name]) and len(pieces) == example.n
        if field.kind is Kind.ARRAY:
            assert whole[field.name].shape == (example.n, *field.shape) and whole[field.name].dtype == field.dtype


def kept(folder: Path) -> set[str]:
    """What a library of data has on disk, but for the file that its lock is on."""
    return {each.name for each in (folder / "data").iterdir()} - {"lock"}


def test_the_same_data_twice_are_stored_once(example: Example, own_library: Path) -> None:
    first, second = added(example), added(example, "again")
    assert first.digest == second.digest and first.folder == second.folder
    assert kept(own_library) == {"names", first.digest}
    library.remove("mine")
    assert library.names() == ("again",) and len(library.open("again")) == example.n
    library.remove("again")
    assert kept(own_library) == {"names"}


def test_an_unknown_option_is_refused(example: Example) -> None:
    with pytest.raises(DataError, match="has no 'nonsense'"):
        library.add("mine", f"{example.text}#nonsense=1", code=True)


@pytest.mark.parametrize(("name", "make"), FILES, ids=[f"{name}-{make.__name__}" for name, make in FILES])
def test_cut_off_files_are_refused_and_leave_nothing(
    name: str, make: Callable[[Path], Example], tmp_path: Path, own_library: Path
) -> None:
    """A text may end anywhere; of all else a cut is seen, or what remains is whole: a row or an image less."""
    example = make(tmp_path / "sources")
    files = [each for each in sorted((tmp_path / "sources").rglob("*")) if each.is_file()]
    target, refused = files[0], 0
    content = target.read_bytes()
    for share in (0.0, 0.1, 0.4, 0.7, 0.95):
        target.write_bytes(content[: int(share * len(content))])
        try:
            entry = library.add("cut", example.whole, code=True)
        except CompressionError as error:
            refused += 1
            assert str(error).count(". ") >= 1 and str(error).endswith("."), error
            assert library.names() == ()
        else:
            assert entry.samples.n < example.n, "cut data were taken for whole"
            library.remove("cut")
    assert refused >= (1 if example.text.endswith((".csv", ".txt")) else 5)
    assert kept(own_library) <= {"names"}


@pytest.mark.parametrize(("name", "make"), FILES, ids=[f"{name}-{make.__name__}" for name, make in FILES])
def test_damaged_bytes_give_one_message_or_data(name: str, make: Callable[[Path], Example], tmp_path: Path) -> None:
    example = make(tmp_path / "sources")
    files = [each for each in sorted((tmp_path / "sources").rglob("*")) if each.is_file()]
    target = files[0]
    content, draw = target.read_bytes(), np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(content)
        for place in draw.integers(0, len(content), 3):
            damaged[place] = draw.integers(0, 256)
        target.write_bytes(damaged)
        try:
            samples = library.add("hurt", example.whole, code=True).samples
            samples.read(np.arange(min(2, len(samples))))
        except CompressionError as error:
            assert len(str(error)) < 800


def test_cancelling_leaves_nothing(example: Example, own_library: Path) -> None:
    def cancel(share: float | None, label: str | None, partial: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        library.add("mine", example.whole, code=True, progress=Calling(cancel))
    assert library.names() == () and list((own_library / "data").iterdir()) == []


def test_code_of_the_user_runs_where_it_is_allowed_alone(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "sources" / "evil.py").write_text(f"open({str(ran)!r}, 'w')\ndef made(): return [[1.0], [2.0]]\n")
    with pytest.raises(DataError, match="runs code"):
        library.add("mine", "evil:made")
    assert not ran.exists()
    library.add("mine", "evil:made", code=True)
    assert ran.exists()
