"""Work in a process of its own, which a cancel ends at once."""

import subprocess
import tempfile

from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.places import SOURCES
from paretoscope.base.progress import Progress

# Far above what a conversion takes here; chosen by hand, no benchmark.
PATIENCE_S = 1800


@machine(exclusive=False)
def run_process(command: list[str], progress: Progress, patience: float = PATIENCE_S) -> None:
    """Run a command without showing its output; `progress` is asked meanwhile, and what it raises ends the process.

    No timing runs beside it, unless `progress` lets go of the machine.
    Raises ModelError with the end of the output when it fails or takes longer than `patience` seconds.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=SOURCES)
        try:
            waited = 0.0
            while process.poll() is None and waited < patience:
                progress.report()
                try:
                    process.wait(0.2)
                except subprocess.TimeoutExpired:
                    waited += 0.2
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            return
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        reason = lines[-1][:300] if waited < patience else f"it took longer than {patience:.0f} s"
    raise ModelError(f"a process of the conversion failed; it says: {reason}")
