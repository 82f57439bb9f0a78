"""Parts of messages: shortened values, lists, suggestions for unknown names."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Most characters of a name of a layer or block, or of a pattern; most names in a recipe; chosen by hand; no benchmark.
LONGEST_NAME, MOST_NAMES = 200, 256


def shown(value: object) -> str:
    """A value for a message: short, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to print"
    return text if len(text) <= 60 else f"{text[:57]}..."


def reason(error: BaseException, most: int = 160) -> str:
    """What another library's error says, for a message: its first line, printable and short; else its type."""
    lines = str(error).strip().splitlines()
    line = printable(lines[0].strip().rstrip(".")) if lines else type(error).__name__
    return line if len(line) <= most else f"{line[: most - 3]}..."


def unpickled(error: BaseException) -> str:
    """Why PyTorch read no tensors. Its own text advises to execute what is in the file, and is left out."""
    needed = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"this one needs {needed[1][:100]}" if needed else "this one is damaged, or was not written by torch.save"


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names for a message: the first few, and how many more there are."""
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def printable(text: str) -> str:
    """Names from outside on one line of a terminal: characters that would move its cursor or colour it are escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def nearest(name: object, known: Iterable[str], most: int = 3) -> str:
    """Which of the known names may have been meant, for a message: " Did you mean fc1?", or nothing."""
    if not isinstance(name, str):
        return ""
    found = get_close_matches(name[:LONGEST_NAME], [each[:LONGEST_NAME] for each in known], most, 0.5)
    return f" Did you mean {' or '.join(found)}?" if found else ""
