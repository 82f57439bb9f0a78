"""LiteRT (TensorFlow Lite), through litert-torch: for phones and microcontrollers.

litert-torch is large, prints, and brings a second framework along, so it works in a process of its own, which a cancel
ends at once.
"""

import sys
from collections.abc import Mapping

import numpy as np

from paretoscope.base.batch import parts
from paretoscope.base.errors import ModelError
from paretoscope.base.files import temporary_folder
from paretoscope.export import torch_export
from paretoscope.export.base import Format, Original, close_to_decoded, versioned
from paretoscope.export.processes import run_process
from paretoscope.runtimes.onnx_graph import Arrays, arrays

REQUIREMENT = "litert-torch==0.10.0"


def _write(original: Original) -> dict[str, bytes]:
    with temporary_folder() as folder:
        program, out = folder / "model.pt2", folder / "model.tflite"
        # A device asks about one image at a time.
        program.write_bytes(torch_export.save(original.module, parts(original.first(1)), batch=1))
        command = [sys.executable, "-m", "paretoscope.export.tflite_worker", str(program), str(out)]
        run_process(command, original)
        return {f"{original.stem}.tflite": out.read_bytes()}


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
    from ai_edge_litert.interpreter import Interpreter

    (data,) = files.values()
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    given, answers = interpreter.get_input_details(), interpreter.get_output_details()
    # The converter numbers inputs in the order of the program: serving_default_args_0 and so on.
    given = sorted(given, key=lambda each: (len(each["name"]), each["name"]))

    def run(samples: Arrays) -> Arrays:
        for each, array in zip(given, arrays(samples), strict=True):
            interpreter.set_tensor(each["index"], fitted(array, np.dtype(each["dtype"]), each["name"]))
        interpreter.invoke()
        found = tuple(np.asarray(interpreter.get_tensor(each["index"])) for each in answers)
        return found[0] if len(found) == 1 else found

    return original.run(run, chunk=1)


def fitted(array: np.ndarray, wanted: np.dtype, name: str) -> np.ndarray:
    """Integers in the type that a file wants for an input: the converter makes int32 of int64. Raises ModelError where
    one does not fit into it; other types stay, for the interpreter to refuse."""
    if array.dtype == wanted or array.dtype.kind != "i" or wanted.kind not in "iu":
        return array
    least, most = np.iinfo(wanted).min, np.iinfo(wanted).max
    if array.size and not least <= array.min() <= array.max() <= most:
        raise ModelError(
            f"the input {name} of the file takes {wanted.name}, from {least:,} to {most:,}; a sample has "
            f"{array.min():,} to {array.max():,}. Use smaller numbers, or another format."
        )
    return array.astype(wanted)


TFLITE = Format(
    name="tflite",
    title="LiteRT (TFLite)",
    summary="One file, one image at a time: decoded float weights, for phones and small devices.",
    reference="LiteRT documentation, ai.google.dev/edge/litert",
    extension=".tflite",
    runtime=versioned("LiteRT", "ai-edge-litert"),
    promise="the decoded network but for rounding",
    write=_write,
    run=_run,
    judge=close_to_decoded,
    modules=("litert_torch", "ai_edge_litert"),
    install=REQUIREMENT,
    place=80,
)
FORMATS = (TFLITE,)
