"""Single samples of data that is read in chunks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from paretoscope.base.batch import joined, length, parts
from paretoscope.data.data import Data, Part
from paretoscope.data.prepared import PreparedData

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch


def taken(data: Data, part: Part, places: Sequence[int]) -> "Batch":
    """The samples of these numbers, in their order, which are numbers of samples of the part.

    Data of the library is decoded for these alone; other data lies in memory, and is walked through.
    """
    if isinstance(data, PreparedData):
        return data.at(part, places)
    import torch

    wanted, found, start = sorted(set(places)), {}, 0
    for chunk in data.samples(part):
        end = start + length(chunk)
        for place in wanted:
            if start <= place < end:
                found[place] = tuple(each[place - start] for each in parts(chunk))
        start = end
        if start > wanted[-1]:
            break
    return joined(tuple(torch.stack(each) for each in zip(*(found[place] for place in places), strict=True)))
