"""Encodes and decodes arrays with NNCodec at several settings; runs in NNCodec's own environment, not in ours.

    python nncodec_worker.py IN.npz OUT_PREFIX SETTINGS.json

SETTINGS.json is a list of arguments of `nncodec.nnc.compress`. Writes OUT_PREFIX<i>.npz, the decoded arrays, for each,
and prints a JSON list of {"bytes", "encode_s", "decode_s"}.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import time

import numpy as np
from nncodec import nnc


def main(source: str, prefix: str, settings: str) -> None:
    arrays = dict(np.load(source))
    rows = []
    with open(settings) as file, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bitstream.nnc")
        for place, arguments in enumerate(json.load(file)):
            given = {name: array.copy() for name, array in arrays.items()}
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                nnc.compress(given, bitstream_path=path, **arguments)
            encoded = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                decoded = nnc.decompress(path)
            ended = time.perf_counter()
            np.savez(f"{prefix}{place}.npz", **decoded)
            rows.append({"bytes": os.path.getsize(path), "encode_s": encoded - start, "decode_s": ended - encoded})
    print(json.dumps(rows))


main(*sys.argv[1:])
