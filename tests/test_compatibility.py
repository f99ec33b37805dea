"""The pages of compatibility: each thing of another system is there once, with what becomes of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from jupyterhub_ai_gateway.config import fold
from jupyterhub_ai_gateway.providers.registry import Providers

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "reference").glob("compatibility-*.md"))
ROW = re.compile(r"^\| ([A-Z]+-\d+) \| (.+?) \| (.*?) \| (.*?) ?\|$", re.MULTILINE)
ANY_ID = re.compile(r"^\| ([A-Z]+-\d+)\b", re.MULTILINE)


def ids(letters: str, *spans: tuple[int, int]) -> set[str]:
    return {f"{letters}-{number}" for first, last in spans for number in range(first, last + 1)}


EVERYTHING = {
    "compatibility-mlflow.md": ids(
        "M",
        *((1, 18), (20, 51), (60, 84), (90, 96), (100, 104), (110, 113), (120, 137), (140, 147)),
        (150, 156),
    ),
    "compatibility-first.md": ids(
        "F",
        *(
            (1, 20),
            (25, 27),
            (30, 38),
            (40, 48),
            (50, 54),
            (60, 68),
            (70, 77),
            (80, 87),
            (90, 92),
            (95, 102),
        ),
    ),
    "compatibility-original.md": ids("J", (1, 11), (15, 19), (25, 31)) | ids("JW", (1, 20)),
    "compatibility-node.md": ids("N", (1, 16)),
    "compatibility-openai-gateway.md": ids("L", (1, 15)),
}
"""What each page must have; what else it has are rows about several systems (T)."""


def rows(path: Path) -> list[tuple[str, ...]]:
    return ROW.findall(path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_row_says_what_becomes_of_it(path: Path) -> None:
    text, found = path.read_text(), rows(path)
    assert [row[0] for row in found] == ANY_ID.findall(text), "a row has not four columns"
    assert {row[2] for row in found} <= {"yes", "other", "no"}
    assert [row[0] for row in found if row[2] != "yes" and not row[3]] == []


@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_is_left_out(name: str) -> None:
    found = {row[0] for row in rows(ROOT / "docs" / "reference" / name)}
    assert EVERYTHING[name] - found == set()
    assert {each for each in found - EVERYTHING[name] if not each.startswith("T-")} == set()


def test_nothing_is_there_twice() -> None:
    counts = Counter(row[0] for path in PAGES for row in rows(path))
    assert [each for each, count in counts.items() if count > 1] == []


def test_every_page_is_named_on_the_first_one() -> None:
    text = (ROOT / "docs" / "reference" / "compatibility.md").read_text()
    assert [path.name for path in PAGES if f"({path.name})" not in text] == []


def test_every_difference_from_the_original_has_a_test() -> None:
    text = (ROOT / "tests" / "test_original.py").read_text()
    for number in range(1, 21):
        assert f"def test_jw_{number}_" in text, number


def test_providers_are_there_or_not_as_the_page_says() -> None:
    known = {fold(name) for name, each in Providers.installed().schemas.items() if not each.retired}
    for number, names, here, _ in rows(ROOT / "docs" / "reference" / "compatibility-mlflow.md"):
        if 63 <= int(number.partition("-")[2]) <= 76 and number.startswith("M-"):
            named = {fold(name) for name in re.findall(r"`([a-z0-9_\-]+)`", names)}
            assert named <= known if here != "no" else not named & known, number
