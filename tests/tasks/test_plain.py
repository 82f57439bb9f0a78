"""Figures in plain text, of classification and of a task that counts nothing."""

from dataclasses import dataclass, replace

import pytest
from paretoscope.tasks import tasks
from paretoscope.tasks.classification import Classification
from paretoscope.tasks.plain import counted, figure, judged_by, sentence

WORDS = Classification.words


@dataclass(frozen=True)
class Share:
    correct: int


@pytest.mark.parametrize(
    ("words", "value", "text"),
    [
        (WORDS, 0.98871, "98.87%"),
        (WORDS, 1.0, "100.00%"),
        (replace(WORDS, factor=1, unit="dB"), 31.456, "31.46 dB"),
        (replace(WORDS, factor=1, unit=""), 0.731, "0.73"),
    ],
)
def test_a_figure_has_its_unit(words, value, text):
    assert figure(words, value) == text


def test_what_was_counted_is_told_where_something_was():
    assert counted(Share(788), 797) == "788 of 797"
    assert counted(object(), 797) == "797"


def test_the_test_in_a_word():
    assert judged_by(WORDS) == "McNemar"
    assert judged_by(replace(WORDS, test="paired t-test")) == "paired t-test"


@pytest.mark.parametrize("kind", tasks, ids=tasks.names())
def test_every_task_has_words_for_a_terminal(kind):
    assert figure(kind.words, 0.5) and judged_by(kind.words)
    assert sentence(kind.words.chance)[0].isupper() and sentence("") == ""
