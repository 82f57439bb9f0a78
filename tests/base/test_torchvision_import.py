"""Each case runs in a fresh interpreter: an import, and the declaration of an operator, cannot be undone."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run(script: str, *, path: str = "") -> str:
    """What the script prints, with `path` searched before the installed packages."""
    prefix = f"import sys; sys.path.insert(0, {path!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-c", prefix + textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_models_and_transforms_work_whatever_the_wheel():
    script = """
        from paretoscope.base.torchvision_import import import_torchvision
        torchvision = import_torchvision()
        assert import_torchvision() is torchvision
        import torch
        from torchvision.transforms.v2 import functional
        print(tuple(functional.resize(torch.zeros(1, 1, 8, 8), [4, 4]).shape))
        print(torchvision.models.mobilenet_v2(num_classes=3)(torch.zeros(2, 3, 32, 32)).shape[1])
    """
    assert run(script) == "(1, 1, 4, 4)\n3"


def test_importing_the_zoo_does_not_load_torchvision():
    assert run("import paretoscope.networks.zoo, sys; print({'torchvision', 'sklearn'} & set(sys.modules))") == "set()"


# Stand-ins for torchvision's package, so that both kinds of wheel are met on every machine.
MATCHING = "kind = 'matching'"
MISMATCHED = """
import torch
from torchvision import before
@torch.library.register_fake("torchvision::nms")
def _(dets, scores, iou_threshold): ...
@torch.library.register_fake("torchvision::qnms")
def _(dets, scores, iou_threshold): ...
kind = "mismatched"
"""
BROKEN = "raise RuntimeError('something else')"


def stand_in(folder, source: str) -> str:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    (package / "before.py").write_text("import builtins\nbuiltins.loads = getattr(builtins, 'loads', 0) + 1\n")
    return str(folder)


def test_nothing_is_declared_when_the_plain_import_works(tmp_path):
    script = """
        from paretoscope.base import torchvision_import
        print(torchvision_import.import_torchvision().kind)
        import torch
        print(torchvision_import._declarations, hasattr(torch.ops.torchvision, "nms"))
    """
    assert run(script, path=stand_in(tmp_path, MATCHING)) == "matching\nNone False"


def test_operators_are_declared_when_they_are_missing_and_the_import_starts_afresh(tmp_path):
    script = """
        from paretoscope.base import torchvision_import
        print(torchvision_import.import_torchvision().kind)
        import builtins, gc, torch
        gc.collect()
        print(builtins.loads, hasattr(torch.ops.torchvision, "nms"), hasattr(torch.ops.torchvision, "qnms"))
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except NotImplementedError:
            print("no kernel")
    """
    assert run(script, path=stand_in(tmp_path, MISMATCHED)) == "mismatched\n2 True True\nno kernel"


def test_an_import_that_someone_else_tried_before_does_not_matter(tmp_path):
    script = """
        try:
            import torchvision
        except RuntimeError:
            print("failed")
        from paretoscope.base.torchvision_import import import_torchvision
        print(import_torchvision().kind)
    """
    assert run(script, path=stand_in(tmp_path, MISMATCHED)) == "failed\nmismatched"


def test_other_failures_are_passed_on_and_declare_nothing(tmp_path):
    script = """
        from paretoscope.base import torchvision_import
        try:
            torchvision_import.import_torchvision()
        except RuntimeError as error:
            print(error, torchvision_import._declarations)
    """
    assert run(script, path=stand_in(tmp_path, BROKEN)) == "something else None"
