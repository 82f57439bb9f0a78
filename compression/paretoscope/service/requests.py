"""A request: the name of a study with its arguments, as plain data that another process can carry out."""

import json
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import Progress
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind

# The most bytes of a request's JSON: a recipe with overrides for every layer has some tens of kilobytes.
MOST_BYTES = 1 << 22


class RequestError(CompressionError):
    """What is no request of this version."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. arguments: of the study of that kind, in its order; the last may be left out where `run` has a
    default.
    """

    kind: StudyKind
    arguments: tuple[Any, ...]

    def run(self, bench: Knowledge, progress: Progress) -> Any:
        """Carry it out here and now; its result. Raises CompressionError."""
        return bench.run(self.kind, progress, *self.arguments)

    def to_json(self) -> str:
        """One line of JSON."""
        written = zip(STUDIES[self.kind].arguments.items(), self.arguments, strict=False)
        return json.dumps(
            {"kind": self.kind, "arguments": {name: each.write(value) for (name, each), value in written}}
        )

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """What `to_json` wrote; raises RequestError for anything else."""
        try:
            if len(text) > MOST_BYTES:
                raise ValueError(f"it has {len(text):,} characters of at most {MOST_BYTES:,}")
            data = json.loads(text)
            kind, given = StudyKind(data["kind"]), data["arguments"]
            known = STUDIES[kind].arguments
            if list(given) != list(known)[: len(given)]:
                raise ValueError(f"its arguments are {', '.join(given)}, those of {kind} {', '.join(known)}")
            return cls(kind, tuple(known[name].read(value) for name, value in given.items()))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, CompressionError) as error:
            raise RequestError(
                f"a request must be the JSON of a kind of study with its arguments; {str(error)[:300]}. "
                "Write it by Request.to_json of this version."
            ) from None
