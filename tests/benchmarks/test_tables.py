"""Tables of benchmarks that take too long for a test, made of invented figures."""

from types import SimpleNamespace

import pytest
from paretoscope.recipe.presets import presets

from benchmarks import coding, deep_compression, latency, measured, recovery

RATIO = latency.Ratio(1.5, 1.4, 1.6)


def timed(recipe, runtime, number_format, model="a", sibling=None):
    return latency.Row(model, recipe, runtime, number_format, 1.0, 0.02, RATIO, RATIO, sibling)


def test_latency_has_a_line_for_a_recipe_and_runtime():
    rows = [
        timed("baseline", "onnxruntime", "fp32"),
        timed("baseline", "torch", "fp32"),
        timed("int8", "onnxruntime", "int8"),
        timed("int8", "torch", "fp32"),
        timed("95 % sparse", "sparse", "fp32", sibling=RATIO),
        timed("1 of 4 weights", "sparse", "fp32", sibling=RATIO),
        timed("baseline", "onnxruntime", "fp32", model="b"),
        timed("int8", "onnxruntime", "int8", model="b"),
    ]
    kept = [row for row in rows if not latency.repeats(row)]
    assert rows[3] not in kept and len(kept) == len(rows) - 1
    cell = RATIO.cell
    assert latency.across(kept).rows == [
        ("baseline", "ONNX Runtime fp32 takes", "20 us", "20 us"),
        ("baseline", "PyTorch fp32", cell, None),
        ("int8", "ONNX Runtime int8", cell, cell),
        ("95 % sparse", "Sparse kernels fp32", cell, None),
    ]
    assert latency.patterns(kept).rows == [("95 % sparse", cell, None), ("1 of 4 weights", cell, None)]


def trained(size, accuracy, minutes=2.0, **ladder):
    figures = SimpleNamespace(accuracy=accuracy, p_value=0.25, distinguishable=False)
    sizes = SimpleNamespace(artefact=size, **ladder)
    recipe = presets.get("digits-lenet-5").recipe
    record = SimpleNamespace(size=sizes, figures=figures, ratio=1000 / size, recipe=recipe)
    epochs = [SimpleNamespace(validation_accuracy=1.0, seconds=60 * minutes)] * 11
    return SimpleNamespace(record=record, recovery=SimpleNamespace(epochs=epochs, best=0))


def test_recovery_tells_the_smallest_file():
    table = recovery._table("A title")
    table.add("lenet-5", 10.0, *recovery._cells([trained(50, 0.99), trained(20, 0.98)]), 99.9)
    table.add("vit-tiny", None, *recovery._cells([]), 99.9)
    assert table.rows[0][:4] == ("lenet-5", 10.0, 50.0, 20)
    assert table.rows[0][4].endswith("10 epochs")
    assert table.rows[0][5:] == (98.0, 0.25, 2.0, 99.9)
    assert table.rows[1][2:] == ("none", None, None, None, None, None, 99.9)


def test_deep_compression_tells_stages_and_whether_the_wish_was_reached(monkeypatch):
    def training(bench, model, recipe, label):
        found = trained(100 + 10 * recipe.recover.seed, 0.995, packed=400, huffman=200, sparse=800)
        return deep_compression.Result(found.record, found.recovery)

    monkeypatch.setattr(deep_compression, "trained", training)
    baseline = SimpleNamespace(accuracy=0.99, size_bytes=1000)
    bench = SimpleNamespace(subject=lambda model: SimpleNamespace(baseline=baseline))
    stages = measured.Table(measured.columns("net", "preset", "stage", "bytes", "ratio", "test error"))
    row = deep_compression.Row("lenet-5-trained", ratio=9, error=None, pruned=True)
    line = deep_compression.report(bench, "lenet-5", row, [0, 1], stages)
    assert [each[2:] for each in stages.rows] == [
        ("baseline", "1,000", "1x", "1.00 %"),
        ("P", "800 (800 to 800)", "1.2x (1.2 to 1.2)", "0.50 % (0.50 to 0.50)"),
        ("P+Q", "400 (400 to 400)", "2.5x (2.5 to 2.5)", "0.50 % (0.50 to 0.50)"),
        ("P+Q+H", "200 (200 to 200)", "5.0x (5.0 to 5.0)", "0.50 % (0.50 to 0.50)"),
        ("file", "105 (100 to 110)", "9.5x (9.1 to 10.0)", "0.50 % (0.50 to 0.50)"),
    ]
    assert line[:2] == ["lenet-5-mnist", "Trained"]
    assert line[2:4] == [2, "39x, 0.74 % (fp32 0.80 %)"]
    assert line[-2:] == ["9x at no more than 1.00 %: reached", "2.0 (2.0 to 2.0)"]


def test_coding_compares_bytes_at_equal_harm(monkeypatch):
    def curve(factor):
        return [coding.Point(round(factor * size), 10 / size, 0.99) for size in (10, 100, 1000, 10_000, 100_000)]

    monkeypatch.setattr(coding.subjects, "load", lambda name: SimpleNamespace(baseline=SimpleNamespace(accuracy=0.99)))
    monkeypatch.setattr(coding, "theirs", lambda subject, python: [curve(2), curve(3)])
    monkeypatch.setattr(coding, "ours", lambda subject, settings, coder: curve(1 if "rounding" in settings else 2.5))
    table, curves = coding.compare(["a"], None)
    assert [row[:2] for row in table.rows[:2]] == [("a", "NNCodec, KB"), ("", "with data")]
    assert table.rows[1][2:-1] == pytest.approx([0.5] * 6)
    assert table.rows[1][-1] == "<= 0.85: holds"
    assert table.rows[3][-1] == "<= 1.0: MISSED"
    assert coding.accuracies(curves).rows[0] == ("a", "NNCodec", 20, 20, 20)
