"""How many threads libraries may use. Small work is done on one: waking workers costs more than they save."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compression.runtimes.libraries import onnxruntime


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Within, PyTorch's operators use so many threads. The setting belongs to the process, so it is put back after."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of an ONNX Runtime session that runs one operator after the other, each on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Workers spin within a run, as in any application, but not after it, beside the session it is compared with.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def open_session(data: bytes, options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU, on one thread unless the options say otherwise."""
    return onnxruntime.InferenceSession(data, options or session_options(1), providers=["CPUExecutionProvider"])
