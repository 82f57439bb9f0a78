"""A forward pass of another thread, in the middle of a trace, is what it would be without."""

import threading

import pytest
import torch
from paretoscope.methods import fold
from torch import nn


class Halted(nn.Module):
    """A network whose forward pass lets another thread run in its middle."""

    def __init__(self, meanwhile) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
        self._meanwhile = meanwhile

    def forward(self, x):
        found = self.conv(x)
        self._meanwhile()
        return self.norm(found)


def in_a_thread(work) -> list:
    found: list = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(300)
    return found


@pytest.mark.parametrize("shared", [False, True], ids=["another network", "a part of this one"])
def test_a_forward_pass_beside_a_trace_is_not_traced(shared: bool) -> None:
    results: list = []
    module = Halted(lambda: results.extend(in_a_thread(lambda: beside(images))))
    beside = module.conv if shared else nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU())
    images = torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        wanted = beside(images)
    assert fold.convolutions_with_norms(module.eval()) == (("conv", "norm"),)
    (found,) = results
    assert type(found) is torch.Tensor and torch.equal(found.detach(), wanted)


def test_traces_of_two_threads_leave_nothing_patched() -> None:
    call = nn.Module.__call__
    entered, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go_on.wait(300)

    first = threading.Thread(target=lambda: fold.convolutions_with_norms(Halted(wait).eval()))
    second = threading.Thread(target=lambda: fold.convolutions_with_norms(Halted(lambda: None).eval()))
    first.start()
    assert entered.wait(300)
    second.start()
    go_on.set()
    for thread in (first, second):
        thread.join(300)
    assert nn.Module.__call__ is call
