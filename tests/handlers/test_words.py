"""Numbers and names as the pages write them, and that notebooks and errors write money the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_ai_gateway.handlers.pages import STATIC
from jupyterhub_ai_gateway.vocabulary import money_text

NODE = shutil.which("node")
ASK = """
globalThis.document = { querySelector: () => null };
globalThis.location = { origin: "https://hub.example.org" };
const words = await import(%s);
const [name, values] = JSON.parse(process.argv[1]);
console.log(JSON.stringify(values.map((value) => words[name](value))));
"""

MONEY = [
    (None, "unknown"),
    (0, "$0.00"),
    (1, "$1.00"),
    (1234.5, "$1,234.50"),
    (0.576, "$0.58"),
    (0.6372, "$0.64"),
    (0.01, "$0.01"),
    (0.0099499, "$0.0099"),
    (0.00995, "$0.01"),
    (0.0252, "$0.03"),
    (0.001, "$0.0010"),
    (0.0036, "$0.0036"),
    (0.000167, "$0.00017"),
    (0.0000099, "$0.0000099"),
    (0.000001, "$0.0000010"),
    (0.000000001, "<$0.000001"),
    (-5, "-$5.00"),
    (-0.0005, "-$0.00050"),
    (999999.999, "$1,000,000.00"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what a function of the pages makes of values."""
    if NODE is None:
        pytest.skip("needs node")
    copy = Path(shutil.copy(STATIC / "parts.js", tmp_path_factory.mktemp("js") / "parts.mjs"))

    def ask(name: str, values: list[Any]) -> list[str]:
        code = ASK % json.dumps(copy.as_uri())
        given = json.dumps([name, values])
        told: list[str] = json.loads(
            subprocess.check_output([NODE or "", "--input-type=module", "-e", code, given], text=True)
        )
        return told

    return ask


def test_money_is_cents_and_below_a_cent_two_digits(written: Any) -> None:
    texts = [text for _, text in MONEY]
    assert written("money", [value for value, _ in MONEY]) == texts
    amounts = [None if value is None else Decimal(str(value)) for value, _ in MONEY]
    assert [money_text(value) for value in amounts] == texts


def test_a_price_is_written_whole(written: Any) -> None:
    assert written("price", [0.15, 0.075, 15, 1000, 0.00125]) == [
        "$0.15",
        "$0.075",
        "$15.00",
        "$1,000.00",
        "$0.00125",
    ]


def test_durations_have_a_unit(written: Any) -> None:
    values = [None, 0, 999.4, 1000, 59_949, 61_000]
    assert written("duration", values) == ["unknown", "0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 1 s"]


def test_users_are_named_without_their_kind(written: Any) -> None:
    assert written("who", ["user:alice", "service:bot", "group:ai"]) == ["alice", "service:bot", "group:ai"]
