"""The runtime answers like the baseline, and is timed beside it."""

import paretoscope
from paretoscope.cli.main import app
from paretoscope.runtimes import runtimes
from typer.testing import CliRunner


def test_it_is_timed_against_the_baseline() -> None:
    assert "torch-channels-last" in runtimes
    record = paretoscope.evaluate(paretoscope.compress("lenet-5", "int8"), runtime="torch-channels-last")
    assert record.latency is not None and record.latency.runtime == "torch-channels-last"
    assert record.latency.speedup_low <= record.latency.speedup <= record.latency.speedup_high
    assert record.latency.pairs > 0 and record.latency.median_ms > 0


def test_the_command_line_times_it_too() -> None:
    done = CliRunner().invoke(app, ["evaluate", "lenet-5", "--bits", "8", "--runtime", "torch-channels-last"])
    assert done.exit_code == 0 and "torch-channels-last fp32, batch 1" in done.stdout
