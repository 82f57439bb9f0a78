import pytest
from paretoscope.figures import devices as figure
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.measure.devices import devices, edited, project
from paretoscope.measure.roofline import LayerWork

BEFORE = [LayerWork("fc.weight", "linear", 1_000_000, 1_000_000, 4_000_000, 4000, 4000)]
AFTER = [LayerWork("fc.weight", "linear", 100_000, 100_000, 400_000, 4000, 4000)]
HERE, MEASURED = figure.Pair(0.1, 0.02), figure.Pair(0.15, 0.03)


def projections(current=AFTER):
    return [(device, project(BEFORE, 100, device), project(current, 10, device)) for device in devices]


def test_rows_are_this_machine_and_the_devices():
    data = figure.gather(projections(), HERE, MEASURED)
    assert [row.title for row in data.rows] == [figure.THIS_MACHINE, *(device.title for device in devices)]
    assert data.rows[0].measured == MEASURED
    device, before, after = projections()[1]
    assert data.rows[2] == figure.DeviceRow(device.title, figure.Pair(1e3 * before.seconds, 1e3 * after.seconds))
    assert "This machine 0.02 ms, measured 0.03 ms" in data.alt


def test_without_an_estimate_for_this_machine_it_has_no_row():
    assert [row.title for row in figure.gather(projections()).rows] == [device.title for device in devices]


def test_what_does_not_fit_is_said(validated):
    data = figure.gather(projections(BEFORE))
    assert [row.lacks for row in data.rows] == ["", "", "flash", ""]
    assert "Microcontroller" in data.alt
    assert "does not fit into its flash" in data.alt
    labels = validated(figure.draw(data)).layout.yaxis.ticktext
    assert ["exceeds its flash" in label for label in labels] == [False, False, True, False]
    small = edited(devices.get("microcontroller"), ram_bytes=100, flash_bytes=200)
    both = figure.gather([(small, project(BEFORE, 1, small), project(AFTER, 1, small))])
    assert both.rows[0].lacks == "flash and RAM"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_estimates_are_hollow_and_measurements_filled(theme, validated):
    drawn = validated(figure.draw(figure.gather(projections(), HERE, MEASURED), theme))
    symbols = {trace.name: trace.marker.symbol for trace in drawn.data if trace.mode == "markers"}
    assert symbols == {
        "Baseline, estimate": "star-open",
        "Baseline, measured": "star",
        "Current, estimate": "circle-open",
        "Current, measured": "circle",
    }
    traces = {trace.name: trace for trace in drawn.data}
    assert (traces["Current, measured"].x, traces["Current, measured"].y) == ((0.03,), (figure.THIS_MACHINE,))
    assert len(traces["Current, estimate"].x) == 5
    low, high = (10**end for end in drawn.layout.xaxis.range)
    assert all(low < x < high for trace in drawn.data if trace.mode == "markers" for x in trace.x)


def test_no_measurement_no_filled_marker(validated):
    drawn = validated(figure.draw(figure.gather(projections())))
    assert [trace.name for trace in drawn.data if trace.mode == "markers"] == [
        "Baseline, estimate",
        "Current, estimate",
    ]
