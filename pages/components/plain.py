"""Text from outside as text: Streamlit's markdown makes links, images, formulas, icons and emojis of what it is given.

Whatever a link, a file, a recipe, a layer's name or an error message says goes through `escape` before it is shown.
"""

import re
import unicodedata

LONGEST = 600

# A character that starts a construct of markdown is written with a backslash, which the parser takes as itself.
_SYNTAX = re.compile(r"[\\`*_{}\[\]#+|$<>&~]")
# Streamlit also looks through the text that parsing leaves: for addresses, `:emojis:`, `:material/icons:` and arrows
# such as "->". There a backslash is gone already, so these characters get an element of their own, without a style.
_PATTERNS = re.compile(r":(?!\s)|(?<=\S)@(?=\S)|(?<=www)\.|[-<>=~]{2,}", re.IGNORECASE)
# What starts a list, or underlines a heading, only as the first of a line.
_START = re.compile(r"^(\d{1,9})([.)])(?=\s|$)|^([-=])")


def escape(text: object, longest: int = LONGEST) -> str:
    """Markdown that Streamlit shows as this very text, on one line, of at most so many characters."""
    return _literal(cut(text, longest))


def cut(text: object, longest: int = LONGEST) -> str:
    """The text on one line, invisible characters written out, its middle left out where it is too long.

    A message starts with the rule and ends with the remedy: both stay.
    """
    # Whatever follows the kept parts is not looked at: a message may hold a file.
    text = str(text)
    if len(text) > 4 * longest:
        text = f"{text[: 2 * longest]}{text[-2 * longest :]}"
    words = re.sub(r"[ \t\r\n]+", " ", text).strip(" ")
    line = "".join(each if _visible(each) else each.encode("unicode_escape").decode() for each in words)
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 3]} … {line[-end:]}"


def _visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _literal(line: str) -> str:
    parts, place = [], 0
    for match in _PATTERNS.finditer(line):
        parts += [_SYNTAX.sub(r"\\\g<0>", line[place : match.start()])]
        parts += [f":color[&#{ord(character)};]" for character in match[0]]
        place = match.end()
    parts.append(_SYNTAX.sub(r"\\\g<0>", line[place:]))
    return _START.sub(lambda match: f"{match[1] or ''}\\{match[2] or match[3]}", "".join(parts))
