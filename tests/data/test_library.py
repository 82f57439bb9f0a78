import errno
import json
import re
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_sources import encoded, picture, spread
from memory import tracing
from paretoscope.base.errors import CompressionError, DataError, NewerArtefactError, UnknownNameError
from paretoscope.base.files import locked
from paretoscope.base.library import LONGEST
from paretoscope.data import library
from paretoscope.data.samples import MOST_PIXELS
from paretoscope.data.sources import table
from paretoscope.data.writer import CHUNK_BYTES, Writer
from PIL import Image

N = 12


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    return tmp_path / "library" / "data"


def saved(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return saved(tmp_path / "a.npz", x=np.arange(N * 4.0).reshape(N, 4), y=np.arange(N) % 3)


def folder_of(tmp_path: Path, names: list[str]) -> str:
    return str(spread(tmp_path / "set", {name: encoded(picture(place)) for place, name in enumerate(names)}))


def test_other_content_has_another_digest(tmp_path: Path, source: str) -> None:
    x, y = np.arange(N * 4.0).reshape(N, 4), np.arange(N) % 3
    changed = x.copy()
    changed[-1, -1] += 1e-9
    others = [
        saved(tmp_path / "b.npz", x=changed, y=y),
        saved(tmp_path / "c.npz", x=x, y=(y + 1) % 3),
        saved(tmp_path / "d.npz", x=x.reshape(N, 2, 2), y=y),
        saved(tmp_path / "e.npz", z=x, y=y),
        saved(tmp_path / "f.npz", x=x),
        saved(tmp_path / "g.npz", x=x.astype(np.float32), y=y),
    ]
    digests = {library.add("mine", each).samples.digest for each in (source, *others)}
    assert len(digests) == 7


def test_a_name_that_is_added_again_stands_for_the_new_data(tmp_path: Path, source: str, root: Path) -> None:
    library.add("mine", source)
    library.add("mine", saved(tmp_path / "b.npz", x=np.ones((3, 2))))
    assert len(library.open("mine")) == 3 and [each.name for each in library.entries()] == ["mine"]


def test_data_beside_others_get_a_name_of_their_own(tmp_path: Path, source: str) -> None:
    other = saved(tmp_path / "b.npz", x=np.ones((3, 2)))
    assert [library.add("mine", each, beside=True).name for each in (source, other)] == ["mine", "mine-2"]
    assert len(library.open("mine")) == N and len(library.open("mine-2")) == 3
    # Whoever asks for a published set must not get these.
    assert library.add("digits", other, beside=True).name == "digits-2"
    longest = "m" * LONGEST
    assert [library.add(longest, other, beside=True).name for _ in range(2)] == [longest, "m" * (LONGEST - 2) + "-2"]


def test_data_are_named_and_removed_by_one_at_a_time(tmp_path: Path, source: str, root: Path) -> None:
    library.add("mine", source)
    done: list[str] = []
    for act in (lambda: library.add("mine", source, beside=True).name, lambda: library.remove("mine") or "removed"):
        with locked(root / "lock"):
            thread = threading.Thread(target=lambda act=act: done.append(act()))
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()
        thread.join()
    assert done == ["mine-2", "removed"] and library.names() == ("mine-2",) and len(library.open("mine-2")) == N


def test_an_unknown_name_is_refused(source: str) -> None:
    library.add("mine", source)
    for each in (library.open, library.find, library.remove):
        with pytest.raises(UnknownNameError, match=r"Choose one of: mine\. Did you mean mine"):
            each("mini")


def test_a_published_set_is_read_when_it_is_asked_for() -> None:
    assert len(library.ensure("digits").samples) == 1797 == len(library.open("digits"))
    with pytest.raises(UnknownNameError):
        library.ensure("nothing")


def test_damaged_data_say_so_and_do_not_hide_the_others(source: str, root: Path, tmp_path: Path) -> None:
    library.add("good", source)
    library.add("bad", saved(tmp_path / "b.npz", x=np.ones((3, 2))))
    (library.open("bad").folder / "data.json").write_text("{")
    assert [each.name for each in library.entries()] == ["good"]
    with pytest.raises(DataError, match="damaged"):
        library.open("bad")
    (root / "names" / "bad.json").write_text('{"digest": "../../etc"}')
    with pytest.raises(DataError, match="damaged"):
        library.open("bad")
    library.remove("good")
    library.remove("bad")
    assert library.names() == ()


def test_damaged_data_are_mended_by_adding_them_again(source: str) -> None:
    (library.add("mine", source).samples.folder / "data.json").write_text("{")
    assert len(library.add("mine", source).samples) == N == len(library.open("mine"))


def test_data_of_a_later_version_are_no_damaged_ones(source: str) -> None:
    path = library.add("mine", source).samples.folder / "data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(NewerArtefactError, match="version 99"):
        library.open("mine")


def test_a_full_disk_leaves_nothing(source: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Writer, *args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_write", full)
        with pytest.raises(CompressionError, match=r"No space left.*PARETOSCOPE_LIBRARY"):
            library.add("mine", source)
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(DataError, match="Make room"):
        library.add("mine", source)
    assert list(root.iterdir()) == [] and library.names() == ()


def test_too_little_memory_is_told(source: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def much(self: Writer, *args: object) -> int:
        raise MemoryError

    monkeypatch.setattr(Writer, "_write", much)
    with pytest.raises(DataError, match="memory"):
        library.add("mine", source)
    assert list(root.iterdir()) == []


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        library.add("mine", str(tmp_path / "none.npz"))


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    np.savez(tmp_path / "evil.npz", x=np.array([Evil(), Evil()], object))
    np.save(tmp_path / "evil.npy", np.array([Evil(), Evil()], object), allow_pickle=True)
    for name in ("evil.npz", "evil.npy"):
        with pytest.raises(DataError, match="never unpickled"):
            library.add("mine", str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("header", [b"{'descr': (", b"{'descr': '<f4'", b"\xff", b"[" * 5000, b"", b"3"])
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "odd.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"odd\.npy must be an array in NumPy's format"):
        library.add("mine", str(tmp_path / "odd.npy"))


def test_a_header_that_claims_much_allocates_little(tmp_path: Path) -> None:
    path = tmp_path / "giant.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**30, 2**10)})
        file.write(bytes(100))
    with tracing() as peak, pytest.raises(DataError, match=r"ends .* early"):
        library.add("mine", str(path))
    assert peak() < 2 * CHUNK_BYTES


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((4, 2)), "y": np.array([0, 1, 2])}, "one length"),
        ({"x": np.ones((4, 2)), "y": np.array([0.5, 1, 2])}, "one length"),
        ({"x": np.ones((4, 2)), "y": np.array([["a", "b"]] * 4)}, "one a sample"),
        ({"x": np.ones((4, 2)), "y": np.zeros(4, int), "labels": np.zeros(4, int)}, "y and labels"),
        ({"x": np.float32(3)}, "first axis"),
        ({"x": np.ones((0, 2))}, "at least one sample"),
        ({"x": np.ones((3, 0))}, "first axis"),
        ({"x": np.ones((3, 2), complex)}, "numbers"),
        ({"../x": np.ones((3, 2))}, "field's name"),
        ({"x": np.asfortranarray(np.ones((3, 2)))}, "C order"),
    ],
)
def test_arrays_that_are_no_data(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        library.add("mine", saved(tmp_path / "bad.npz", **arrays))


def test_texts_as_labels_are_numbered_in_their_order(tmp_path: Path) -> None:
    x = np.ones((4, 2))
    samples = library.add("a", saved(tmp_path / "a.npz", x=x, y=np.array(["cat", "ant", "dog", "cat"]))).samples
    assert samples.classes == ("ant", "cat", "dog") and list(samples.labels) == [1, 0, 2, 1]
    names = tmp_path / "names.txt"
    names.write_text("dog\nelk\ncat\nant\n")
    samples = library.add("b", f"{tmp_path / 'a.npz'}#classes={names}").samples
    assert samples.classes == ("dog", "elk", "cat", "ant") and list(samples.labels) == [2, 3, 0, 2]
    names.write_text("dog\ncat\n")
    with pytest.raises(DataError, match="'ant' is not"):
        library.add("b", f"{tmp_path / 'a.npz'}#classes={names}")


def test_numbers_stay_the_classes_that_they_say(tmp_path: Path) -> None:
    """A set that lacks a class must not be numbered anew."""
    samples = library.add("a", saved(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.array([4, 1, 4]))).samples
    assert list(samples.labels) == [4, 1, 4]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (np.array([0.5, 1.5, 2.0]), r"float numbers \(float64\)"),
        (np.array([0.0, np.nan, np.inf]), r"float numbers \(float64\)"),
        (np.array([0.0, 1.0, 2.0]), r"whole numbers of a float type \(float64\)"),
        (np.ones((3, 2)) / 2, "float numbers"),
        (np.array([-1, 0, 1]), "whole numbers from -1 to 1"),
        (np.array([1, 2, 1 << 63], np.uint64), "whole numbers from 1 to 9223372036854775808"),
    ],
)
def test_other_numbers_are_no_classes_and_it_is_kept_what_they_are(
    tmp_path: Path, target: np.ndarray, told: str
) -> None:
    plain = library.add("plain", saved(tmp_path / "plain.npz", x=np.ones((3, 2)))).samples
    library.add("a", saved(tmp_path / "a.npz", x=np.ones((3, 2)), y=target))
    samples = library.open("a")
    assert not samples.labelled and "unlabelled" in samples.notes[0] and re.search(told, samples.unfit)
    # Equal samples that came without a target are other data.
    assert plain.unfit == "" and samples.digest != plain.digest


