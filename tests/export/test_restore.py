"""Files come back: what was exported opens its view, and nothing else does any harm."""

import dataclasses
import io
import struct
import zipfile
import zlib
from functools import cache

import pytest
from memory import tracing
from paretoscope import codec
from paretoscope.base.errors import ArtefactError, CompressionError, RecipeError
from paretoscope.export import Original, convert, differing, produce, zipped
from paretoscope.export.bundle import CHECKSUMS, MEMBERS, checksums, open_bundle
from paretoscope.export.restore import LARGEST, Restored, restore
from paretoscope.export.weights import read_codes
from paretoscope.export.zips import unzip
from paretoscope.recipe.file import LARGEST as LARGEST_RECIPE
from paretoscope.recipe.file import read_recipe, to_yaml
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

MODEL = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.6, clusters=8, bits=6, rest="fp16", overrides=[{"layers": "fc3", "pattern": "2:4"}])


@cache
def original() -> Original:
    subject = subjects.load(MODEL)
    return Original(subject, subject.compress(RECIPE))


@cache
def exported(format: str) -> tuple[str, bytes]:
    return convert(original().compressed, format, original().subject, original=original()).download("a-stem")


def opened(data: bytes, name: str) -> Restored:
    return restore(data, name, lambda model: subjects.load(model).statistics.digest)


def test_an_artefact_gives_model_and_recipe() -> None:
    name, data = exported("artefact")
    found = opened(data, name)
    assert (found.kind, found.recipe, found.model) == ("artefact", RECIPE, MODEL)
    assert differing(found.compressed, original().compressed) == []
    # Whatever someone called it.
    assert opened(data, "my file").recipe == RECIPE


@pytest.mark.slow
def test_a_bundle_gives_model_and_recipe() -> None:
    name, data = exported("bundle")
    found = opened(data, name)
    assert (found.kind, found.recipe, found.model) == ("bundle", RECIPE, MODEL)
    assert differing(found.compressed, original().compressed) == []


@pytest.mark.slow
@pytest.mark.parametrize("format", ["artefact", "bundle", "safetensors-codes"])
def test_a_file_whose_recipe_says_more_than_is_known_opens_and_keeps_it(format: str) -> None:
    """As a later version would export it; exported again, it still says so."""
    description = {**RECIPE.to_dict(), "quantize": {**RECIPE.to_dict()["quantize"], "dither": 0.5}}
    later = Original(original().subject, dataclasses.replace(original().compressed, description=description))
    for _ in range(2):
        name, data = convert(later.compressed, format, later.subject, original=later).download("a-stem")
        if format == "safetensors-codes":
            found = read_codes(data)
        else:
            restored = opened(data, name)
            assert (restored.recipe, restored.model) == (RECIPE, MODEL)
            found = restored.compressed
            assert "quantize.dither" in found.notes[0]
        assert found.recipe == RECIPE and found.told == description
        assert differing(found, original().compressed) == []
        later = Original(original().subject, found)


def test_a_recipe_alone_does_not_lose_what_is_not_known_of_it_in_silence() -> None:
    description = {**RECIPE.to_dict(), "later": {}}
    later = dataclasses.replace(original().compressed, description=description)
    verification = produce(later, "config", original().subject).verification
    assert not verification.passed and "settings that this version does not know" in verification.problem


def test_what_differs_is_named() -> None:
    given = original().compressed
    weight = given.weights["fc2.weight"]
    changed = dataclasses.replace(weight, indices=weight.indices[::-1].copy())
    other = dataclasses.replace(given, weights={**given.weights, "fc2.weight": changed})
    assert differing(other, given) == ["fc2.weight"]
    assert differing(dataclasses.replace(given, recipe=Recipe()), given) == ["recipe"]
    assert differing(dataclasses.replace(given, order=given.order[1:]), given) == [given.order[0]]


@pytest.mark.parametrize("preset", [None, *presets.names()])
def test_recipes_come_back_from_json_yaml_and_the_zip_of_both(preset: str | None) -> None:
    recipe = presets.get(preset).recipe if preset else RECIPE
    texts = {"a.json": recipe.to_json(indent=2).encode(), "a.yaml": to_yaml(recipe).encode()}
    for name, data in texts.items():
        assert opened(data, name) == Restored("recipe", recipe)
    assert opened(zipped(texts), "a.zip") == Restored("recipe", recipe)


def test_every_setting_survives_yaml() -> None:
    recipe = Recipe.of(
        nodes=0.1, drop=("layer2.1",), fold=True, energy=0.99, pattern="2:4", clusters=7, rarest=2, bits=5,
        calibration="percentile", percentile=99.99, rounding="gptq", keep_ends=True,
        overrides=[{"layers": "on*", "threshold": 1e-05}],
    )  # fmt: skip
    assert read_recipe(to_yaml(recipe).encode(), "x.YML") == recipe


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n".encode() for i in range(20)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB, "aliases are not taken"),
        (b"!!python/object/apply:os.system ['true']", "a recipe must be YAML text"),
        (b"[" * 50_000, "a recipe must be YAML text"),
        (b"\xff\xfe\x00\x00\xff", "a recipe must be YAML text"),
        (b"version: 1\nprune: {sparsity: 95}", r"sparsity must be in \[0, 1\); got 95"),
        (b"- 1", "a recipe must be a JSON object"),
        (b"", "a recipe must be a JSON object"),
        (b"version: 1\n? [a, b]\n: 3", "recipe"),
        (b" " * (LARGEST_RECIPE + 1), "at most 65,536 bytes; recipe.yaml has more"),
    ],
    ids=["aliases", "python", "deep", "bytes", "value", "list", "empty", "keys", "huge"],
)
def test_yaml_that_is_no_recipe_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(data, "recipe.yaml")


