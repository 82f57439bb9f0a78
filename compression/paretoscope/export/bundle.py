"""The bundle: everything about one compressed model in a zip, with a reader that needs none of our code."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paretoscope import codec
from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.base.files import temporary_folder
from paretoscope.export.base import Format, Original, expect_figures, same_as_screen, versioned
from paretoscope.export.onnx import fp32, int8
from paretoscope.export.processes import run_process
from paretoscope.export.recipes import recipe_files
from paretoscope.export.zips import LARGEST, unzip, zipped
from paretoscope.graph.trace import output_names
from paretoscope.measure.record import Record
from paretoscope.measure.wording import share_touched, smaller
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.file import read_fields
from paretoscope.runtimes.onnx_graph import Arrays
from paretoscope.tasks.plain import figure

READER = Path(codec.__file__).with_name("reader.py")
CHECKSUMS = "SHA256SUMS"
MEMBERS = ("model.psc", "recipe.json", "recipe.yaml", "model.onnx", "record.json", "reader.py", "README.md", CHECKSUMS)

README = """\
# {title}, compressed

{recipe}

| | |
| --- | --- |
| {name} | {value}, {told} ({dataset}) |
| {name} of the fp32 network | {baseline} |
| size of `model.psc` | {size:,} bytes, {ratio} than fp32 |

One command, run in a checkout of Paretoscope, reproduces every figure of `record.json`:

    python -m paretoscope evaluate model.psc --runtime none --json

`model.psc` says the main ones itself (`python -m paretoscope inspect model.psc`). Its length does not depend on them,
and the digest `artefact` of `record.json` is that of the file without them, as `compress` writes it.

`recipe.json` and `recipe.yaml` are the recipe. With the weights of {model}, it gives `model.psc` again, byte for byte:

    python -m paretoscope export {model} --recipe recipe.json --format artefact --out model.psc

`model.onnx` is the graph for other runtimes: {ends}; {arithmetic}.

`reader.py` needs NumPy and constriction, and nothing else. It decodes the weights into a NumPy archive:

    python reader.py model.psc weights.npz

`SHA256SUMS` has the checksum of each file: `sha256sum -c SHA256SUMS`.
"""


def _write(original: Original) -> dict[str, bytes]:
    return {f"{original.stem}.bundle.zip": zipped(_members(original))}


def _members(original: Original) -> dict[str, bytes]:
    record, task = original.record, original.subject.task
    readme = README.format(
        title=original.compressed.architecture,
        recipe="\n\n".join([original.recipe.describe(), *original.compressed.notes]),
        name=task.words.name,
        value=figure(task.words, record.figures.value),
        told=task.told(record.figures),
        dataset=record.dataset,
        baseline=figure(task.words, record.baseline.value),
        size=record.size.artefact,
        ratio=", ".join(filter(None, [smaller(record.ratio), share_touched(record.touched)])),
        model=record.model,
        ends=_ends(original),
        arithmetic="int8 (QDQ)" if original.recipe.integer else "float32",
    )
    as_json, as_yaml = recipe_files(original.compressed)
    members = {
        "model.psc": original.exported,
        "recipe.json": as_json,
        "recipe.yaml": as_yaml,
        "model.onnx": (int8 if original.recipe.integer else fp32)(original),
        "record.json": f"{record.to_json(indent=2)}\n".encode(),
        "reader.py": READER.read_bytes(),
        "README.md": readme.encode(),
    }
    return {**members, CHECKSUMS: checksums(members)}


def _ends(original: Original) -> str:
    """Inputs and outputs of the graph, for a person."""
    inputs = [f"input `{i.name}`, {i.dtype} (n, {', '.join(map(str, i.shape))})" for i in original.inputs]
    outputs = [f"output `{name}`" for name in output_names(len(original.subject.network.outputs))]
    return "; ".join([*inputs, *outputs])


def checksums(members: Mapping[str, bytes]) -> bytes:
    """One line a file, as `sha256sum` writes and checks them."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items()).encode()


def open_bundle(data: bytes, largest: int = LARGEST) -> dict[str, bytes]:
    """The members of a bundle, by name; nothing is written to disk. Raises ArtefactError for anything else.

    largest: see `unzip`.
    """
    members = unzip(data, largest)
    if sorted(members) != sorted(MEMBERS):
        raise ArtefactError(
            f"a bundle must hold {', '.join(MEMBERS)} and nothing else; got "
            f"{', '.join(map(repr, list(members)[:8]))[:200] or 'nothing'}. Pass a bundle as it was exported."
        )
    if members[CHECKSUMS] != checksums({name: members[name] for name in MEMBERS if name != CHECKSUMS}):
        raise ArtefactError("the files of a bundle must match its checksums; one does not. Copy it again.")
    return members


def hold_recipe_of(members: Mapping[str, bytes], compressed: CompressedModel) -> bool:
    """Whether both files of the recipe say what the artefact says; raises RecipeError where one is none."""
    return all(read_fields(members[name], name) == compressed.told for name in ("recipe.json", "recipe.yaml"))


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
    (data,) = files.values()
    members = open_bundle(data, sys.maxsize)
    if members["reader.py"] != READER.read_bytes():
        raise ModelError("the bundle must hold the reader of this version; it holds another, which is not run")
    if Record.from_dict(json.loads(members["record.json"])) != original.record:
        raise ModelError("the bundle must hold the record of this model; it holds another")
    if not hold_recipe_of(members, original.compressed):
        raise ModelError("the bundle must hold the recipe; it holds another")
    compressed = codec.read(members["model.psc"])
    expect_figures(members["model.psc"], original)
    _expect_reader_agrees(members, original)
    return original.rebuilt(compressed)


def _expect_reader_agrees(members: Mapping[str, bytes], original: Original) -> None:
    """Run the reader, as anyone would, and compare what it decodes; raises ModelError."""
    with temporary_folder() as folder:
        script, file, out = (folder / name for name in ("reader.py", "model.psc", "weights.npz"))
        script.write_bytes(members["reader.py"])
        file.write_bytes(members["model.psc"])
        run_process([sys.executable, "-I", str(script), str(file), str(out)], original)
        with np.load(out, allow_pickle=False) as arrays:
            for name in original.compressed.order:
                expected = original.compressed.decode(name)
                if name not in arrays or arrays[name].tobytes() != np.ascontiguousarray(expected).tobytes():
                    raise ModelError(f"the reader must decode the tensors bit for bit; {name} differs")


BUNDLE = Format(
    name="bundle",
    title="Bundle",
    summary="A zip: artefact, recipe, ONNX, record, a reader of NumPy and constriction alone, checksums, README.",
    reference="the README inside",
    extension=".bundle.zip",
    runtime=versioned("its own reader, Paretoscope's reader and PyTorch", "torch"),
    promise="bit for bit",
    write=_write,
    run=_run,
    judge=same_as_screen,
    place=20,
)
FORMATS = (BUNDLE,)
