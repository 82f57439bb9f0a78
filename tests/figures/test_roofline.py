import pytest
from paretoscope.figures import roofline
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.measure.layers import OTHER
from paretoscope.measure.machine import Machine
from paretoscope.measure.roofline import LayerWork

MACHINE = Machine(
    name="a processor",
    threads=1,
    flops=2e11,
    int8_ops=8e11,
    convolution=(1e11, 3e11),
    depthwise=(2e10, 1e10),
    curve=((1 << 14, 4e11), (1 << 20, 1e11), (1 << 28, 1e10)),
    other_bandwidth=2e10,
    call_s=3e-6,
    layer_s=5e-7,
    node_s=2e-7,
)
WORK = [
    LayerWork("conv.weight", "conv", 10_000_000, 9000, 36_000, 60_000, 104_000),
    LayerWork("fc.weight", "linear", 250_000, 250_000, 1_000_000, 2000, 2000),
    LayerWork("head.weight", "linear", 100, 100, 400, 40, 40),
    LayerWork("gone.weight", "linear", 1000, 1000, 4000, 400, 400),
    LayerWork(OTHER, OTHER, 0, 0, 0, 1000, 1000, nodes=2),
]
TIMES = {"conv.weight": 400.0, "fc.weight": 50.0, "head.weight": 1.0, "gone.weight": 0.0, OTHER: 49.0}


@pytest.fixture(scope="module")
def data() -> roofline.Roofline:
    return roofline.gather(WORK, TIMES, MACHINE)


def test_layers_lie_at_their_intensity_and_speed(data):
    assert [spot.name for spot in data.spots] == ["conv.weight", "fc.weight", "head.weight"]
    conv, linear, _ = data.spots
    assert conv.intensity == pytest.approx(2e7 / 2e5)
    assert conv.speed == pytest.approx(2e7 / 400e-6)
    # At the machine's peak, above what a convolution of few channels reaches, it would take 100 microseconds.
    assert conv.reached == pytest.approx(0.25)
    assert linear.share == pytest.approx(50 / 500)
    assert [spot.bound for spot in data.spots] == ["compute", "memory", "overhead"]
    assert data.left_out == 1


def test_a_layer_of_many_bytes_is_held_against_its_bandwidth(data):
    linear = data.spots[1]
    held = sum(layer.weight_bytes for layer in WORK) + 164_000
    floor = 1_000_000 / MACHINE.bandwidth_at(held) + 4000 / MACHINE.bandwidth_at(4000)
    assert linear.reached == pytest.approx(floor / 50e-6)


def test_limits_are_labelled(data):
    assert [line.label for line in data.ceilings] == ["fp32 200G", "int8 800G"]
    assert [line.value for line in data.slopes] == pytest.approx([1e10, MACHINE.bandwidth_at(1_204_400), 4e11])
    assert [line.label.split()[0] for line in data.slopes] == ["Memory", "Cache", "L1"]
    assert "Memory 10 GB/s" in data.alt
    assert "conv.weight, reaches 50 GFLOP/s, 25 % of its roof" in data.alt


def test_slopes_that_lie_close_are_one():
    flat = Machine.from_dict({**MACHINE.to_dict(), "curve": [[1 << 14, 1.2e10], [1 << 28, 1e10]]})
    assert [line.label for line in roofline.gather(WORK, TIMES, flat).slopes] == ["Memory 10 GB/s"]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_shape_says_the_bound_and_area_the_time(data, theme, validated):
    figure = validated(roofline.draw(data, theme))
    layers = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert {name: trace.marker.symbol for name, trace in layers.items()} == {
        "arithmetic": "circle",
        "bytes": "square",
        "overhead": "diamond",
    }
    assert layers["arithmetic"].x[0] == pytest.approx(100)
    assert layers["arithmetic"].y[0] == pytest.approx(5e10)
    large, small = layers["arithmetic"].marker.size[0], layers["bytes"].marker.size[0]
    assert (small / large) ** 2 == pytest.approx(50 / 400)
    assert "10,000,000 MACs, 200 KB: 1e+02 operations a byte" in layers["arithmetic"].hovertext[0]
    assert "25 % of its roof" in layers["arithmetic"].hovertext[0]
    texts = [note.text for note in figure.layout.annotations]
    assert texts[-1] == "1 layer not timed"
    assert "fp32 200G" in texts


def test_roofs_meet_at_the_ridge(data, validated):
    figure = validated(roofline.draw(data))
    memory, cache, nearest, peak, integers = [trace for trace in figure.data if trace.mode == "lines"]
    assert (memory.x[-1], memory.y[-1]) == pytest.approx((20, 2e11))
    assert nearest.x[-1] == pytest.approx(peak.x[0]) == pytest.approx(0.5)
    assert cache.y[0] / cache.x[0] == pytest.approx(cache.y[1] / cache.x[1])
    assert (integers.y[0], integers.line.dash, peak.line.dash) == (8e11, "dot", "solid")


def test_all_layers_lie_within_the_axes(data):
    figure = roofline.draw(data)
    left, right = (10**end for end in figure.layout.xaxis.range)
    low, high = (10**end for end in figure.layout.yaxis.range)
    for spot in data.spots:
        assert left < spot.intensity < right
        assert low < spot.speed < high


def test_integer_layers_are_held_against_their_own_peak(validated):
    work = [LayerWork("fc.weight", "linear", 8_000_000, 1000, 1000, 500, 500, integer=True)]
    data = roofline.gather(work, {"fc.weight": 40.0}, MACHINE)
    assert data.spots[0].reached == pytest.approx(16e6 / 8e11 / 40e-6)
    figure = validated(roofline.draw(data))
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert lines[0].y[-1] == 8e11
    assert lines[-1].line.dash == "solid"
    assert "400 GOP/s" in figure.data[-1].hovertext[0]


def test_without_times_there_is_a_roof_and_a_sentence(validated):
    data = roofline.gather(WORK, {}, MACHINE)
    assert data.spots == ()
    assert data.alt.endswith("no layer was timed.")
    figure = validated(roofline.draw(data))
    assert figure.layout.annotations[-1].text == "4 layers not timed"
