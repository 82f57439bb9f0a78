"""What is asked for when a network is added or read in another way, as plain data that a job carries."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from paretoscope.base import library


@dataclass(frozen=True, slots=True)
class Addition:
    """A network to be added, as `paretoscope.service.adding.open_candidate` takes it.

    inputs: shapes of one sample, by the names of inputs. data, train: "" for none. target, task: "" for what the data
    say. preprocess: a preset's name, or settings as JSON; "" for what the source suggests. replace: whether it may take
    the place of another network of that name. uploaded, data_uploaded, train_uploaded: whether the source, or that of
    the data, is a copy that goes, of which the name of the file alone is told.
    """

    name: str
    source: str
    title: str = ""
    weights: str = ""
    inputs: tuple[tuple[str, tuple[int, ...]], ...] = field(default=())
    data: str = ""
    train: str = ""
    target: str = ""
    task: str = ""
    preprocess: str = ""
    replace: bool = False
    uploaded: bool = False
    data_uploaded: bool = False
    train_uploaded: bool = False

    def settings(self) -> str | dict[str, Any] | None:
        """The preprocessing: a preset's name, settings, or None; raises ValueError for what is no JSON."""
        text = self.preprocess.strip()
        if not text.startswith("{"):
            return text or None
        found: dict[str, Any] = json.loads(text)
        return found

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Addition":
        """What `to_dict` gave; TypeError or ValueError for anything else."""
        inputs = tuple((str(name), tuple(map(int, shape))) for name, shape in data["inputs"])
        return cls(**{**data, "inputs": inputs})


def library_mb() -> float:
    """Megabytes of the user's library on the disk."""
    return sum(each.stat().st_size for each in library.folder().rglob("*") if each.is_file()) / 1e6
