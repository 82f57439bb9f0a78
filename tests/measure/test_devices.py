import dataclasses
import math

import pytest
from paretoscope.base.errors import CompressionError, UnknownNameError
from paretoscope.measure.devices import DRAM_BYTE_J, FP32_MAC_J, INT8_MAC_J, Device, devices, edited, project
from paretoscope.measure.layers import OTHER
from paretoscope.measure.roofline import LayerWork, layer_work
from paretoscope.recipe.recipe import Recipe

DEVICE = Device(
    name="slow",
    title="Slow",
    summary="",
    flops=200.0,
    int8_ops=2000.0,
    efficiency=0.5,
    bandwidth=10.0,
    ram_bytes=150,
    flash_bytes=0,
    layer_s=2.0,
    call_s=7.0,
    link="a wire",
    link_bytes_s=4.0,
    byte_j=1.0,
    sources=("made up",),
)
WORK = [
    LayerWork("a", "conv", macs=500, weights=5, weight_bytes=20, input_bytes=8, output_bytes=12),
    LayerWork("b", "linear", macs=50, weights=20, weight_bytes=80, input_bytes=12, output_bytes=8, integer=True),
    LayerWork(OTHER, OTHER, macs=0, weights=0, weight_bytes=0, input_bytes=4, output_bytes=4, nodes=3),
]


def test_a_projection_by_hand():
    found = project(WORK, 100, DEVICE)
    assert found.device == "slow"
    assert [layer.seconds for layer in found.layers] == pytest.approx([10 + 2, 10 + 2, 0.8 + 6])
    assert [layer.bound for layer in found.layers] == ["compute", "memory", "overhead"]
    assert found.seconds == pytest.approx(7 + 12 + 12 + 6.8)
    assert (found.ram_needed, found.flash_needed, found.fits) == (120, 0, True)
    assert found.transfer_s == 25
    assert found.energy_j == pytest.approx(500 * FP32_MAC_J + 50 * INT8_MAC_J + 148)


def test_weights_in_flash_leave_the_ram_to_activations():
    device = dataclasses.replace(DEVICE, flash_bytes=100, ram_bytes=20)
    found = project(WORK, 100, device)
    assert (found.ram_needed, found.flash_needed, found.fits) == (20, 100, True)
    assert not project(WORK, 100, edited(device, flash_bytes=99)).fits
    assert not project(WORK, 100, edited(device, ram_bytes=19)).fits
    assert not project(WORK, 100, device, activation_bytes=21).fits


def test_what_does_not_fit_is_said():
    found = project(WORK, 100, edited(DEVICE, ram_bytes=119))
    assert (found.ram_needed, found.fits) == (120, False)


def test_energy_needs_a_source():
    assert project(WORK, 100, dataclasses.replace(DEVICE, byte_j=None)).energy_j is None
    assert any("45 nm" in line for line in project(WORK, 100, DEVICE).assumptions)
    assert not any("45 nm" in line for line in project(WORK, 100, edited(DEVICE, byte_j=None)).assumptions)


def test_assumptions_state_the_figures_that_they_are_about():
    text = " ".join(project(WORK, 100, DEVICE, "int8").assumptions)
    assert "An estimate" in text
    assert "int8" in text
    assert "50 %" in text
    assert "a wire" in text


@pytest.mark.parametrize("field", ["flops", "int8_ops", "bandwidth", "ram_bytes", "layer_s", "call_s", "link_bytes_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, None, "3", True])
def test_a_figure_must_be_positive(field, value):
    with pytest.raises(CompressionError, match=f"{field} of a device must be positive; got"):
        edited(DEVICE, **{field: value})


@pytest.mark.parametrize("value", [0, 1.01, math.nan])
def test_efficiency_is_a_fraction(value):
    with pytest.raises(CompressionError, match=r"efficiency of a device must be in \(0, 1\]"):
        edited(DEVICE, efficiency=value)


@pytest.mark.parametrize("field", ["flash_bytes", "byte_j"])
def test_some_figures_may_be_zero_but_not_negative(field):
    assert getattr(edited(DEVICE, **{field: 0}), field) == 0
    with pytest.raises(CompressionError, match=f"{field} of a device must be at least 0"):
        edited(DEVICE, **{field: -1})


def test_an_edited_device_says_so():
    device = edited(DEVICE, flops=400.0)
    assert device.flops == 400
    assert device.sources == ("made up", "Edited: flops.")
    with pytest.raises(CompressionError, match="got title"):
        edited(DEVICE, title="Fast")


def test_every_registered_device_is_sourced():
    assert len(devices) == 4
    for device in devices:
        text = " ".join(device.sources)
        assert device.title
        assert device.summary
        assert all(word in text.lower() for word in ("peak", "bandwidth", "ram" if "RAM" in text else "memory", "link"))
        assert "fficiency" in text
        assert device.int8_ops >= device.flops
        assert device.byte_j in (None, DRAM_BYTE_J)
    with pytest.raises(UnknownNameError, match="Choose one of: phone"):
        devices.get("toaster")


def test_a_faster_device_is_never_slower(subject):
    work = layer_work(subject, subject.compress(Recipe()))
    device = devices.get("raspberry-pi")
    before = project(work, 1000, device).seconds
    for figure in ("flops", "bandwidth"):
        assert project(work, 1000, edited(device, **{figure: 2 * getattr(device, figure)})).seconds <= before
    assert project(work, 1000, edited(device, layer_s=device.layer_s / 2)).seconds < before
    assert project(work, 1000, devices.get("microcontroller")).seconds > before


def test_integers_shrink_what_must_fit(subject):
    compressed = subject.compress(Recipe.of(bits=8, activations=8))
    floats = project(layer_work(subject, compressed), 1000, devices.get("microcontroller"))
    codes = project(layer_work(subject, compressed, number_format="int8"), 1000, devices.get("microcontroller"), "int8")
    assert codes.flash_needed < 0.3 * floats.flash_needed
    assert codes.seconds < floats.seconds
