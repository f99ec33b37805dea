"""The code blocks of the documentation, each by a name that a person finds: page and first line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SHELL = "shell"
"""The language of an indented block."""
_NOT_CODE = ("toctree", "screenshot", "literalinclude", "parsed-literal")
"""What MyST makes of a block whose language stands in braces, and is no code."""


@dataclass(frozen=True)
class Block:
    """One block. `name` is unique: from the second on, equal ones of a page have a number."""

    page: str
    language: str
    text: str
    name: str


@dataclass(frozen=True)
class Page:
    """A page, by its path below `docs`, or README.md and its like."""

    path: str
    blocks: tuple[Block, ...]

    def block(self, language: str, beginning: str) -> str:
        """Return the text of the one block of the language that begins so."""
        (found,) = [
            each.text
            for each in self.blocks
            if each.language == language and each.text.lstrip().startswith(beginning)
        ]
        return found

    def all(self, *languages: str) -> list[Block]:
        return [each for each in self.blocks if each.language in languages]


def page(path: str) -> Page:
    return PAGES[path]


def _read() -> Mapping[str, Page]:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    files += sorted((ROOT / "docs").rglob("*.md"))
    return {
        path: Page(path, tuple(_blocks(path, file.read_text()))) for file in files for path in [_path(file)]
    }


def _path(file: Path) -> str:
    docs = ROOT / "docs"
    return str(file.relative_to(docs) if docs in file.parents else file.relative_to(ROOT))


def _blocks(path: str, text: str) -> list[Block]:
    found: list[Block] = []
    names: Counter[str] = Counter()
    for token in MarkdownIt("commonmark").parse(text):
        if token.type not in ("fence", "code_block"):
            continue
        language = SHELL if token.type == "code_block" else _language(token.info.split())
        if language in _NOT_CODE:
            continue
        first = token.content.strip().splitlines()[0].strip()
        names[first] += 1
        number = f" ({names[first]})" if names[first] > 1 else ""
        found.append(Block(path, language, token.content, f"{path}: {first}{number}"))
    return found


def _language(words: list[str]) -> str:
    """Return what a fence says: `yaml`, or the word after `{code-block}`."""
    if len(words) == 2 and words[0] == "{code-block}":
        return words[1]
    return words[0].strip("{}") if words else ""


PAGES: Mapping[str, Page] = _read()
BLOCKS: Mapping[str, Block] = {block.name: block for each in PAGES.values() for block in each.blocks}