def test_data_of_a_library_that_did_not_keep_it_open(source: str) -> None:
    path = library.add("mine", source).samples.folder / "data.json"
    described = json.loads(path.read_text())
    del described["unfit"]
    path.write_text(json.dumps(described))
    assert library.open("mine").unfit == ""


def test_numbers_written_as_texts_are_those_numbers(tmp_path: Path) -> None:
    y = np.array([str(label) for label in (10, 2, 0, 10)])
    samples = library.add("a", saved(tmp_path / "a.npz", x=np.ones((4, 2)), y=y)).samples
    assert list(samples.labels) == [10, 2, 0, 10] and samples.classes == ()
    names = tmp_path / "names.txt"
    names.write_text("10\n2\n0\n")
    samples = library.add("b", f"{tmp_path / 'a.npz'}#classes={names}").samples
    assert list(samples.labels) == [0, 1, 2, 0] and samples.classes == ("10", "2", "0")


def test_one_hot_labels_are_classes(tmp_path: Path) -> None:
    samples = library.add("a", saved(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.eye(4)[[2, 0, 3]])).samples
    assert list(samples.labels) == [2, 0, 3]


def test_folders_that_begin_with_numbers_are_those_classes(tmp_path: Path) -> None:
    samples = library.add("a", folder_of(tmp_path, ["0007_owl/a.png", "0002_hen/b.png", "0002_hen/c.png"])).samples
    assert list(samples.labels) == [2, 2, 7] and samples.classes[2] == "0002_hen" and len(samples.classes) == 8
    assert "number" in samples.notes[0]


