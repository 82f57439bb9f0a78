"""The bytes of layers add up to the file, and are those that the report of the file tells."""

import json

import pytest
from paretoscope import codec
from paretoscope.codec.report import report
from paretoscope.measure.layer_bytes import LayerBytes, layer_bytes


@pytest.mark.parametrize("settings", [{}, {"bits": 4}, {"sparsity": 0.5, "clusters": 8, "coder": "huffman"}])
def test_layers_add_up_to_the_file(make, settings) -> None:
    compressed = make(**settings)
    file, found = codec.write(compressed), layer_bytes(compressed)
    told = {row.name: row.bytes for row in report(file).tensors if row.bytes is not None}
    assert dict(found.layers) == told and set(told) == set(compressed.weights)
    assert found.file == len(file) and found.rest > 0
    assert LayerBytes.from_dict(json.loads(json.dumps(found.to_dict()))) == found
