"""ONNX files of float networks, by the door for files of anybody."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base.batch import joined, length, mapped, parts
from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason
from paretoscope.networks.origins.origin import Opened, Options, existing, refuse_options, suffixed

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch


class Onnx:
    name = "onnx"
    title = "ONNX"
    summary = "A file of floats, opset 9 or later; external data lie beside it. Compared with ONNX Runtime."
    reference = "onnx.ai, Open Neural Network Exchange"
    form = "FILE.onnx"
    place = 20

    def takes(self, text: str) -> bool:
        return suffixed(text, ".onnx")

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.graph.doors import read_onnx

        refuse_options(options, weights="an ONNX file has its weights")
        path = existing(text)
        return Opened(read_onnx(path, options.inputs), "", _session(path))


def _session(path: Path) -> "Callable[[Batch], Any]":
    """Runs the file itself in ONNX Runtime, in batches of the size that the file fixes, if it does."""
    import torch

    from paretoscope.base.libraries import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors have no common base but this
        raise _refused(error) from None
    inputs = session.get_inputs()
    fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None

    def run(batch: "Batch") -> Any:
        feeds = {each.name: tensor.numpy() for each, tensor in zip(inputs, parts(batch), strict=True)}
        try:
            return [torch.from_numpy(each) for each in session.run(None, feeds)]
        except Exception as error:
            raise _refused(error) from None

    def in_pieces(batch: "Batch") -> Any:
        n, size = length(batch), fixed or length(batch)
        # Samples that fill the last batch up are cut off again.
        filled = mapped(batch, lambda each: each.repeat(-(-size // n) + 1, *[1] * (each.ndim - 1)))
        pieces = [run(joined(tuple(each[s : s + size] for each in parts(filled)))) for s in range(0, n, size)]
        return [torch.cat(each)[:n] for each in zip(*pieces, strict=True)]

    return in_pieces


def _refused(error: Exception) -> ModelError:
    return ModelError(
        f"an ONNX file must run in ONNX Runtime, to be compared with; it says: {reason(error, 300)}. Export it again."
    )


ORIGINS = (Onnx(),)
