"""The task judges a network, and its words are those of tables and figures."""

from dataclasses import replace

import paretoscope
from paretoscope.cli.summary import summary
from paretoscope.figures import explorer
from paretoscope.measure.board import Board, Timed
from paretoscope.measure.record import Record
from paretoscope.search.budget import Budget
from paretoscope.tasks import tasks


def test_it_judges_and_names() -> None:
    zoo = paretoscope.open_network("lenet-300-100")
    sure = replace(zoo, task="sure")
    small = paretoscope.compress(sure, paretoscope.Recipe.of(sparsity=0.9))
    record, plain = paretoscope.evaluate(small, sure), paretoscope.evaluate(small, zoo)
    assert record.task == "sure" and record.figures.value < plain.figures.value
    assert record.figures.harm == plain.figures.harm
    assert Record.from_dict(record.to_dict()) == record

    words = tasks.get("sure").words
    assert "sure share " in summary(record) and "accuracy" not in summary(record)
    scene = explorer.gather(
        Board(words, [record]),
        Timed((None,), (0,)),
        None,
        of="sure",
        setting="batch",
        baseline=record.baseline,
        samples=record.figures.n,
        marks=explorer.Marks(),
        budget=Budget(),
    )
    assert "Sure and right (%)" in scene.data
