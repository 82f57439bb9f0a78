"""Other devices: how long a network would take on them, and whether it fits, by roofline. Estimates, nothing else.

Every figure of a device has its source in the entry; what is derived or assumed is said to be. All are of one core.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.registry import Registry
from paretoscope.measure.roofline import LayerEstimate, LayerWork, estimate, peak_activation_bytes
from paretoscope.model.kinds import LayerKind

# Horowitz (2014), "Computing's Energy Problem (and what we can do about it)", ISSCC, figure 1.1.9: 45 nm, 0.9 V.
# fp32: multiplication 3.7 pJ, addition 0.9 pJ. int8: multiplication 0.2 pJ, and the 32-bit addition of a sum 0.1 pJ.
# DRAM: 1.3 to 2.6 nJ for 64 bits, of which the lower.
FP32_MAC_J, INT8_MAC_J = 4.6e-12, 0.3e-12
DRAM_BYTE_J = 1.3e-9 / 8
ENERGY_SOURCE = "M. Horowitz, Computing's Energy Problem (and what we can do about it), ISSCC 2014, 45 nm figures"

# What ONNX Runtime takes on a server core at 4 GHz (0.4 and 2.5 microseconds), in cycles.
LAYER_CYCLES, CALL_CYCLES = 1_600, 10_000

_POSITIVE = ("flops", "int8_ops", "bandwidth", "ram_bytes", "layer_s", "call_s", "link_bytes_s")


@dataclass(frozen=True, slots=True)
class Device:
    """One core of a device, with the memory around it.

    flops, int8_ops: peak operations/s, a multiplication and an addition being two. efficiency: the share of those peaks
    that kernels are assumed to reach, in (0, 1]. bandwidth: bytes/s from where weights and activations are. ram_bytes:
    for activations, and for weights too where flash_bytes is 0; otherwise weights are read in flash. layer_s, call_s:
    seconds of overhead a layer and a call. link: by which a model comes to the device, at link_bytes_s. byte_j: joules
    for each byte from memory, None where there is no source. sources: where each figure is from, or how it is derived.

    Raises CompressionError for figures that cannot be.
    """

    name: str
    title: str
    summary: str
    flops: float
    int8_ops: float
    efficiency: float
    bandwidth: float
    ram_bytes: int
    flash_bytes: int
    layer_s: float
    call_s: float
    link: str
    link_bytes_s: float
    byte_j: float | None
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in _POSITIVE:
            self._require(field, "positive", lambda value: value > 0, "Pass a figure above 0 in SI units.")
        self._require("efficiency", "in (0, 1]", lambda value: 0 < value <= 1, "Pass a fraction, e.g. 0.5.")
        self._require("flash_bytes", "at least 0", lambda value: value >= 0, "Pass 0 where weights are kept in RAM.")
        if self.byte_j is not None:
            self._require("byte_j", "at least 0", lambda value: value >= 0, "Pass None where it is not known.")

    def _require(self, field: str, rule: str, holds: Callable[[float], bool], remedy: str) -> None:
        value = getattr(self, field)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and holds(value)):
            raise CompressionError(f"{field} of a device must be {rule}; got {value!r}. {remedy}")

    def peak(self, kind: LayerKind, integer: bool) -> float:
        """Operations/s that kernels are assumed to reach."""
        return self.efficiency * (self.int8_ops if integer else self.flops)

    def bandwidth_at(self, size: float) -> float:
        """Bytes/s: that of memory for a set of any size, since between two calls other work takes the caches."""
        return self.bandwidth

    def activation_bandwidth(self, kind: LayerKind, size: float) -> float:
        """Bytes/s at which activations of any size are read and written: that of memory."""
        return self.bandwidth

    def overhead(self, kind: LayerKind) -> float:
        """Seconds of overhead of a layer of any kind."""
        return self.layer_s


devices: Registry[Device] = Registry("device")


@dataclass(frozen=True, slots=True)
class Projection:
    """An estimate of a network on a device.

    seconds: a call. layers: their times and what bounds each. ram_needed, flash_needed: bytes of the activations that
    must be there at once and of the weights as they are run; fits: whether the device has both. transfer_s: of the
    artefact over the device's link. energy_j: joules of a call's arithmetic and bytes, None without a source.
    assumptions: what all this rests on, in sentences.
    """

    device: str
    seconds: float
    layers: tuple[LayerEstimate, ...]
    ram_needed: int
    flash_needed: int
    fits: bool
    transfer_s: float
    energy_j: float | None
    assumptions: tuple[str, ...]


def project(
    work: Sequence[LayerWork],
    artefact_bytes: int,
    device: Device,
    number_format: str = "fp32",
    activation_bytes: int | None = None,
) -> Projection:
    """The estimate for the work of a network (`layer_work` in that number format) whose file has `artefact_bytes`.

    activation_bytes: the most that must be in memory at once; None for what the largest layer reads and writes.
    """
    found = estimate(work, device)
    weights = sum(layer.weight_bytes for layer in work)
    activations = peak_activation_bytes(work) if activation_bytes is None else activation_bytes
    in_flash = device.flash_bytes > 0
    ram, flash = (activations, weights) if in_flash else (activations + weights, 0)
    return Projection(
        device=device.name,
        seconds=found.seconds,
        layers=found.layers,
        ram_needed=ram,
        flash_needed=flash,
        fits=ram <= device.ram_bytes and flash <= device.flash_bytes,
        transfer_s=artefact_bytes / device.link_bytes_s,
        energy_j=_energy(work, device),
        assumptions=_assumptions(device, number_format, in_flash),
    )


def _energy(work: Sequence[LayerWork], device: Device) -> float | None:
    if device.byte_j is None:
        return None
    arithmetic = math.fsum(layer.macs * (INT8_MAC_J if layer.integer else FP32_MAC_J) for layer in work)
    return arithmetic + device.byte_j * sum(layer.bytes for layer in work)


def _assumptions(device: Device, number_format: str, in_flash: bool) -> tuple[str, ...]:
    place = "Weights are read in flash, activations are in RAM." if in_flash else "Weights and activations are in RAM."
    lines = [
        f"An estimate by roofline for one core; layers run in {number_format} where the recipe allows it.",
        f"Kernels reach {100 * device.efficiency:.0f} % of the peak, and all of the bandwidth.",
        "Nothing is left in the caches between two calls.",
        f"A layer costs {1e6 * device.layer_s:.2g} µs and a call {1e6 * device.call_s:.2g} µs beside its work.",
        f"{place} They are decoded, not compressed; the program itself is not counted.",
        "Of the activations, only what the largest layer reads and writes is counted.",
        f"The file comes over {device.link}.",
    ]
    if device.byte_j is not None:
        lines.append(f"Energy is of arithmetic and memory alone, in an old 45 nm process: {ENERGY_SOURCE}.")
    return tuple(lines)


def _overheads(clock: float) -> dict[str, float]:
    return {"layer_s": LAYER_CYCLES / clock, "call_s": CALL_CYCLES / clock}


_OVERHEAD_SOURCE = (
    f"Overhead: assumed, {LAYER_CYCLES:,} cycles a layer and {CALL_CYCLES:,} a call, as ONNX Runtime takes on a server."
)
_HALF = "Efficiency: assumed, half of the peak."

PHONE = devices.add(
    Device(
        name="phone",
        title="Phone, big core",
        summary="The prime core of a Snapdragon 855: an Arm Cortex-A76 at 2.84 GHz, with 8-bit dot products.",
        flops=2.84e9 * 16,
        int8_ops=2.84e9 * 64,
        efficiency=0.5,
        bandwidth=4 * 2 * 4.266e9 / 2,
        ram_bytes=6 * 1000**3,
        flash_bytes=0,
        **_overheads(2.84e9),
        link="a mobile network at 100 Mbit/s",
        link_bytes_s=12.5e6,
        byte_j=DRAM_BYTE_J,
        sources=(
            "Clock and memory (four channels of 16 bits, LPDDR4X-4266): WikiChip, Qualcomm Snapdragon 855.",
            "Peak: derived, clock x 16 fp32 and x 64 int8 operations a cycle, as measured on a Cortex-A76 at 2.4 GHz "
            "(38.4 GFLOP/s, 153.5 GOP/s): cpufp, benchmark_result/arm64/Broadcom_BCM2712.md.",
            "Bandwidth: derived, half of 34.1 GB/s; one core's share is assumed.",
            "RAM: assumed, 6 GB, as phones of this class had.",
            "Link: assumed, what IMT-Advanced (4G) aims at for a receiver that moves.",
            _HALF,
            _OVERHEAD_SOURCE,
        ),
    )
)

RASPBERRY_PI = devices.add(
    Device(
        name="raspberry-pi",
        title="Raspberry Pi 4",
        summary="An Arm Cortex-A72 at 1.5 GHz, without 8-bit dot products; 4 GB of memory.",
        flops=11.958e9,
        int8_ops=1.5e9 * 16,
        efficiency=0.5,
        bandwidth=2 * 2.5e9,
        ram_bytes=4 * 1000**3,
        flash_bytes=0,
        **_overheads(1.5e9),
        link="Gigabit Ethernet",
        link_bytes_s=125e6,
        byte_j=DRAM_BYTE_J,
        sources=(
            "fp32 peak, measured on one core: cpufp, benchmark_result/arm64/Broadcom_BCM2711.md.",
            "int8 peak: derived, clock x the 8 products of an SMLAL x 2; one such instruction a cycle is assumed.",
            "Bandwidth: derived, a byte read and a byte written for each that memcpy copies (2,460 to 2,550 MB/s at "
            "this clock): sbc-bench, Results.md, Raspberry Pi 4 B.",
            "Clock, memory, link: The Official Raspberry Pi Beginner's Guide, appendix F, Raspberry Pi 4 Model B.",
            _HALF,
            _OVERHEAD_SOURCE,
        ),
    )
)

MICROCONTROLLER = devices.add(
    Device(
        name="microcontroller",
        title="Microcontroller",
        summary="An STM32H743: an Arm Cortex-M7 at 480 MHz, 2 MB of flash, half a megabyte of RAM in one piece.",
        flops=480e6 * 2,
        int8_ops=480e6 * 4,
        efficiency=0.29,
        bandwidth=240e6 * 8,
        ram_bytes=512 * 1024,
        flash_bytes=2 * 1024**2,
        **_overheads(480e6),
        link="Bluetooth Low Energy at 1 Mbit/s",
        link_bytes_s=125e3,
        byte_j=None,
        sources=(
            "Clock, flash, RAM (the AXI SRAM, the largest block of 1 MB in all): STMicroelectronics, STM32H743xI "
            "datasheet (DS12110), features and memories.",
            "Peak: derived, clock x a multiply-add of fp32, or an SMLAD: two products of 16 bits, to which 8 bits are "
            "widened; one such instruction a cycle is assumed.",
            "Efficiency: derived from the 249 million int8 operations/s that a Cortex-M7 at 216 MHz reached, of 4 a "
            "cycle: Lai, Suda and Chandra, CMSIS-NN: Efficient Neural Network Kernels for Arm Cortex-M CPUs, arXiv "
            "1801.06601, 2018, experimental results. Assumed for fp32 too.",
            "Bandwidth: derived, the 64-bit AXI bus at 240 MHz: STM32H743xI datasheet, bus matrix.",
            "Link: assumed, the LE 1M PHY without overhead: Bluetooth Core Specification, volume 6, part A.",
            "Energy: none, there is no figure for flash.",
            _OVERHEAD_SOURCE,
        ),
    )
)

SERVER = devices.add(
    Device(
        name="server-core",
        title="Server core",
        summary="One of 32 cores of an Intel Xeon Gold 6455B: AVX-512 with VNNI, its equal share of the memory.",
        flops=230.28e9,
        int8_ops=998.07e9,
        efficiency=0.5,
        bandwidth=8 * 8 * 4.8e9 / 32,
        ram_bytes=4 * 1024**3,
        flash_bytes=0,
        **_overheads(3.6e9),
        link="10 Gigabit Ethernet",
        link_bytes_s=1.25e9,
        byte_j=DRAM_BYTE_J,
        sources=(
            "Peak, measured on one core, AVX-512 FMA and VNNI, without the matrix unit (AMX): cpufp, "
            "benchmark_result/x64/Intel_Xeon_Gold_6455B.md.",
            "Clock under that load: derived, 230.28 GFLOP/s / 64 a cycle.",
            "Bandwidth: derived, eight channels of DDR5-4800 of 8 bytes (Intel ARK, Xeon Gold 6455B) over 32 cores.",
            "RAM: assumed, 4 GiB a core; link: assumed.",
            _HALF,
            _OVERHEAD_SOURCE,
        ),
    )
)


def edited(device: Device, **figures: float) -> Device:
    """The device with other figures, for a table that a person edits.

    Raises CompressionError for figures that cannot be and for names that no figure has.
    """
    known = {*_POSITIVE, "efficiency", "flash_bytes", "byte_j"}
    if unknown := figures.keys() - known:
        raise CompressionError(
            f"a figure of a device must be one of {', '.join(sorted(known))}; got {', '.join(sorted(unknown))}. "
            "Use one of these names."
        )
    changes: dict[str, Any] = {**figures, "sources": (*device.sources, f"Edited: {', '.join(sorted(figures))}.")}
    return dataclasses.replace(device, **changes)
