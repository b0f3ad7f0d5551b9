"""The documentation's pages, and the Python in them: blocks that readers see, and checks in HTML comments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: ```python … ```, or <!-- test … -->: a check of the block before it.
_CODE = re.compile(r"^```python\n(?P<block>.*?)^```$|^<!-- test\n(?P<check>.*?)^-->$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```.*?^```$|^<!--.*?-->$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """Python on a page; `line` is the page's line on which it begins."""

    line: int
    code: str
    is_check: bool


def name(page: Path) -> str:
    """The page's path below the project's root."""
    return page.relative_to(ROOT).as_posix()


def snippets(page: Path) -> list[Snippet]:
    """All Python of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _CODE.finditer(text):
        kind = "block" if match["block"] is not None else "check"
        found.append(Snippet(text.count("\n", 0, match.start(kind)) + 1, match[kind], kind == "check"))
    return found


def prose(page: Path) -> str:
    """A page without its code blocks and comments."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The fragments that headings make, as GitHub makes them."""
    made = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        made.add(plain.strip().replace(" ", "-"))
    return made