def member(name: str, data: bytes, declared: int | None = None) -> bytes:
    """A zip of one deflated member, written by hand, so that its declared size can lie."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    size = len(data) if declared is None else declared
    about = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, zlib.crc32(data), len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + about + name.encode() + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + about + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def test_a_zip_that_says_it_is_huge_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(ArtefactError, match="at most 16 files of different names and 1,073,741,824 bytes"):
        unzip(member("model.psc", b"x", declared=2**31))


def test_what_was_zipped_here_may_be_larger_than_what_comes_from_outside() -> None:
    data = zipped({"model.psc": b"x" * 1000})
    assert unzip(data, 1000) == {"model.psc": b"x" * 1000}
    with pytest.raises(ArtefactError, match="this one has 1 with 1,000 bytes"):
        unzip(data, 999)


def test_a_zip_that_lies_about_its_size_takes_no_memory() -> None:
    assert unzip(member("a", b"x" * 1000)) == {"a": b"x" * 1000}
    bomb = member("model.psc", bytes(1 << 26), declared=100)
    with tracing() as peak:
        with pytest.raises(ArtefactError, match="a zip must be readable"):
            unzip(bomb)
        assert peak() < 8 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_packed_in_another_way_is_refused(method: int) -> None:
    """Their streams would be unpacked without a bound."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.json", '{"version": 1}')
    with pytest.raises(ArtefactError, match="must be stored or deflated"):
        unzip(buffer.getvalue())


def bundle_with(**changes: bytes | None) -> bytes:
    """The bundle with members replaced, added or (None) left out, under checksums that are right."""
    members = open_bundle(exported("bundle")[1])
    del members[CHECKSUMS]
    members.update({name: data for name, data in changes.items() if data is not None})
    members = {name: data for name, data in members.items() if name not in changes or changes[name] is not None}
    return zipped({**members, CHECKSUMS: checksums(members)})


HOSTILE = {
    "traversal": lambda: bundle_with(**{"../../model.psc": b"x"}),
    "absolute": lambda: bundle_with(**{"/etc/passwd": b"x"}),
    "missing": lambda: bundle_with(**{"model.psc": None}),
    "no artefact": lambda: bundle_with(**{"model.psc": b"not an artefact"}),
    "other recipe": lambda: bundle_with(**{"recipe.json": Recipe.of(bits=3).to_json().encode()}),
    "bad recipe": lambda: bundle_with(**{"recipe.yaml": b"[" * 5000}),
    "many": lambda: zipped({f"{i}.json": b"{}" for i in range(1000)}),
    "two recipes": lambda: zipped({"a.json": b'{"version": 1}', "b.json": Recipe.of(bits=3).to_json().encode()}),
    "nothing": lambda: zipped({}),
    "cut": lambda: exported("bundle")[1][:-30],
    "half": lambda: exported("bundle")[1][: len(exported("bundle")[1]) // 2],
    "text": lambda: b"PK are two letters",
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_zip_that_is_no_bundle_is_refused(case: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompressionError):
        opened(HOSTILE[case](), "upload.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_changed_member_is_told_by_its_checksum() -> None:
    members = open_bundle(exported("bundle")[1])
    assert tuple(members) == MEMBERS
    for name in MEMBERS[:-1]:
        changed = zipped({**members, name: members[name] + b" "})
        with pytest.raises(ArtefactError, match="must match its checksums"):
            open_bundle(changed)


def test_a_name_that_occurs_twice_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("a.json", '{"version": 1}')
    with pytest.raises(ArtefactError, match="different names"):
        opened(buffer.getvalue(), "a.zip")


@pytest.mark.slow
def test_nothing_of_a_bundle_is_run(tmp_path) -> None:
    mark = tmp_path / "mark"
    script = f"import pathlib; pathlib.Path({str(mark)!r}).touch()".encode()
    assert opened(bundle_with(**{"reader.py": script}), "a.bundle.zip").recipe == RECIPE
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"source": "0" * 64}, {"architecture": "lenet-6"}], ids=["weights", "model"])
def test_an_artefact_of_something_else_is_refused(change: dict[str, str]) -> None:
    data = codec.write(dataclasses.replace(original().compressed, **change))
    with pytest.raises(ArtefactError, match=r"an artefact must (come from the weights|be of a model that is here)"):
        opened(data, "x.psc")
    with pytest.raises(ArtefactError):
        opened(bundle_with(**{"model.psc": data}), "x.zip")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty.psc"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture.psc"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture.json"),
        (b"{", "x.json"),
        (b"[" * 200_000, "x.json"),
        (b'{"version": 2}', "x.json"),
        (b"hello", "x"),
        (bytes(LARGEST + 1), "x.psc"),
    ],
    ids=["empty", "picture", "picture as recipe", "half", "deep", "version", "no name", "huge"],
)
def test_what_was_never_exported_is_refused(data: bytes, name: str) -> None:
    with pytest.raises(CompressionError):
        opened(data, name)


def test_a_cut_or_changed_artefact_is_refused() -> None:
    data = exported("artefact")[1]
    for changed in (data[:-1], data + b"x", data[:400] + bytes([data[400] ^ 1]) + data[401:]):
        with pytest.raises(ArtefactError):
            opened(changed, "x.psc")
