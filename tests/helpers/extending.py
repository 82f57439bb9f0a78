"""The changes of docs/extending.md, and how they are made: `import extending; extending.changes()`."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@dataclass(frozen=True)
class Block:
    """Code for a file. path: from the root of the checkout. kind: "python" for the whole of it, "diff" for lines."""

    path: str
    kind: str
    code: str

    def write(self, root: Path) -> None:
        """Make the file, or change it; AssertionError where it is there already, or does not have the lines."""
        target = root / self.path
        if self.kind == "python":
            assert not target.exists(), f"{self.path} is there already"
            target.write_text(self.code)
            return
        text = target.read_text()
        for hunk in re.split(r"^@@\n", self.code, flags=re.MULTILINE):
            lines = hunk.splitlines()
            before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in " -")
            after = "".join(f"{line[1:]}\n" for line in lines if line[:1] in " +")
            assert text.count(before) == 1, f"{self.path} must have once what docs/extending.md changes:\n{before}"
            text = text.replace(before, after)
        target.write_text(text)


def changes() -> dict[str, list[Block]]:
    """The blocks of each change, by its heading without the article: "network_source" for "A network source"."""
    found = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        name = "_".join(section.splitlines()[0].split()[1:])
        blocks = re.findall(r"^`([^`\n]+)`\n\n```(python|diff)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        assert len(blocks) == section.count("```") // 2, f"a block of {name} has no file"
        found[name] = [Block(*block) for block in blocks]
    return found
