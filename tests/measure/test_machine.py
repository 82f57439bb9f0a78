import itertools
import json

import numpy as np
import pytest
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.progress import Calling
from paretoscope.measure import machine as module
from paretoscope.measure.machine import Machine, measure_machine, processor_name

MACHINE = Machine(
    name="a processor",
    threads=2,
    flops=2e11,
    int8_ops=8e11,
    convolution=(1e11, 3e11),
    depthwise=(2e10, 1e10),
    curve=((1 << 14, 4e11), (1 << 16, 1e11), (1 << 20, 1e10)),
    other_bandwidth=2e10,
    call_s=3e-6,
    layer_s=5e-7,
    node_s=2e-7,
)


@pytest.fixture(scope="module")
def measured() -> Machine:
    return measure_machine(passes=1, largest=1 << 18)


def test_figures_are_positive_and_arithmetic_of_small_kernels_is_below_the_peak(measured):
    figures = (measured.flops, measured.int8_ops, *measured.convolution, *measured.depthwise, measured.other_bandwidth)
    assert all(figure > 0 for figure in (*figures, measured.call_s, measured.layer_s, measured.node_s))
    assert measured.threads == 1
    assert measured.name == processor_name() != ""


def test_the_curve_goes_up_in_size_and_never_up_in_speed(measured):
    sizes, speeds = zip(*measured.curve, strict=True)
    assert sizes == (1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18)
    assert all(near >= far > 0 for near, far in itertools.pairwise(speeds))
    assert measured.bandwidth == speeds[-1]


def test_the_kernel_that_reads_reads_everything():
    values = np.arange(1000, dtype=np.float32)
    # Each of the three times, the first value is one larger.
    assert module._sum(values.copy(), 3) == pytest.approx(3 * 499_500 + 1 + 2 + 3)


def test_arrays_that_are_read_start_with_a_cache_line():
    for count in (1, 100, 4096):
        values = module._aligned(count)
        assert values.size == count
        assert values.ctypes.data % 64 == 0


def test_a_check_ends_the_measurement_between_its_pieces():
    calls = itertools.count(1)

    class Ended(Exception):
        pass

    def check(*_: object) -> None:
        if next(calls) == 3:
            raise Ended

    with pytest.raises(Ended):
        measure_machine(progress=Calling(check))
    assert next(calls) == 4


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_must_be_a_number_of_at_least_one(threads):
    with pytest.raises(ModelError, match="threads must be a whole number of at least 1"):
        measure_machine(threads)


def test_bandwidth_is_interpolated_on_log_axes_and_constant_beyond_the_ends():
    for size, speed in MACHINE.curve:
        assert MACHINE.bandwidth_at(size) == pytest.approx(speed)
    assert MACHINE.bandwidth_at(1 << 15) == pytest.approx(2e11)
    assert MACHINE.bandwidth_at(1 << 18) == pytest.approx(10**10.5)
    assert MACHINE.bandwidth_at(0) == pytest.approx(4e11)
    assert MACHINE.bandwidth_at(1 << 30) == pytest.approx(1e10) == MACHINE.bandwidth
    assert MACHINE.cache_bandwidth == MACHINE.bandwidth_at(module.SMALL_MODEL)


def test_peak_and_overhead_are_those_of_the_kind():
    assert [MACHINE.peak("linear", integer) for integer in (False, True)] == [2e11, 8e11]
    assert [MACHINE.peak("conv", integer) for integer in (False, True)] == [1e11, 3e11]
    assert [MACHINE.peak("depthwise conv", integer) for integer in (False, True)] == [2e10, 1e10]
    assert MACHINE.overhead("conv") == MACHINE.overhead("depthwise conv") == 5e-7
    assert MACHINE.overhead("linear") == MACHINE.overhead("other") == 2e-7


def test_steps_without_weights_move_their_bytes_at_their_own_speed():
    assert MACHINE.activation_bandwidth("conv", 1 << 14) == pytest.approx(4e11)
    assert MACHINE.activation_bandwidth("other", 1 << 14) == 2e10
    assert MACHINE.activation_bandwidth("other", 1 << 20) == pytest.approx(1e10)


def test_a_machine_survives_json(measured):
    for machine in (MACHINE, measured):
        assert Machine.from_dict(json.loads(json.dumps(machine.to_dict()))) == machine


@pytest.mark.parametrize(
    "change",
    [
        {"flops": 0.0},
        {"call_s": float("nan")},
        {"curve": []},
        {"curve": [[1024, -1.0]]},
        {"convolution": [1.0]},
        {"threads": "two"},
        {"node_s": None},
    ],
)
def test_a_damaged_machine_is_refused(change):
    with pytest.raises(CompressionError, match="Measure it again"):
        Machine.from_dict({**MACHINE.to_dict(), **change})
