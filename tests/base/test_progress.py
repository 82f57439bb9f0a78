"""One protocol of progress: a function, silence, and the part of other work."""

import pytest
from paretoscope.base.progress import SILENT, Calling, Cancelled, Progress, Within


def test_a_function_gets_the_share_the_label_and_the_partial_result() -> None:
    told: list[tuple[object, ...]] = []
    progress: Progress = Calling(lambda *each: told.append(each))
    progress.report()
    progress.report(3, 4, label="layer 3", partial="curves", left=2.0)
    progress.report(0.5)
    assert told == [(None, None, None), (0.75, "layer 3", "curves"), (0.5, None, None)]


def test_what_a_function_raises_ends_the_work() -> None:
    def cancel(*_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        Within(Calling(cancel)).report(1, 2)


def test_a_part_asks_and_tells_nothing() -> None:
    told: list[tuple[object, ...]] = []
    Within(Calling(lambda *each: told.append(each))).report(1, 2, label="a part", partial="half", left=1.0)
    assert told == [(None, None, None)]


def test_silence_ends_nothing() -> None:
    SILENT.report(1, 2, label="a part")
