"""Every row of what the replaced systems do is answered for, once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
ROW = re.compile(r"^\| ([A-Z]+)-(\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "letter", "last"),
    [("compatibility-node.md", "N", 16), ("compatibility-openai-gateway.md", "L", 15)],
)
def test_each_row_is_there_once_with_an_answer(page: str, letter: str, last: int) -> None:
    text = (REFERENCE / page).read_text()
    rows = ROW.findall(text)
    assert [(kind, int(number)) for kind, number, _, _ in rows] == [
        (letter, number) for number in range(1, last + 1)
    ]
    assert all(len(answer.strip()) > 3 for *_, answer in rows)
    assert text.count(f"| {letter}-") == last