def test_images_beside_folders_of_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'odd\.png' lies beside"):
        library.add("a", folder_of(tmp_path, ["cat/a.png", "dog/b.png", "odd.png"]))


def test_hidden_and_other_files_are_no_images(tmp_path: Path) -> None:
    text = folder_of(tmp_path, ["cat/a.png", "dog/b.png", "cat/.hidden.png", "__MACOSX/cat/a.png", "cat/notes.md"])
    assert len(library.add("a", text).samples) == 2


def test_broken_images_are_named_counted_and_skipped_on_demand(tmp_path: Path, root: Path) -> None:
    text = folder_of(tmp_path, ["cat/a.png", "cat/b.png", "dog/c.png"])
    whole = (tmp_path / "set/cat/b.png").read_bytes()
    (tmp_path / "set/cat/b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "set/dog/d.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"2 of 4 .*cat/b.png, dog/d.jpg.*broken=skip"):
        library.add("a", text)
    assert list(root.iterdir()) == []
    samples = library.add("a", f"{text}#broken=skip").samples
    assert len(samples) == 2 and list(samples.labels) == [0, 1] and "2 of 4" in samples.notes[0]
    with pytest.raises(DataError, match="refuse, skip"):
        library.add("a", f"{text}#broken=maybe")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_of_a_giant_image_is_refused(tmp_path: Path) -> None:
    spread(tmp_path / "set", {"a.png": encoded(Image.new("1", (20_000, MOST_PIXELS // 20_000 + 1)))})
    with tracing() as peak, pytest.raises(DataError, match="1 of 1"):
        library.add("a", str(tmp_path / "set"))
    assert peak() < 32 << 20


def test_a_set_larger_than_its_bound_is_read_within_it(tmp_path: Path) -> None:
    """The bound: one chunk as it is read and one as it is written, whatever the length of the array."""
    x = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (60, 1 << 20))
    x[:, 0] = np.arange(60)
    x.flush()
    with tracing() as peak:
        samples = library.add("large", str(tmp_path / "large.npy")).samples
        assert peak() < 3 * CHUNK_BYTES
    assert list(samples.read(np.array([59, 3]))["x"][:, 0]) == [59, 3]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("a,b\n1,x\n2,y\n", "", "'b' does not, in rows 1 to 2"),
        ("a,b\n1,2\n,4\n", "", "'a' of row 2 is nan, and 1 "),
        ("a,b\n1,inf\n2,4\n", "", "'b' of row 1 is inf"),
        ("a,b\n1,1e300\n2,4\n", "", "'b' of row 1 is 1e.300"),
        ("a,b\n1,x\n2,\n", "target=b", "'b' of row 2 has none"),
        ("a,b\n1,2\n", "target=c", "'c' is not among a, b"),
        ("1,2\n3,4\n", "", "line of names"),
        ("a\n0\n1\n", "target=a", "beside the target"),
        ("a,b\n", "", "rows of samples"),
        ("", "", "cannot be read"),
        ("a,b\n1,2\n1,2,3\n", "", "cannot be read"),
        ("a,b\n1,2\n", "text=a", "'a' of row 1 is 1"),
    ],
)
def test_tables_that_are_no_data(tmp_path: Path, table: str, options: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        library.add("a", f"{tmp_path / 't.csv'}{'#' if options else ''}{options}")


def test_a_column_of_floats_is_no_target_of_classes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,price\n1,2.5\n2,4.25\n")
    samples = library.add("a", str(tmp_path / "t.csv"), target="price").samples
    assert not samples.labelled and samples.fields[0].columns == ("a",) and "unlabelled" in samples.notes[0]


def test_a_target_that_turns_into_floats_late_in_a_table_is_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ROWS", 2)
    (tmp_path / "t.csv").write_text("a,price\n1,2\n2,4\n3,4.5\n")
    samples = library.add("a", str(tmp_path / "t.csv"), target="price").samples
    assert not samples.labelled and samples.unfit == "float numbers (float64)"


def test_a_text_of_options_is_told_how_to_be(source: str) -> None:
    with pytest.raises(DataError, match="NAME=VALUE"):
        library.add("a", f"{source}#x")
    with pytest.raises(DataError, match="NAME=VALUE"):
        library.add("a", f"{source}#drop=x&drop=y")


def test_a_path_with_a_number_sign_is_a_path(tmp_path: Path, source: str) -> None:
    odd = tmp_path / "odd#name=1.npz"
    shutil.copy(source, odd)
    assert len(library.add("a", str(odd)).samples) == N


def test_an_entry_without_a_name_in_an_archive_is_no_picture(tmp_path: Path, root: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"nothing")
    with pytest.raises(DataError, match=r"a\.zip"):
        library.add("a", str(tmp_path / "a.zip"))


@pytest.mark.parametrize(("text", "told"), [("/" + "x" * 300 + ".npz", "no file can be called"), (" ", "got nothing")])
def test_what_no_file_can_be_called_is_refused(text: str, told: str, root: Path) -> None:
    with pytest.raises(DataError, match=told):
        library.add("long", text)
