"""Tasks: how the answers of networks are judged, each in a file of its own."""

from paretoscope.tasks import agreement as _agreement  # noqa: F401  (registers the task)
from paretoscope.tasks import classification as _classification  # noqa: F401  (registers the task)
from paretoscope.tasks.task import Answers, BaselineFigures, Comparison, Figures, Flip, Flips, Task, tasks
from paretoscope.tasks.words import Words

__all__ = ["Answers", "BaselineFigures", "Comparison", "Figures", "Flip", "Flips", "Task", "Words", "tasks"]
